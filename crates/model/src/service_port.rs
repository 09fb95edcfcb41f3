//! A port of a Service in one IP family, with its endpoints.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::load_balancing::LoadBalancing;
use rulegen_net::{Frontend, FrontendKind, IpFamily, ServicePortName};

/// The endpoints that may get traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum TrafficPolicy {
    /// All endpoints of the cluster.
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// A service port in one family, with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name:port` and the protocol.
    pub name: ServicePortName,
    /// Cluster IP; its family is that of the endpoints.
    pub cluster_ip: IpAddr,
    /// Port of the cluster, external and load-balancer IPs.
    pub port: u16,
    /// Port on the node addresses.
    pub node_port: Option<NonZeroU16>,
    /// `spec.externalIPs` of this family.
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer IPs of this family with ipMode VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Clients that may use the load-balancer IPs; empty allows all. All ports of a Service share one
    /// list to save memory: 1,000 ports with 5,000 ranges would take 100 MB otherwise.
    pub source_ranges: Arc<[IpNet]>,
    /// Port on which load balancers check whether this node has endpoints.
    pub health_check_node_port: Option<NonZeroU16>,
    /// Traffic policy of the cluster IP.
    pub internal_policy: TrafficPolicy,
    /// Traffic policy of all other addresses.
    pub external_policy: TrafficPolicy,
    /// Timeout of session affinity ClientIP, in seconds; `None` without affinity.
    pub affinity_seconds: Option<u32>,
    /// Load balancing method from the Service's annotation; overrides the configuration.
    pub load_balancing: Option<LoadBalancing>,
    /// Number of ports of its Service, including itself: it bounds what each may need.
    pub ports_of_service: usize,
    /// Endpoints of all slices, without duplicates, in the order of their text.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    pub(crate) fn without_endpoints(&self) -> Self {
        Self {
            name: self.name.clone(),
            external_ips: self.external_ips.clone(),
            load_balancer_ips: self.load_balancer_ips.clone(),
            source_ranges: self.source_ranges.clone(),
            endpoints: Vec::new(),
            ..*self
        }
    }

    /// The address family of its cluster IP, and so of all its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.cluster_ip)
    }

    /// Its frontends: cluster IP, external IPs, load-balancer IPs, node port, in this order. An
    /// address may be both an external and a load-balancer IP.
    pub fn frontends(&self) -> impl Iterator<Item = (Frontend, FrontendKind)> + '_ {
        let at = |ip: &IpAddr| Frontend::at_ip(*ip, self.name.protocol, self.port);
        let external = self.external_ips.iter().map(|ip| (*ip, FrontendKind::ExternalIP));
        let load_balancer =
            self.load_balancer_ips.iter().map(|ip| (*ip, FrontendKind::LoadBalancerIP));
        let node_port = self.node_port.map(|port| {
            let frontend = Frontend::node_port(self.family(), self.name.protocol, port.get());
            (frontend, FrontendKind::NodePort)
        });
        std::iter::once((self.cluster_ip, FrontendKind::ClusterIP))
            .chain(external)
            .chain(load_balancer)
            .map(move |(ip, kind)| (at(&ip), kind))
            .chain(node_port)
    }

    /// Whether it has an address other than the cluster IP.
    pub fn externally_accessible(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
    }

    /// Whether any traffic uses endpoints of the whole cluster. With external policy Local this is
    /// the traffic of this node and its pods, which is short-circuited.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Cluster || self.externally_accessible()
    }

    /// Whether any traffic uses only endpoints on this node.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Local
            || (self.external_policy == TrafficPolicy::Local && self.externally_accessible())
    }
}
