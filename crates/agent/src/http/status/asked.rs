//! What is asked of `/explain`, and what of the store the answer hangs on.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use rulegen_compiler::explain::{Explanation, by_ruleset, by_table};
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_model::{IpFamily, ObjectKey, ProxyConfig, ProxyMode, ServicePort, Snapshot, Store};
use rulegen_ruleset::nftables::Name;
use rulegen_ruleset::{Origin, Packet, Protocol};

use super::services::family;

/// What is asked: the packet, but for where it comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExplainQuery {
    from: IpAddr,
    to: Destination,
}

#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Address(SocketAddr, Protocol),
    /// A Service's cluster IP, by the name or number of its port.
    Service(ObjectKey, Option<String>),
}

/// A packet, with a copy of what its explanation hangs on: to compile and follow rules takes too long
/// to keep the store for it, as one who waits to write it keeps all others waiting too.
pub(super) struct Asked {
    packet: Packet,
    /// Of all Services those that have a say.
    snapshot: Snapshot,
    config: ProxyConfig,
}

/// Where packets from elsewhere come in. It matters only where pods are told by their interfaces.
const INTERFACE: &str = "eth0";

impl ExplainQuery {
    pub(super) fn parse(from: &str, to: &str) -> Result<Self, String> {
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

impl Asked {
    pub(super) fn of(store: &Store, query: &ExplainQuery) -> Result<Self, String> {
        let of_family = IpFamily::of(query.from);
        let (destination, protocol) = query.to.found(store, of_family)?;
        if IpFamily::of(destination.ip()) != of_family {
            return Err("the two addresses are of different families".to_owned());
        }
        let snapshot = concerned(store, destination, of_family);
        let local = &snapshot.node.addresses(of_family).local;
        let is_own = local.contains(&query.from) || query.from.is_loopback();
        let origin = if is_own { Origin::Host } else { Origin::Interface(INTERFACE.to_owned()) };
        let packet = Packet { origin, source: query.from, destination, protocol };
        Ok(Self { packet, snapshot, config: store.config().clone() })
    }

    /// Follows the packet through the rules as they shall be.
    pub(super) fn explained(&self) -> Explanation {
        let of_family = IpFamily::of(self.packet.source);
        let local = &self.snapshot.node.addresses(of_family).local;
        let plan = plan(&self.snapshot, &self.config, of_family);
        match self.config.mode {
            ProxyMode::Iptables => {
                by_ruleset(&iptables::ruleset(&plan), local, &self.packet, Some(&plan))
            }
            ProxyMode::Nftables => {
                let table = nftables::table(&plan, &Name::from("rulegen"));
                by_table(&table, local, &self.packet, Some(&plan))
            }
        }
    }
}

/// Services that have the packet's destination: others have no say.
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
