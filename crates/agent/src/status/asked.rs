//! What is asked of `/explain`, and what of the store the answer hangs on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{Destination, Explanation, by_ruleset, by_table};
use rulegen_model::{ObjectKey, ServicePort, Snapshot, Store, Why};
use rulegen_net::{IpFamily, Protocol, ServicePortName};
use rulegen_ruleset::nftables::Name;
use rulegen_ruleset::{Origin, Packet};

use super::services::family;
use crate::configured_store::ConfiguredStore;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExplainQuery {
    from: IpAddr,
    /// Where the packet comes in, if it is from elsewhere.
    interface: String,
    to: Destination,
}

/// A packet, with a copy of what its explanation hangs on: to compile and follow rules takes too long
/// to keep the store for it, as one who waits to write it keeps all others waiting too.
pub(super) struct Asked {
    packet: Packet,
    /// Of all Services those that have a say.
    snapshot: Snapshot,
    config: ProxyConfig,
    /// What those of them lack that lack anything.
    shortages: Vec<(ServicePortName, Why)>,
}

/// Where packets from elsewhere come in, unless something else is said. It matters only where pods
/// are told by their interfaces.
const INTERFACE: &str = "eth0";

impl ExplainQuery {
    pub(super) fn parse(from: &str, interface: &str, to: &str) -> Result<Self, String> {
        let wrong = |_| format!("{from:?} is no IP address: the packet's source is needed");
        let from = from.parse().map_err(wrong)?;
        let interface = if interface.is_empty() { INTERFACE } else { interface }.to_owned();
        Ok(Self { from, interface, to: Destination::parse(to)? })
    }
}

/// The address that is meant.
fn found(
    destination: &Destination,
    store: &Store,
    wanted: IpFamily,
) -> Result<(SocketAddr, Protocol), String> {
    let of = match destination {
        Destination::Address(address, protocol) => return Ok((*address, *protocol)),
        Destination::Service(of) => of,
    };
    let is_meant = |port: &&&ServicePort| {
        let is_named = |name: &str| *port.name.port == *name || port.port.to_string() == *name;
        of.port.as_deref().is_none_or(is_named)
    };
    let all = store.service(&ObjectKey::new(&of.namespace, &of.name)).unwrap_or_default().iter();
    let all: Vec<&ServicePort> = all.filter(|port| family(port) == wanted).collect();
    let meant: Vec<&&ServicePort> = all.iter().filter(is_meant).collect();
    let [port] = meant.as_slice() else {
        let service = format!("Service {}/{}", of.namespace, of.name);
        return Err(none_or_several(&service, &all, meant.len(), wanted));
    };
    let protocol = port.name.protocol;
    Ok((SocketAddr::new(port.cluster_ip, port.port), protocol))
}

/// What to say where not exactly one port is meant, of all that the Service has.
fn none_or_several(service: &str, all: &[&ServicePort], meant: usize, wanted: IpFamily) -> String {
    let of = wanted.api_name();
    if all.is_empty() {
        return format!(
            "{service} has no such port with a cluster IP of {of}: it is not there, headless, of type ExternalName, or of the other family"
        );
    }
    let which = if meant == 0 { "has no such port" } else { "has several ports" };
    let there: Vec<String> = all.iter().map(|port| described(port)).collect();
    format!("{service} {which} with a cluster IP of {of}; it has {}", there.join(", "))
}

fn described(port: &ServicePort) -> String {
    let name = &port.name;
    let space = if name.port.is_empty() { "" } else { " " };
    format!("{}{space}{}/{}", name.port, port.port, name.protocol.name())
}

impl Asked {
    pub(super) fn of(store: &ConfiguredStore, query: &ExplainQuery) -> Result<Self, String> {
        let of_family = IpFamily::of(query.from);
        let (destination, protocol) = found(&query.to, store, of_family)?;
        if IpFamily::of(destination.ip()) != of_family {
            return Err("the two addresses are of different families".to_owned());
        }
        let snapshot = concerned(store, destination, of_family);
        let local = &snapshot.node.addresses(of_family).local;
        let is_own = local.contains(&query.from) || query.from.is_loopback();
        let origin = if is_own { Origin::Host } else { Origin::Interface(query.interface.clone()) };
        let packet = Packet { origin, source: query.from, destination, protocol };
        let ports = snapshot.service_ports(of_family).iter();
        let lacking =
            |name: &ServicePortName| Some((name.clone(), store.shortage(name, of_family)?));
        let shortages = ports.filter_map(|port| lacking(&port.name)).collect();
        Ok(Self { packet, snapshot, config: store.config().clone(), shortages })
    }

    /// What becomes of the packet by the rules as they shall be.
    pub(super) fn explained(&self) -> Explanation {
        let mut explanation = self.followed();
        // Objects tell more than rules of why there is no endpoint.
        let refusing = explanation.frontend.as_ref().map(|frontend| &frontend.service);
        let lacking = |(name, _): &&(ServicePortName, Why)| {
            refusing.is_some_and(|service| name.to_string() == *service)
        };
        if let Some((name, why)) = self.shortages.iter().find(lacking) {
            explanation.refused_because(why, name);
        }
        explanation
    }

    fn followed(&self) -> Explanation {
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

/// Services that have the packet's destination, be it as an endpoint: others have no say.
fn concerned(store: &Store, to: SocketAddr, wanted: IpFamily) -> Snapshot {
    let has = |port: &&ServicePort| {
        let addresses = port.external_ips.iter().chain(&port.load_balancer_ips);
        let mut addresses = std::iter::once(&port.cluster_ip).chain(addresses);
        let node_port = port.node_port.map(NonZeroU16::get);
        family(port) == wanted
            && (addresses.any(|ip| *ip == to.ip())
                || node_port == Some(to.port())
                || port.endpoints.iter().any(|endpoint| endpoint.address == to))
    };
    let mut ports: Vec<ServicePort> = store.service_ports().filter(has).cloned().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let (ipv4, ipv6) = match wanted {
        IpFamily::Ipv4 => (ports, Vec::new()),
        IpFamily::Ipv6 => (Vec::new(), ports),
    };
    let service_cidrs = store.service_cidrs(wanted);
    Snapshot { node: store.node().clone(), service_cidrs, ipv4, ipv6, too_large: BTreeMap::new() }
}
