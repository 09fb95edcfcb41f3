//! Which external and load-balancer IPs of a Service are used.
//!
//! Anyone who may write a Service may list any address there (CVE-2020-8554). If an address is the
//! cluster IP of a Service, it belongs to that Service, with all ports and protocols. In kube-proxy
//! either Service gets the traffic, depending on the mode and the order of its maps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::node::Node;
use crate::object_key::ObjectKey;
use crate::problem::ProblemCollector;
use crate::problem_code::ProblemCode;
use crate::service_port::ServicePort;
use rulegen_net::IpFamily;

/// An external or load-balancer IP in a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimedIp {
    pub(crate) ip: IpAddr,
    pub(crate) kind: ClaimKind,
    /// Its index in the Service's list.
    pub(crate) index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimKind {
    ExternalIp,
    LoadBalancerIp,
}

impl ClaimedIp {
    fn field(&self) -> String {
        let index = self.index;
        match self.kind {
            ClaimKind::ExternalIp => format!("spec.externalIPs[{index}]"),
            ClaimKind::LoadBalancerIp => format!("status.loadBalancer.ingress[{index}].ip"),
        }
    }
}

/// Maps addresses to Services. One set instead of a set per address: most addresses have one
/// Service, and there are as many addresses as Services.
#[derive(Debug, Default)]
pub(crate) struct ServicesByIp(BTreeSet<(IpAddr, ObjectKey)>);

impl ServicesByIp {
    pub(crate) fn insert(&mut self, ip: IpAddr, service: &ObjectKey) {
        self.0.insert((ip, service.clone()));
    }

    pub(crate) fn remove(&mut self, ip: IpAddr, service: &ObjectKey) {
        self.0.remove(&(ip, service.clone()));
    }

    /// The Services with this address, ordered by name.
    pub(crate) fn of(&self, ip: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        let from = self.0.range((ip, ObjectKey::default())..);
        from.take_while(move |(of, _)| *of == ip).map(|(_, service)| service)
    }

    /// The Services of all addresses. A Service with several addresses is repeated.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.iter().map(|(_, service)| service)
    }
}

/// The facts that decide whether external and load-balancer IPs are used.
pub(crate) struct ClaimFacts<'a> {
    /// Services by cluster IP, including Services that another proxy handles.
    pub(crate) owners: &'a ServicesByIp,
    /// Networks of cluster IPs, ordered and without overlaps.
    pub(crate) service_cidrs: &'a [IpNet],
    /// The node whose addresses are excluded, if configured.
    pub(crate) refused_node: Option<&'a Node>,
}

impl ClaimFacts<'_> {
    /// The claimed IPs that the Service may use.
    pub(crate) fn admitted(
        &self,
        service: &ObjectKey,
        claimed: &[ClaimedIp],
        report: &mut ProblemCollector<'_>,
    ) -> Admitted {
        let admits = |claim: &&ClaimedIp| self.admits(claim, service, report);
        Admitted(claimed.iter().filter(admits).copied().collect())
    }

    fn admits(
        &self,
        claim: &ClaimedIp,
        service: &ObjectKey,
        report: &mut ProblemCollector<'_>,
    ) -> bool {
        let ip = claim.ip;
        if let Some(first) = self.owners.of(ip).next() {
            if self.owners.of(ip).any(|owner| owner == service) {
                report.note_of(
                    ProblemCode::OwnClusterIp,
                    claim.field(),
                    format!("{ip} is this Service's own cluster IP, so this entry has no effect"),
                );
            } else {
                let ObjectKey { namespace, name } = first;
                report.warn(
                    ProblemCode::OtherClusterIp,
                    claim.field(),
                    format!("{ip} is the cluster IP of Service {namespace}/{name} and is used for that Service only: choose another address"),
                );
            }
            return false;
        }
        if let Some(node) = self.refused_node.filter(|node| node.has_address(ip)) {
            let name = &node.name;
            report.warn(
                ProblemCode::NodeAddressRefused,
                claim.field(),
                format!("{ip} is an address of the node {name:?}, which --refuse-node-addresses excludes"),
            );
            return false;
        }
        if let Some(network) = network_of(ip, self.service_cidrs) {
            report.warn(
                ProblemCode::AddressInServiceCidr,
                claim.field(),
                format!("{ip} is in the ServiceCIDR {network} but no Service has it as cluster IP: used until one gets it"),
            );
        }
        true
    }
}

/// The external and load-balancer IPs that a Service may use.
pub(crate) struct Admitted(Vec<ClaimedIp>);

impl Admitted {
    #[cfg(test)]
    pub(crate) fn of_each_kind(external_ip: IpAddr, load_balancer_ip: IpAddr) -> Self {
        let claim = |kind, ip| ClaimedIp { ip, kind, index: 0 };
        Self(vec![
            claim(ClaimKind::ExternalIp, external_ip),
            claim(ClaimKind::LoadBalancerIp, load_balancer_ip),
        ])
    }

    /// Number of IPs of a kind and family, per port.
    pub(crate) fn count(&self, kind: ClaimKind, family: IpFamily) -> usize {
        self.of(kind, family).count()
    }

    /// Adds the IPs to the ports of their family.
    pub(crate) fn add_to(&self, ports: &mut [ServicePort]) {
        for port in ports {
            let family = IpFamily::of(port.cluster_ip);
            port.external_ips = self.of(ClaimKind::ExternalIp, family).collect();
            port.load_balancer_ips = self.of(ClaimKind::LoadBalancerIp, family).collect();
        }
    }

    fn of(&self, kind: ClaimKind, family: IpFamily) -> impl Iterator<Item = IpAddr> {
        let of_kind = self.0.iter().filter(move |claim| claim.kind == kind);
        of_kind.map(|claim| claim.ip).filter(move |ip| IpFamily::of(*ip) == family)
    }
}

/// Finds the network that contains an address. The networks are ordered and do not overlap.
fn network_of(ip: IpAddr, networks: &[IpNet]) -> Option<IpNet> {
    let count = networks.partition_point(|network| network.network() <= ip);
    let last = networks.get(count.checked_sub(1)?)?;
    last.contains(&ip).then_some(*last)
}
