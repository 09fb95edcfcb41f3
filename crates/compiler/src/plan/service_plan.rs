//! Questions about the plan of one service port.

use std::net::IpAddr;

use rulegen_config::ProxyMode;
use rulegen_model::{Endpoint, LoadBalancing, TrafficPolicy};
use rulegen_net::{Frontend, FrontendKind, IpFamily, ServicePortName};

use super::{External, ExternalAddress, Refusal, ServicePlan, Slots, Treatment};

/// Orders the service ports that have the same destination: the smallest gets the traffic. A
/// cluster IP comes before all other addresses, because it belongs to one Service only. A service
/// port that forwards comes before one that rejects, because traffic is only rejected if it was not
/// translated. Addresses come before node ports. Then the first by name wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    is_external: bool,
    refuses: bool,
    is_node_port: bool,
    /// The service port.
    pub(super) name: ServicePortName,
}

impl ServicePlan {
    /// Its frontends in this order: cluster IP, external IPs, load-balancer IPs, node port. An
    /// address may be both an external and a load-balancer IP.
    pub fn frontends(&self) -> impl Iterator<Item = (Frontend, FrontendKind)> + '_ {
        let (protocol, cluster_ip) = (self.name.protocol, self.internal.address);
        let at = move |ip| Frontend::at_ip(ip, protocol, self.port);
        let external = self.external.iter().flat_map(|external| &external.addresses);
        let external = external.map(move |address| match *address {
            ExternalAddress::ExternalIp(ip) => (at(ip), FrontendKind::ExternalIP),
            ExternalAddress::LoadBalancerIp(ip) => (at(ip), FrontendKind::LoadBalancerIP),
            ExternalAddress::NodePort(port) => {
                let family = IpFamily::of(cluster_ip);
                (Frontend::node_port(family, protocol, port.get()), FrontendKind::NodePort)
            }
        });
        std::iter::once((at(cluster_ip), FrontendKind::ClusterIP)).chain(external)
    }

    /// Whether traffic to a frontend of this kind is translated (DNAT). External traffic is if the
    /// cluster has a usable endpoint: under policy Local, that of this node and its pods.
    pub fn forwards(&self, kind: FrontendKind) -> bool {
        match kind {
            FrontendKind::ClusterIP => matches!(self.internal.outcome, Treatment::Forward(_)),
            FrontendKind::HealthCheckNodePort => false,
            _ => self.external.as_ref().is_some_and(|external| external.forwards),
        }
    }

    /// The traffic policy for a frontend of this kind; `None` if none applies.
    pub fn policy(&self, kind: FrontendKind) -> Option<TrafficPolicy> {
        if kind != FrontendKind::ClusterIP {
            return self.external.as_ref().map(|external| external.policy);
        }
        match self.internal.outcome {
            Treatment::Forward(policy) => Some(policy),
            Treatment::Refuse(Refusal::NoLocalEndpoints) => Some(TrafficPolicy::Local),
            Treatment::Refuse(Refusal::NoEndpoints) => None,
        }
    }

    /// Its rank among the service ports with the same destination, as a frontend of this kind.
    pub(super) fn precedence(&self, kind: FrontendKind) -> Precedence {
        Precedence {
            is_external: kind != FrontendKind::ClusterIP,
            refuses: !self.forwards(kind),
            is_node_port: matches!(
                kind,
                FrontendKind::NodePort | FrontendKind::HealthCheckNodePort
            ),
            name: self.name.clone(),
        }
    }

    /// The endpoints that a policy selects.
    pub fn endpoints_of(&self, policy: TrafficPolicy) -> &[Endpoint] {
        match policy {
            TrafficPolicy::Cluster => &self.cluster_endpoints,
            TrafficPolicy::Local => &self.local_endpoints,
        }
    }

    /// The slots of the endpoints that a policy selects.
    pub fn slots_of(&self, policy: TrafficPolicy) -> &Slots {
        match policy {
            TrafficPolicy::Cluster => &self.cluster_slots,
            TrafficPolicy::Local => &self.local_slots,
        }
    }

    /// The number of slots of each endpoint that a policy selects: its part of the connections.
    pub fn shares(&self, policy: TrafficPolicy) -> Vec<usize> {
        self.slots_of(policy).shares(self.endpoints_of(policy).len())
    }

    /// How an endpoint is chosen for a client without affinity. iptables can only choose at random.
    pub fn first_choice(&self, mode: ProxyMode) -> LoadBalancing {
        match mode {
            ProxyMode::Iptables => LoadBalancing::Random,
            ProxyMode::Nftables => self.load_balancing,
        }
    }
}

impl External {
    /// The load-balancer IPs (`status.loadBalancer.ingress`).
    pub fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter_map(|address| match address {
            ExternalAddress::LoadBalancerIp(ip) => Some(*ip),
            _ => None,
        })
    }

    /// Clients that may use the load-balancer IPs in addition to the source ranges: if this node
    /// may, these IPs themselves, because such an IP is the source if it is an address of the node.
    pub fn sources_of_node(&self) -> Vec<IpAddr> {
        match &self.firewall {
            Some(firewall) if firewall.from_node => self.load_balancer_ips().collect(),
            _ => Vec::new(),
        }
    }
}
