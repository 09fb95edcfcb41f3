//! `/explain?from=&to=`: what the rules do with a packet, and why.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use askama::Template;
use hyper::StatusCode;
use rulegen_compiler::explain::{
    About, End, Explanation, Outcome, PassedRule, Probability, Remark, Sender, by_ruleset, by_table,
};
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_model::{IpFamily, ObjectKey, ProxyMode, ServicePort, Snapshot, Store};
use rulegen_ruleset::nftables::Name;
use rulegen_ruleset::{Origin, Packet, Protocol};
use serde::Serialize;

use super::Status;
use super::frame::Frame;
use super::query::{Query, href};
use super::services::family;

/// As data it is what `rulegen explain -o json` prints, or why there is no such.
#[derive(Template, Serialize)]
#[template(path = "status/explain.html")]
pub(super) struct ExplainPage {
    #[serde(skip)]
    frame: Frame,
    #[serde(skip)]
    from: String,
    #[serde(skip)]
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    explanation: Option<Explanation>,
}

/// What is asked: the packet, but for where it comes in.
#[derive(Debug, PartialEq, Eq)]
struct ExplainQuery {
    from: IpAddr,
    to: Destination,
}

#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Address(SocketAddr, Protocol),
    /// A Service's cluster IP, by the name or number of its port.
    Service(ObjectKey, Option<String>),
}

/// Where packets from elsewhere come in. It matters only where pods are told by their interfaces.
const INTERFACE: &str = "eth0";

impl ExplainPage {
    pub(super) fn of(status: &Status, query: &Query) -> Self {
        let frame = status.frame("/explain", "Explain");
        let (from, to) = (query.from.clone(), query.to.clone());
        let is_asked = !from.is_empty();
        let answer = is_asked.then(|| {
            let query = ExplainQuery::parse(&from, &to)?;
            explain(&status.known.store.read(), &query)
        });
        let (explanation, error) = match answer {
            None => (None, None),
            Some(Ok(explanation)) => (Some(explanation), None),
            Some(Err(error)) => (None, Some(error)),
        };
        Self { frame, from, to, error, explanation }
    }

    pub(super) fn status(&self) -> StatusCode {
        if self.error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK }
    }

    fn json_href(&self) -> String {
        href("/explain", &[("from", &self.from), ("to", &self.to), ("format", "json")])
    }

    fn sender(&self, of: &Sender) -> String {
        match of {
            Sender::Interface(name) => format!("comes in through {name}"),
            Sender::ThisNode => "sent by this node".to_owned(),
        }
    }

    fn label(&self, of: &Remark) -> &'static str {
        match of.about {
            About::Policy => "Policy",
            About::Choice => "Choice",
            About::Source => "Source",
            About::NoEndpoints | About::Refusal => "Refused",
            About::NoService => "Passes",
        }
    }

    fn chance(&self, of: &Probability) -> String {
        match of.one_in {
            Some(1) => "always".to_owned(),
            Some(n) => format!("1/{n}"),
            None => format!("{:.6} %", of.value * 100.0),
        }
    }

    fn is_refusal(&self, of: &End) -> bool {
        matches!(of.outcome, Outcome::Rejected | Outcome::Dropped)
    }

    fn end(&self, of: &End) -> String {
        match of.outcome {
            Outcome::Endpoint { endpoint, masqueraded: true } => {
                format!("{endpoint}, which sees the node as the client")
            }
            Outcome::Endpoint { endpoint, masqueraded: false } => endpoint.to_string(),
            Outcome::Passes { masqueraded: true } => "goes on as it is, masqueraded".to_owned(),
            Outcome::Passes { masqueraded: false } => "goes on as it is".to_owned(),
            Outcome::Rejected => "rejected: the client is told port unreachable".to_owned(),
            Outcome::Dropped => "dropped: the client is not told".to_owned(),
        }
    }

    /// The rules that it passes, part by part, each with a heading.
    fn rules<'a>(&self, of: &'a Explanation) -> Vec<(String, &'a [PassedRule])> {
        let first = ("Rules that it passes first".to_owned(), of.rules.as_slice());
        let ends = of.ends.iter().take(ENDS);
        let ends = ends.map(|end| (format!("To {}", self.end(end)), end.rules.as_slice()));
        let behind = ("Then, in any case".to_owned(), of.behind.as_slice());
        let all = std::iter::once(first).chain(ends).chain(std::iter::once(behind));
        all.filter(|(_, rules)| !rules.is_empty()).collect()
    }
}

