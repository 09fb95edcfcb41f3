//! Which flows conntrack should forget: those that go on where the rules no longer lead.
//!
//! ```text
//! ServicePorts, History, Context ──▶ StaleFlowFilter ──is_stale(Flow)──▶ delete it or leave it
//! ```
//!
//! Rules see only the first packet of a flow; the others go where it went as long as there are
//! any. A client that keeps its port, such as a DNS resolver, would so talk to a pod that is no
//! more for ever. TCP notices by itself, if late.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rulegen_model::ServicePort;
use rulegen_net::{Frontend, IpFamily, Protocol};
use rulegen_ruleset::Flow;

use crate::NodePortsAt;

/// What a judgement hangs on beside Services. All of one family.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// At which addresses node ports are open.
    pub node_ports_at: &'a NodePortsAt,
    /// The node's own addresses, which count where node ports are open at any of them.
    pub local_addresses: &'a [IpAddr],
    /// Networks that cluster IPs are taken from.
    pub service_cidrs: &'a [IpNet],
    /// Whether TCP flows to endpoints that were removed are stale too.
    pub resets_removed_tcp: bool,
}

/// What is known of the time before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// These frontends have vanished since flows were last cleaned with success. One that is
    /// there again does no harm here.
    Vanished(HashSet<Frontend>),
    /// Nothing, as after a restart. A cluster IP that no Service has is then taken for one that
    /// vanished. So is one of a Service that is left to another proxy, whose flows find their way
    /// again with the next packet.
    Unknown,
}

/// Judges flows of one family by what Services say now, each in constant time.
#[derive(Debug, Clone)]
pub struct StaleFlowFilter {
    /// Places in `backends`, several if Services share an external IP.
    frontends: HashMap<Frontend, Vec<usize>>,
    /// Where flows of each service port may go on to.
    backends: Vec<HashSet<SocketAddr>>,
    past: History,
    service_cidrs: Vec<IpNet>,
    node_ports_at: OpenAt,
}

/// All frontends of a service port, some perhaps twice.
pub fn frontends(port: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    port.frontends().map(|(frontend, _)| frontend)
}

/// Whether flows of a service port are ever stale: those of UDP and SCTP, of TCP only if asked.
pub fn concerns(port: &ServicePort, resets_removed_tcp: bool) -> bool {
    resets_removed_tcp || port.name.protocol != Protocol::Tcp
}

impl StaleFlowFilter {
    /// A judge who knows these service ports of one family, as the rules in the kernel know them.
    /// All should be given after a restart; else those whose flows may have become stale are
    /// enough, as long as each frontend of theirs comes with all service ports that share it.
    pub fn new<'a>(
        ports: impl IntoIterator<Item = &'a ServicePort>,
        past: History,
        context: &Context<'_>,
    ) -> Self {
        let mut judge = Self {
            frontends: HashMap::new(),
            backends: Vec::new(),
            past,
            service_cidrs: context.service_cidrs.to_vec(),
            node_ports_at: OpenAt::new(context),
        };
        for port in ports.into_iter().filter(|port| concerns(port, context.resets_removed_tcp)) {
            for frontend in frontends(port) {
                judge.frontends.entry(frontend).or_default().push(judge.backends.len());
            }
            judge.backends.push(backends(port));
        }
        judge
    }

    /// The protocols that stale flows may be of. Flows of others need not be listed.
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

    /// Whether a flow goes on where the rules would not lead a new one, and should be forgotten.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let found = self.reached(flow).find_map(|frontend| self.frontends.get(&frontend));
        match found {
            Some(ports) => self.is_astray(flow, ports),
            // The pods behind a Service that was deleted may be there still, and without a
            // frontend a TCP flow would find no other way.
            None => flow.protocol != Protocol::Tcp && flow.is_translated() && self.is_gone(flow),
        }
    }

    /// The frontends that a flow may be to, the one that rules look at first before the other.
    fn reached(&self, flow: &Flow) -> impl Iterator<Item = Frontend> + use<> {
        let (ip, port) = (flow.destination.ip(), flow.destination.port());
        let address = Frontend::at_ip(ip, flow.protocol, port);
        let node_port = Frontend::node_port(IpFamily::of(ip), flow.protocol, port);
        let is_open = self.node_ports_at.holds(ip);
        [Some(address), is_open.then_some(node_port)].into_iter().flatten()
    }

    fn is_astray(&self, flow: &Flow, ports: &[usize]) -> bool {
        let mut backends = ports.iter().filter_map(|port| self.backends.get(*port));
        let leads_on = backends.clone().any(|backends| backends.contains(&flow.reply_source));
        // As long as there is none, rules would refuse a new flow, and an old one does no harm.
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

/// Whether a flow to a frontend that was not translated came before the rules that would do so.
/// Zones but 0 are of others, such as Open vSwitch, who see packets before or after our rules.
fn was_missed(flow: &Flow) -> bool {
    flow.protocol != Protocol::Tcp && flow.zone == 0
}

/// Endpoints that flows may go on to, whatever traffic policy or topology say of new ones: all
/// that would answer. A TCP flow is left even to one that says it would not, for it may be in the
/// middle of its last answer.
fn backends(port: &ServicePort) -> HashSet<SocketAddr> {
    let is_tcp = port.name.protocol == Protocol::Tcp;
    let kept = port.endpoints.iter().filter(|it| is_tcp || it.ready || it.serving);
    kept.map(|endpoint| endpoint.address).collect()
}

/// Addresses at which node ports are open.
#[derive(Debug, Clone)]
struct OpenAt {
    addresses: HashSet<IpAddr>,
    /// Whether all loopback addresses are among them; if `None`, only those that are named.
    loopback: Option<bool>,
}

impl OpenAt {
    fn new(context: &Context<'_>) -> Self {
        let (addresses, loopback) = match context.node_ports_at {
            NodePortsAt::AnyLocal { loopback } => (context.local_addresses, Some(*loopback)),
            NodePortsAt::These(addresses) => (addresses.as_slice(), None),
        };
        Self { addresses: addresses.iter().copied().collect(), loopback }
    }

    fn holds(&self, address: IpAddr) -> bool {
        match self.loopback {
            Some(loopback) if address.is_loopback() => loopback,
            _ => self.addresses.contains(&address),
        }
    }
}
