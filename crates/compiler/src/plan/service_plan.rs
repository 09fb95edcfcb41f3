//! Questions about the plan of one service port.

use std::net::IpAddr;

use rulegen_config::ProxyMode;
use rulegen_model::{Endpoint, LoadBalancing, TrafficPolicy};
use rulegen_net::{Frontend, FrontendKind, IpFamily, ServicePortName};

use super::{External, ExternalAddress, Outcome, Refusal, ServicePlan};

/// Orders the service ports that have one destination: the least gets its traffic. A cluster IP is
/// before all other addresses, for it belongs to its Service alone. A service port that forwards is
/// before one that refuses, since traffic is only refused where it was not translated. An address
/// is looked up before node ports. Then the first by name counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    is_external: bool,
    refuses: bool,
    is_node_port: bool,
    /// The service port.
    pub name: ServicePortName,
}

impl ServicePlan {
    /// Its frontends: cluster IP, external IPs, load-balancer IPs, node port, in this order. An
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

    /// Whether traffic to a frontend of this kind is translated. External traffic always is if
    /// there are usable endpoints in the cluster: under policy Local, that of this node and its
    /// pods.
    pub fn forwards(&self, kind: FrontendKind) -> bool {
        match kind {
            FrontendKind::ClusterIP => matches!(self.internal.outcome, Outcome::Forward(_)),
            FrontendKind::HealthCheckNodePort => false,
            _ => self.external.as_ref().is_some_and(|external| external.forwards),
        }
    }

    /// The traffic policy for a frontend of this kind, if it matters there.
    pub fn policy(&self, kind: FrontendKind) -> Option<TrafficPolicy> {
        if kind != FrontendKind::ClusterIP {
            return self.external.as_ref().map(|external| external.policy);
        }
        match self.internal.outcome {
            Outcome::Forward(policy) => Some(policy),
            Outcome::Refuse(Refusal::NoLocalEndpoints) => Some(TrafficPolicy::Local),
            Outcome::Refuse(Refusal::NoEndpoints) => None,
        }
    }

    /// Its place among the service ports that have one destination, as a frontend of this kind.
    pub fn precedence(&self, kind: FrontendKind) -> Precedence {
        Precedence {
            is_external: kind != FrontendKind::ClusterIP,
            refuses: !self.forwards(kind),
            is_node_port: kind == FrontendKind::NodePort,
            name: self.name.clone(),
        }
    }

    /// The endpoints that a policy chooses from, each as probable as the other.
    pub fn endpoints_of(&self, policy: TrafficPolicy) -> &[Endpoint] {
        match policy {
            TrafficPolicy::Cluster => &self.cluster_endpoints,
            TrafficPolicy::Local => &self.local_endpoints,
        }
    }

    /// How the endpoint of a client without affinity is chosen. iptables only draws at random. With
    /// affinity, rules that follow one another each draw a number of their own, which must not be
    /// the same for all, as a hash of the source would be.
    pub fn first_choice(&self, mode: ProxyMode) -> LoadBalancing {
        let has_affinity = self.affinity_seconds.is_some();
        match (mode, self.load_balancing) {
            (ProxyMode::Iptables, _) => LoadBalancing::Random,
            (ProxyMode::Nftables, LoadBalancing::SourceHash) if has_affinity => {
                LoadBalancing::Random
            }
            (ProxyMode::Nftables, load_balancing) => load_balancing,
        }
    }
}

impl External {
    /// The addresses from the load balancer's status.
    pub fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter_map(|address| match address {
            ExternalAddress::LoadBalancerIp(ip) => Some(*ip),
            _ => None,
        })
    }

    /// Sources that may use the load-balancer IPs beside the source ranges: if this node may, then
    /// these IPs themselves, which are the source where one of them is an address of the node.
    pub fn sources_of_node(&self) -> Vec<IpAddr> {
        match &self.firewall {
            Some(firewall) if firewall.from_node => self.load_balancer_ips().collect(),
            _ => Vec::new(),
        }
    }
}