/// The rules of so many ends are shown; the data has all.
const ENDS: usize = 8;

impl ExplainQuery {
    fn parse(from: &str, to: &str) -> Result<Self, String> {
        let wrong = |_| format!("{from:?} is no IP address: the packet's source is needed");
        Ok(Self { from: from.parse().map_err(wrong)?, to: Destination::parse(to)? })
    }
}

impl Destination {
    fn parse(text: &str) -> Result<Self, String> {
        let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if let Ok(address) = address.parse() {
            let known = Protocol::parse(&protocol.to_lowercase());
            let known = known.ok_or_else(|| format!("{protocol:?} is none of tcp, udp, sctp"))?;
            return Ok(Destination::Address(address, known));
        }
        let wrong = || format!("{text:?} is no IP:PORT, IP:PORT/udp or NAMESPACE/NAME:PORT");
        let (namespace, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (rest, None),
        };
        Ok(Destination::Service(ObjectKey::new(namespace, name), port))
    }

    fn found(&self, store: &Store, wanted: IpFamily) -> Result<(SocketAddr, Protocol), String> {
        let (key, name) = match self {
            Destination::Address(address, protocol) => return Ok((*address, *protocol)),
            Destination::Service(key, port) => (key, port.as_deref()),
        };
        let is_meant = |port: &&ServicePort| {
            let is_named = |name: &str| *port.name.port == *name || port.port.to_string() == *name;
            family(port) == wanted && name.is_none_or(is_named)
        };
        let mut meant = store.service(key).unwrap_or_default().iter().filter(is_meant);
        let port = meant.next().ok_or_else(|| {
            let (namespace, name, of) = (&key.namespace, &key.name, wanted.api_name());
            format!("{namespace}/{name} has no such port with a cluster IP of {of}")
        })?;
        let protocol = Protocol::parse(port.name.protocol.lower_case()).unwrap_or(Protocol::Tcp);
        Ok((SocketAddr::new(port.cluster_ip, port.port), protocol))
    }
}

/// Follows the packet through the rules as they shall be. Of all Services only those are compiled
/// that have its destination: others have no say.
fn explain(store: &Store, query: &ExplainQuery) -> Result<Explanation, String> {
    let of_family = IpFamily::of(query.from);
    let (destination, protocol) = query.to.found(store, of_family)?;
    if IpFamily::of(destination.ip()) != of_family {
        return Err("the two addresses are of different families".to_owned());
    }
    let snapshot = concerned(store, destination, of_family);
    let plan = plan(&snapshot, store.config(), of_family);
    let local = &snapshot.node.addresses(of_family).local;
    let is_own = local.contains(&query.from) || query.from.is_loopback();
    let origin = if is_own { Origin::Host } else { Origin::Interface(INTERFACE.to_owned()) };
    let packet = Packet { origin, source: query.from, destination, protocol };
    Ok(match store.config().mode {
        ProxyMode::Iptables => by_ruleset(&iptables::ruleset(&plan), local, &packet, Some(&plan)),
        ProxyMode::Nftables => {
            let table = nftables::table(&plan, &Name::from("rulegen"));
            by_table(&table, local, &packet, Some(&plan))
        }
    })
}

fn concerned(store: &Store, to: SocketAddr, wanted: IpFamily) -> Snapshot {
    let has = |port: &&ServicePort| {
        let addresses = port.external_ips.iter().chain(&port.load_balancer_ips);
        let mut addresses = std::iter::once(&port.cluster_ip).chain(addresses);
        let node_port = port.node_port.map(NonZeroU16::get);
        family(port) == wanted
            && (addresses.any(|ip| *ip == to.ip()) || node_port == Some(to.port()))
    };
    let mut ports: Vec<ServicePort> = store.service_ports().filter(has).cloned().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let (ipv4, ipv6) = match wanted {
        IpFamily::Ipv4 => (ports, Vec::new()),
        IpFamily::Ipv6 => (Vec::new(), ports),
    };
    let service_cidrs = store.service_cidrs(wanted);
    Snapshot { node: store.node().clone(), service_cidrs, ipv4, ipv6 }
}
