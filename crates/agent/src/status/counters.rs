//! A Service's connection counters, read from the kernel for its page.

use rulegen_compiler::nftables::{
    ConnectionCounts, counted_by_element, counted_by_rule, counted_endpoint, table,
};
use rulegen_compiler::plan;
use rulegen_config::ProxyConfig;
use rulegen_kernel::nftables::{Counted, DataplaneError, NfTables};
use rulegen_model::Snapshot;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Chain, Name, Statement, Table};

/// Reads counters from the tables with this name.
#[derive(Clone)]
pub(crate) struct Counters {
    name: Name,
}

/// The maximum number of requests to the kernel per page: each element and chain needs one.
const MOST: usize = 10_000;

/// Why a Service's counters are not shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum CountersError {
    #[error("this Service has too many endpoints to count")]
    TooMany,
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
}

impl Counters {
    pub(crate) fn new(name: Name) -> Self {
        Self { name }
    }

    /// Compiles the Service's part of the tables, to know the elements and rules to read.
    pub(super) fn parts(&self, service: &Snapshot, config: &ProxyConfig) -> Vec<Table> {
        let families = IpFamily::BOTH.into_iter();
        let families = families.filter(|family| !service.service_ports(*family).is_empty());
        families.map(|family| table(&plan(service, config, family), &self.name)).collect()
    }

    /// Reads the counters in the calling thread.
    pub(super) fn read(&self, parts: &[Table]) -> Result<ConnectionCounts, CountersError> {
        match requests(parts) {
            ..=MOST => Ok(self.request(parts)?),
            _ => Err(CountersError::TooMany),
        }
    }

    fn request(&self, parts: &[Table]) -> Result<ConnectionCounts, DataplaneError> {
        let mut kernel = NfTables::open()?;
        let mut sums = ConnectionCounts::new();
        for part in parts {
            kernel.counted_of(part, |counted| {
                let (of, packets) = match counted {
                    Counted::Element { key, endpoint, comment, packets, .. } => {
                        (counted_by_element(&key, &comment).map(|name| (name, endpoint)), packets)
                    }
                    Counted::Rule { chain, packets } => {
                        (counted_by_rule(&chain).zip(counted_endpoint(&chain)), packets)
                    }
                };
                if let Some(of) = of {
                    *sums.entry(of).or_default() += packets;
                }
            })?;
        }
        Ok(sums)
    }
}

/// The number of requests to the kernel: one per element with a counter, and one per chain that
/// has a rule with a counter.
fn requests(parts: &[Table]) -> usize {
    let counts = |chain: &&Chain| {
        chain.rules.iter().any(|rule| rule.statements.contains(&Statement::Counter))
    };
    let of = |part: &Table| {
        let sets = part.sets.values().filter(|set| set.counter);
        let elements: usize = sets.map(|set| set.elements.len()).sum();
        elements + part.chains.values().filter(counts).count()
    };
    parts.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rulegen_model::{Endpoint, Hint, Host, LoadBalancing, ServicePort, TrafficPolicy};
    use rulegen_net::{Protocol, ServicePortName};

    use super::*;
    use crate::configured_store::ConfiguredStore;

    fn sticky(endpoints: u16) -> ServicePort {
        let endpoint = |port| Endpoint {
            address: SocketAddr::from(([10, 244, 1, 1], port)),
            local: true,
            has_node: true,
            ready: true,
            serving: true,
            terminating: false,
            zone_hint: Hint::Absent,
            node_hint: Hint::Absent,
        };
        ServicePort {
            name: ServicePortName {
                namespace: "default".into(),
                service: "web".into(),
                port: "http".into(),
                protocol: Protocol::Tcp,
            },
            cluster_ip: [10, 96, 0, 10].into(),
            port: 80,
            node_port: None,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: [].into(),
            health_check_node_port: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_seconds: Some(10),
            load_balancing: Some(LoadBalancing::Random),
            ports_of_service: 1,
            endpoints: (1..=endpoints).map(endpoint).collect(),
        }
    }

    /// Endpoints of a Service with affinity have chains instead of elements.
    #[test]
    fn counters_of_affinity_chains_are_read_too() {
        let config = ProxyConfig { counts_connections: true, ..ProxyConfig::default() };
        let store =
            ConfiguredStore::new(config, Host { name: "node-1".into(), addresses: Vec::new() });
        let counters = Counters::new(Name::from("rulegen"));
        let parts = |endpoints| {
            let service = Snapshot { ipv4: vec![sticky(endpoints)], ..store.snapshot() };
            counters.parts(&service, store.config())
        };
        assert_eq!(requests(&parts(3)), 3);
        let refused = counters.read(&parts(10_001)).unwrap_err();
        assert!(matches!(refused, CountersError::TooMany), "{refused}");
    }
}
