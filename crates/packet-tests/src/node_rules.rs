//! The rules of one node in one mode, and what they do with packets.

use std::cell::OnceCell;
use std::net::IpAddr;

use rulegen::types::Rules;
use rulegen::{iptables_rules, nftables_rules};
use rulegen_compiler::{Plan, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{Explanation, NoPort, ObjectFacts, origin_by_input};
use rulegen_model::{Host, KnownNodes, Node, Objects, Problem, ServicePort, Severity, Snapshot};
use rulegen_net::{IpFamily, Protocol, ServicePortName};
use rulegen_ruleset::{Origin, Packet};

use crate::live::{LivePacket, LiveRules};

/// The rules of one node in one mode.
pub(crate) struct NodeRules {
    pub(crate) snapshot: Snapshot,
    problems: Vec<Problem>,
    pub(crate) mode: ProxyMode,
    config: ProxyConfig,
    facts: ObjectFacts,
    families: [OnceCell<(Plan, Rules)>; 2],
}

/// A packet to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestPacket {
    pub(crate) from: IpAddr,
    pub(crate) interface: Option<String>,
    pub(crate) to: std::net::SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) no_port: Option<NoPort>,
    /// The node of its sender, if that is a node or a pod with a node.
    pub(crate) sender_node: Option<String>,
}

impl TestPacket {
    /// The node whose rules it passes, if that is not the tested one: that of its sender, unless it
    /// goes to an address of the tested node, which then receives it.
    pub(crate) fn other_node(&self, tested: &Node) -> Option<&str> {
        let other = self.sender_node.as_deref().filter(|node| **node != *tested.name);
        other.filter(|_| !tested.has_address(self.to.ip()))
    }
}

/// The table's name affects no packet.
const TABLE: &str = "rulegen";

impl NodeRules {
    pub(crate) fn new(
        objects: &Objects,
        config: &ProxyConfig,
        mode: ProxyMode,
        node: &str,
    ) -> Self {
        let config =
            ProxyConfig { mode, hostname_override: Some(node.to_owned()), ..config.clone() };
        let (snapshot, problems) =
            rulegen_model::snapshot(objects, &config.snapshot_options(), &Host::default());
        let facts = ObjectFacts::of(objects, &snapshot, KnownNodes::OfInput, &[]);
        Self { snapshot, problems, mode, config, facts, families: Default::default() }
    }

    /// The problems of its input that another does not have. Notes are no problems.
    pub(crate) fn new_problems(&self, other: &Self) -> Vec<Problem> {
        let new = self
            .problems
            .iter()
            .filter(|of| of.severity >= Severity::Warning && !other.problems.contains(of));
        new.cloned().collect()
    }

    fn of_family(&self, family: IpFamily) -> &(Plan, Rules) {
        let [ipv4, ipv6] = &self.families;
        let cell = match family {
            IpFamily::Ipv4 => ipv4,
            IpFamily::Ipv6 => ipv6,
        };
        cell.get_or_init(|| {
            let plan = plan(&self.snapshot, &self.config, family);
            let rules = match self.mode {
                ProxyMode::Iptables => iptables_rules(&plan),
                ProxyMode::Nftables => nftables_rules(&plan, TABLE),
            };
            (plan, rules)
        })
    }

    pub(crate) fn plan(&self, family: IpFamily) -> &Plan {
        &self.of_family(family).0
    }

    /// The service port with its endpoints.
    pub(crate) fn port(&self, name: &ServicePortName, family: IpFamily) -> Option<&ServicePort> {
        self.snapshot.service_port(name, family)
    }

    /// What the rules in the kernel do with a packet.
    pub(crate) fn explain_live(
        &self,
        sent: &TestPacket,
        live: &dyn LiveRules,
    ) -> Result<Explanation, String> {
        let family = IpFamily::of(sent.from);
        let TestPacket { from, interface, to, protocol, .. } = sent.clone();
        let packet = LivePacket { from, interface, to, protocol };
        live.explain(&packet, self.plan(family), &|explanation| {
            self.complete(explanation, sent);
        })
    }

    /// Adds what the input says.
    fn complete(&self, explanation: &mut Explanation, sent: &TestPacket) {
        if let Some(no_port) = sent.no_port {
            explanation.without_port(no_port);
        }
        explanation.add_objects(&self.facts, IpFamily::of(sent.from));
    }

    /// What happens to a packet.
    pub(crate) fn explain(&self, sent: &TestPacket) -> Explanation {
        let family = IpFamily::of(sent.from);
        let (plan, rules) = self.of_family(family);
        let local = &self.snapshot.node.addresses(family).local;
        let by_input =
            origin_by_input(sent.from, &self.facts, &self.snapshot.node, plan.pod_traffic.as_ref());
        let origin = match (by_input, &sent.interface) {
            (Origin::Host, _) => Origin::Host,
            (_, Some(interface)) => Origin::Interface(interface.clone()),
            (by_input, None) => by_input,
        };
        let packet =
            Packet { origin, source: sent.from, destination: sent.to, protocol: sent.protocol };
        let mut explanation = rulegen::explain(rules, local, &packet, Some(plan));
        self.complete(&mut explanation, sent);
        explanation
    }

    /// Whether a pod with this address runs on the node.
    pub(crate) fn is_on_node(&self, ip: IpAddr) -> bool {
        self.facts.is_pod_of_node(ip, &self.snapshot.node)
    }
}
