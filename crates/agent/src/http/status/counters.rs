//! What the kernel counted for one Service, asked for as its page is made.

use std::collections::HashMap;
use std::net::SocketAddr;

use rulegen_compiler::nftables::{counted_by_element, counted_by_rule, counted_endpoint, table};
use rulegen_compiler::plan;
use rulegen_kernel::nftables::{Counted, Error, NfTables};
use rulegen_model::{IpFamily, ProxyConfig, ServicePortName, Snapshot};
use rulegen_ruleset::nftables::{Name, Table};

/// Reads them from the tables of a name.
#[derive(Clone)]
pub(crate) struct Counters {
    name: Name,
}

/// Connections by service port and endpoint, since the rules for them were written.
pub(super) type Connections = HashMap<(ServicePortName, SocketAddr), u64>;

/// For a Service of more elements a page would take too long: each is asked for by itself.
const MOST: usize = 10_000;

impl Counters {
    pub(crate) fn new(name: Name) -> Self {
        Self { name }
    }

    /// What is counted of a Service: a part of the tables is compiled anew, to know which elements
    /// and rules to ask for.
    pub(super) fn parts(&self, service: &Snapshot, config: &ProxyConfig) -> Vec<Table> {
        let families = IpFamily::BOTH.into_iter();
        let families = families.filter(|family| !service.service_ports(*family).is_empty());
        families.map(|family| table(&plan(service, config, family), &self.name)).collect()
    }

    /// Asks the kernel. It does so on the thread that calls.
    pub(super) fn read(&self, parts: &[Table]) -> Result<Connections, String> {
        let sets = parts.iter().flat_map(|part| part.sets.values()).filter(|set| set.counter);
        if sets.map(|set| set.elements.len()).sum::<usize>() > MOST {
            return Err("this Service has too many endpoints to count".to_owned());
        }
        self.asked(parts).map_err(|error| error.to_string())
    }

    fn asked(&self, parts: &[Table]) -> Result<Connections, Error> {
        let mut kernel = NfTables::open()?;
        let mut sums = Connections::new();
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
