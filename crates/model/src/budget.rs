//! Limits the size of a Service.
//!
//! An API server accepts Services with tens of thousands of ports, addresses or source ranges, and
//! any number of endpoints. The number of rules is a product of some of these. The size of a Service
//! is computed from counts before anything is allocated. A Service above the limit is skipped as a
//! whole, because partial rules would be harder to notice than none.

use std::fmt;

use crate::endpoint_slice::{Slice, count};
use crate::kind::Kind;
use crate::object_key::ObjectKey;
use crate::options::SnapshotOptions;
use crate::ownership::{Admitted, ClaimKind};
use crate::problem::{ObjectName, Problem, Severity};
use crate::problem_code::ProblemCode;
use crate::service_port::ServicePort;
use rulegen_net::IpFamily;

/// The size of a Service, over both IP families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceSize {
    /// Number of cluster IPs, external IPs, load-balancer IPs and node ports, per port.
    pub addresses: usize,
    /// Number of endpoints, per port. An endpoint in two slices counts twice.
    pub endpoints: usize,
    /// Number of source ranges. In iptables mode they count per port, because each port has its own
    /// rules.
    pub source_ranges: usize,
}

impl ServiceSize {
    /// The sum, which is compared with the limit.
    pub fn total(&self) -> usize {
        self.addresses.saturating_add(self.endpoints).saturating_add(self.source_ranges)
    }

    /// Computes the size from ports without endpoints and external addresses, plus the endpoints
    /// and addresses that will be added to them.
    pub(crate) fn of<'a>(
        ports: &[ServicePort],
        admitted: &Admitted,
        slices: impl Iterator<Item = &'a Slice>,
        options: &SnapshotOptions,
    ) -> Self {
        let mut size = Self { endpoints: count(ports, slices), ..Self::default() };
        let counts = IpFamily::BOTH.map(|family| {
            [ClaimKind::ExternalIp, ClaimKind::LoadBalancerIp]
                .map(|kind| admitted.count(kind, family))
        });
        let [of_ipv4, of_ipv6] = counts;
        let mut last = None;
        for port in ports {
            let [external_ips, load_balancer_ips] = match IpFamily::of(port.cluster_ip) {
                IpFamily::Ipv4 => of_ipv4,
                IpFamily::Ipv6 => of_ipv6,
            };
            let external = external_ips.saturating_add(load_balancer_ips);
            let addresses = external.saturating_add(1 + usize::from(port.node_port.is_some()));
            size.addresses = size.addresses.saturating_add(addresses);
            // Ports are grouped by family.
            let is_first = last.replace(port.cluster_ip) != Some(port.cluster_ip);
            if load_balancer_ips > 0 && (is_first || options.source_ranges_per_port) {
                size.source_ranges = size.source_ranges.saturating_add(port.source_ranges.len());
            }
        }
        size
    }

    /// Compares the size with the configured limit.
    ///
    /// # Errors
    /// The Service is larger.
    pub(crate) fn check(self, options: &SnapshotOptions) -> Result<(), TooLarge> {
        let limit = options.max_service_size;
        if self.total() > limit { Err(TooLarge { size: self, limit }) } else { Ok(()) }
    }
}

/// A Service exceeds the maximum size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// How large the Service is, in the units of the limit.
    pub size: ServiceSize,
    /// The maximum size.
    pub limit: usize,
}

impl TooLarge {
    /// The warning about the Service.
    pub fn problem(&self, service: &ObjectKey) -> Problem {
        let object = ObjectName {
            kind: Kind::Service.name(),
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
        };
        let problem = Problem::new(Severity::Warning, self.to_string());
        problem.code(ProblemCode::ServiceTooLarge).about(&object)
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit } = self;
        write!(
            f,
            "is too large and gets no rules: {} addresses, {} endpoints and {} source ranges, summed \
             over its ports, are {} in total (limit {limit}); split it into several Services or \
             increase --max-service-size",
            size.addresses,
            size.endpoints,
            size.source_ranges,
            size.total(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU16;

    use super::*;
    use crate::service_port::TrafficPolicy;
    use rulegen_net::{Protocol, ServicePortName};

    fn size(source_ranges_per_port: bool, ports: usize, ranges: usize) -> ServiceSize {
        let ip = |last| IpAddr::from([203, 0, 113, last]);
        let port = |n: usize| ServicePort {
            name: ServicePortName {
                namespace: "default".into(),
                service: "web".into(),
                port: n.to_string().into(),
                protocol: Protocol::Tcp,
            },
            cluster_ip: ip(0),
            port: 80,
            node_port: NonZeroU16::new(30_000),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: vec!["198.18.0.0/15".parse().unwrap(); ranges].into(),
            health_check_node_port: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_seconds: None,
            load_balancing: None,
            ports_of_service: 1,
            endpoints: Vec::new(),
        };
        let ports: Vec<ServicePort> = (0..ports).map(port).collect();
        let admitted = Admitted::of_each_kind(ip(1), ip(2));
        let options = SnapshotOptions { source_ranges_per_port, ..SnapshotOptions::default() };
        ServiceSize::of(&ports, &admitted, [].into_iter(), &options)
    }

    #[test]
    fn service_size_multiplies_source_ranges_by_ports_in_iptables_mode_only() {
        assert_eq!(size(false, 100, 100).total(), 500);
        assert_eq!(size(true, 100, 100).total(), 10_400);
    }

    #[test]
    fn service_size_may_equal_limit_but_not_exceed_it() {
        let size = size(false, 10, 0);
        let limit =
            |limit| SnapshotOptions { max_service_size: limit, ..SnapshotOptions::default() };
        assert_eq!(size.check(&limit(40)), Ok(()));
        assert_eq!(size.check(&limit(39)), Err(TooLarge { size, limit: 39 }));
    }
}
