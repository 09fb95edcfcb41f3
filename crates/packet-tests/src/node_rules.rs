//! The rules of one node in one mode, and what they do with packets.

use std::cell::OnceCell;
use std::net::IpAddr;

use rulegen::{Rules, iptables_rules, nftables_rules};
use rulegen_compiler::{Plan, PodTraffic, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_inspect::explain::{Explanation, NoPort};
use rulegen_model::{Host, Objects, ServicePort, Snapshot};
use rulegen_net::{IpFamily, Protocol, ServicePortName};
use rulegen_ruleset::{Origin, Packet};

use crate::live::{LivePacket, LiveRules};

/// The rules of one node in one mode.
pub(crate) struct NodeRules {
    pub(crate) snapshot: Snapshot,
    pub(crate) mode: ProxyMode,
    config: ProxyConfig,
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
}

/// The table's name affects no packet.
const TABLE: &str = "rulegen";

/// An interface that is not of a local pod, unless pods are recognised by this name.
const UPLINK: [&str; 2] = ["eth0", "uplink0"];

impl NodeRules {
    pub(crate) fn new(
        objects: &Objects,
        config: &ProxyConfig,
        mode: ProxyMode,
        node: &str,
    ) -> Self {
        let config =
            ProxyConfig { mode, hostname_override: Some(node.to_owned()), ..config.clone() };
        let (snapshot, _) =
            rulegen_model::snapshot(objects, &config.snapshot_options(), &Host::default());
        Self { snapshot, mode, config, families: Default::default() }
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
        self.snapshot.service_ports(family).iter().find(|port| port.name == *name)
    }

    /// What the rules in the kernel do with a packet.
    pub(crate) fn explain_live(
        &self,
        objects: &Objects,
        sent: &TestPacket,
        live: &dyn LiveRules,
    ) -> Result<Explanation, String> {
        let family = IpFamily::of(sent.from);
        let TestPacket { from, interface, to, protocol, .. } = sent.clone();
        let packet = LivePacket { from, interface, to, protocol };
        live.explain(&packet, self.plan(family), &|explanation| {
            self.complete(explanation, objects, sent);
        })
    }

    /// Adds what the input says.
    fn complete(&self, explanation: &mut Explanation, objects: &Objects, sent: &TestPacket) {
        if let Some(no_port) = sent.no_port {
            explanation.without_port(no_port);
        }
        explanation.add_objects(objects, &self.snapshot, IpFamily::of(sent.from));
    }

    /// What happens to a packet.
    pub(crate) fn explain(&self, objects: &Objects, sent: &TestPacket) -> Explanation {
        let family = IpFamily::of(sent.from);
        let (plan, rules) = self.of_family(family);
        let local = &self.snapshot.node.addresses(family).local;
        let origin = match local.contains(&sent.from) || sent.from.is_loopback() {
            true => Origin::Host,
            false => Origin::Interface(self.interface(objects, sent, plan.pod_traffic.as_ref())),
        };
        let packet =
            Packet { origin, source: sent.from, destination: sent.to, protocol: sent.protocol };
        let mut explanation = rulegen::explain(rules, local, &packet, Some(plan));
        self.complete(&mut explanation, objects, sent);
        explanation
    }

    /// The interface that the packet comes in through. It matters only if local pods are recognised
    /// by their interfaces.
    fn interface(&self, objects: &Objects, sent: &TestPacket, pods: Option<&PodTraffic>) -> String {
        if let Some(interface) = &sent.interface {
            return interface.clone();
        }
        let is_of_pods = |name: &str| match pods {
            Some(PodTraffic::Through(bridge)) => name == bridge,
            Some(PodTraffic::ThroughPrefix(prefix)) => name.starts_with(prefix.as_str()),
            Some(PodTraffic::From(_)) | None => false,
        };
        match pods {
            Some(PodTraffic::Through(name) | PodTraffic::ThroughPrefix(name))
                if self.is_on_node(objects, sent.from) =>
            {
                name.clone()
            }
            _ => {
                let uplink = UPLINK.into_iter().find(|name| !is_of_pods(name));
                uplink.unwrap_or_default().to_owned()
            }
        }
    }

    /// Whether a pod with this address runs on the node.
    pub(crate) fn is_on_node(&self, objects: &Objects, ip: IpAddr) -> bool {
        let node = &self.snapshot.node;
        let pods = objects.details.iter().flat_map(|details| details.pods.values());
        let mut pods = pods.filter(|pod| pod.node.as_deref() == Some(&*node.name));
        let slices = objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
        let mut endpoints = slices.filter(|of| of.node_name.as_deref() == Some(&*node.name));
        let network = node.addresses(IpFamily::of(ip)).pod_cidr;
        network.is_some_and(|network| network.contains(&ip))
            || pods.any(|pod| pod.addresses.contains(&ip))
            || endpoints.any(|of| of.address().and_then(|text| text.parse().ok()) == Some(ip))
    }
}
