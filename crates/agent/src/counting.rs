//! Reads the connection counters of Services, if enabled.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rulegen_compiler::nftables::{counted_by_element, counted_by_rule};
use rulegen_kernel::nftables::{Counted, DataplaneError, NfTables};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::Name;

use crate::error::Result;
use crate::metrics::{Metrics, ServiceConnections};
use crate::threads;

/// The reading interval: shorter than Prometheus' scrape interval.
const PERIOD: Duration = Duration::from_secs(5);

/// How often a read is retried when the ruleset changes meanwhile.
const ATTEMPTS: u32 = 5;

/// The maximum share of time spent on reading a large table (1/n).
const PART: u32 = 20;

/// Reads the counters periodically in a thread, in the caller's network namespace.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(tables: Vec<(IpFamily, Name)>, metrics: Arc<Metrics>) -> Result<()> {
    threads::start("counters", move || {
        let mut sums = Sums::default();
        loop {
            let begun = Instant::now();
            match sums.read(&tables) {
                Ok(()) => metrics.connections(sums.connections()),
                Err(error) => tracing::debug!(%error, "cannot read counters"),
            }
            thread::sleep(PERIOD.max(begun.elapsed() * PART));
        }
    })
}

/// Monotonic sums, although a counter starts at 0 again with each change of an endpoint.
#[derive(Default)]
struct Sums {
    hasher: RandomState,
    services: HashMap<ServicePortName, u64>,
    /// The last value of each counter, by its hash.
    read: HashMap<u64, u64>,
}

impl Sums {
    fn read(&mut self, tables: &[(IpFamily, Name)]) -> Result<(), DataplaneError> {
        let mut kernel = NfTables::open()?;
        let mut all = Vec::new();
        for (family, table) in tables {
            let counted = (0..ATTEMPTS).find_map(|attempt| {
                let mut of_table = Vec::new();
                let read = kernel.counted(*family, table, |one| of_table.push((*family, one)));
                match read {
                    Ok(()) => Some(Ok(of_table)),
                    // Another commit changed the ruleset during the read.
                    Err(DataplaneError::Busy { .. }) if attempt + 1 < ATTEMPTS => None,
                    Err(error) => Some(Err(error)),
                }
            });
            all.extend(counted.transpose()?.unwrap_or_default());
        }
        self.add(all);
        Ok(())
    }

    fn add(&mut self, all: Vec<(IpFamily, Counted)>) {
        let before = std::mem::take(&mut self.read);
        let mut present = HashSet::new();
        for (family, counted) in all {
            let (counter, name, packets) = match &counted {
                // A counter with another target is another counter.
                Counted::Element { set, key, endpoint, comment, packets } => {
                    let counter = self.hasher.hash_one((family, set, key, endpoint));
                    (counter, counted_by_element(key, comment), *packets)
                }
                Counted::Rule { chain, packets } => {
                    (self.hasher.hash_one((family, chain)), counted_by_rule(chain), *packets)
                }
            };
            let Some(name) = name else { continue };
            let known = before.get(&counter).copied().unwrap_or_default();
            // A lower value means that the counter was recreated.
            let more = packets.checked_sub(known).unwrap_or(packets);
            *self.services.entry(name.clone()).or_default() += more;
            present.insert(name);
            self.read.insert(counter, packets);
        }
        // A deleted Service, or one without endpoints, starts from 0 again.
        self.services.retain(|name, _| present.contains(name));
    }

    fn connections(&self) -> Vec<ServiceConnections> {
        let of_service = |(name, connections): (&ServicePortName, &u64)| ServiceConnections {
            namespace: name.namespace.to_string(),
            service: name.service.to_string(),
            port: name.port.to_string(),
            protocol: name.protocol,
            connections: *connections,
        };
        self.services.iter().map(of_service).collect()
    }
}
