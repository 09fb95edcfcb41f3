//! Finds stale conntrack flows: flows to an endpoint that the rules no longer use.
//!
//! ```text
//! ServicePorts, History, Context ──▶ StaleFlowFilter ──is_stale(Flow)──▶ delete it or leave it
//! ```
//!
//! Rules see only the first packet of a flow; the others follow it as long as the flow exists. A
//! client that keeps its port, such as a DNS resolver, would send to a deleted pod forever. TCP
//! recovers by itself after a timeout.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rulegen_model::ServicePort;
use rulegen_net::{Frontend, IpFamily, Protocol};
use rulegen_ruleset::Flow;

use crate::NodePortsAt;

/// What decides in addition to Services whether a flow is stale. All of one IP family.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The addresses at which node ports are open.
    pub node_ports_at: &'a NodePortsAt,
    /// The node's own addresses, used if node ports are open at all local addresses.
    pub local_addresses: &'a [IpAddr],
    /// Networks of cluster IPs.
    pub service_cidrs: &'a [IpNet],
    /// Whether TCP flows to removed endpoints are stale too (`rulegen.conntrackTCPResetRemoved` of
    /// rulegen's configuration).
    pub resets_removed_tcp: bool,
}

/// Knowledge about removed frontends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// These frontends were removed since the last successful cleanup. They may exist again.
    Vanished(HashSet<Frontend>),
    /// Nothing, as after a restart. A cluster IP without a Service is then treated as removed. That
    /// includes the Services of another proxy; their flows are created again by the next packet.
    Unknown,
}

/// Finds stale flows of one IP family, in constant time per flow.
#[derive(Debug, Clone)]
pub struct StaleFlowFilter {
    /// Indexes into `backends`; several if Services share an external IP.
    frontends: HashMap<Frontend, Vec<usize>>,
    /// Endpoints that flows of each service port may use.
    backends: Vec<HashSet<SocketAddr>>,
    past: History,
    service_cidrs: Vec<IpNet>,
    node_ports_at: NodePortsAt,
    /// The node's own addresses.
    local_addresses: HashSet<IpAddr>,
}

/// All frontends of a service port, possibly with duplicates.
pub fn frontends(port: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    port.frontends().map(|(frontend, _)| frontend)
}

/// Whether flows of a service port can be stale: UDP and SCTP flows always, TCP flows only if
/// requested.
pub fn concerns(port: &ServicePort, resets_removed_tcp: bool) -> bool {
    resets_removed_tcp || port.name.protocol != Protocol::Tcp
}

impl StaleFlowFilter {
    /// A filter for these service ports of one family, as the rules in the kernel have them. After
    /// a restart, pass all of them. Otherwise those whose flows may have become stale are enough,
    /// together with all service ports that share one of their frontends.
    pub fn new<'a>(
        ports: impl IntoIterator<Item = &'a ServicePort>,
        past: History,
        context: &Context<'_>,
    ) -> Self {
        let mut filter = Self {
            frontends: HashMap::new(),
            backends: Vec::new(),
            past,
            service_cidrs: context.service_cidrs.to_vec(),
            node_ports_at: context.node_ports_at.clone(),
            local_addresses: context.local_addresses.iter().copied().collect(),
        };
        for port in ports.into_iter().filter(|port| concerns(port, context.resets_removed_tcp)) {
            for frontend in frontends(port) {
                filter.frontends.entry(frontend).or_default().push(filter.backends.len());
            }
            filter.backends.push(backends(port));
        }
        filter
    }

    /// The protocols that stale flows can have. Flows of others need not be listed.
    pub fn protocols(&self) -> Vec<Protocol> {
        let is_concerned = |protocol: &Protocol| {
            let is_of = |frontend: &Frontend| frontend.protocol == *protocol;
            let may_have_gone = || match &self.past {
                History::Vanished(vanished) => vanished.iter().any(is_of),
                History::Unknown => !self.service_cidrs.is_empty(),
            };
            self.frontends.keys().any(is_of) || (*protocol != Protocol::Tcp && may_have_gone())
        };
        Protocol::ALL.into_iter().filter(is_concerned).collect()
    }

    /// Whether a flow goes to an endpoint to which the rules would not send a new flow, and should
    /// be deleted.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let found = self.reached(flow).find_map(|frontend| self.frontends.get(&frontend));
        match found {
            Some(ports) => self.is_astray(flow, ports),
            // The pods of a deleted Service may still exist, and without a frontend a TCP flow
            // cannot go elsewhere.
            None => flow.protocol != Protocol::Tcp && flow.is_translated() && self.is_gone(flow),
        }
    }

    /// The frontends that a flow may be for, in the order of the rules.
    fn reached(&self, flow: &Flow) -> impl Iterator<Item = Frontend> + use<> {
        let (ip, port) = (flow.destination.ip(), flow.destination.port());
        let address = Frontend::at_ip(ip, flow.protocol, port);
        let node_port = Frontend::node_port(IpFamily::of(ip), flow.protocol, port);
        let is_local = |ip| self.local_addresses.contains(&ip);
        let is_open = self.node_ports_at.is_open_at(ip, is_local);
        [Some(address), is_open.then_some(node_port)].into_iter().flatten()
    }

    fn is_astray(&self, flow: &Flow, ports: &[usize]) -> bool {
        let mut backends = ports.iter().filter_map(|port| self.backends.get(*port));
        let leads_on = backends.clone().any(|backends| backends.contains(&flow.reply_source));
        // Without an endpoint, rules would reject a new flow, and an old one does no harm.
        let has_others = backends.any(|backends| !backends.is_empty());
        !leads_on && (flow.is_translated() || (has_others && was_missed(flow)))
    }

    fn is_gone(&self, flow: &Flow) -> bool {
        match &self.past {
            History::Vanished(vanished) => {
                self.reached(flow).any(|frontend| vanished.contains(&frontend))
            }
            History::Unknown => {
                self.service_cidrs.iter().any(|cidr| cidr.contains(&flow.destination.ip()))
            }
        }
    }
}

/// Whether an untranslated flow to a frontend is older than the rules that translate it. Zones
/// other than 0 belong to other programs, such as Open vSwitch, which see packets before or after
/// our rules.
fn was_missed(flow: &Flow) -> bool {
    flow.protocol != Protocol::Tcp && flow.zone == 0
}

/// Endpoints that existing flows may use, regardless of the traffic policy and topology for new
/// ones: all that would answer. A TCP flow to an endpoint that is not serving is kept too, because
/// the endpoint may still be sending its last answer.
fn backends(port: &ServicePort) -> HashSet<SocketAddr> {
    let is_tcp = port.name.protocol == Protocol::Tcp;
    let kept = port.endpoints.iter().filter(|it| is_tcp || it.ready || it.serving);
    kept.map(|endpoint| endpoint.address).collect()
}
