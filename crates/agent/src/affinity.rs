//! Reads the session affinity sets, which packets fill: their size, and the clients of removed
//! endpoints.
//!
//! The kernel needs 0.8 s to dump a full set, so a separate thread does it, with pauses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rulegen_compiler::nftables::affinity_service;
use rulegen_kernel::nftables::{DataplaneError, NfTables, Reading, SetFill};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Key, Name, Value};

use crate::affinity_clients::{Clients, ReadClients};
use crate::error::Result;
use crate::input::ReconcilerInput;
use crate::metrics::Metrics;
use crate::queue::{Ended, Sink};
use crate::threads;

/// The number of clients per batch. A commit that deletes this many takes at most 5 ms.
pub(crate) const BATCH: usize = 1024;

/// After a search the thread pauses this many times as long as the search took.
const REST: u32 = 4;

/// The maximum number of attempts if the ruleset changes during a search, when the kernel may skip
/// elements. Clients that are missed expire.
const ATTEMPTS: u32 = 3;

/// The counting interval.
const PERIOD: Duration = Duration::from_secs(10);

/// The maximum share of time spent on counting (1/n). Counting is cheap if the kernel reports the
/// number of elements (Linux 6.18 does); older kernels need 0.8 s for a full set.
const PART: u32 = 100;

/// The fill level from which a set is reported as full. Clients expire all the time, so it rarely
/// reaches 100 %.
const FULL_PERCENT: u32 = 95;

/// The fill level below which a full set counts as no longer full.
const RELAXED_PERCENT: u32 = 90;

/// The maximum number of sets to log at once.
const MOST_NAMED: usize = 20;

/// Starts the thread in the caller's network namespace.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    tables: Vec<(IpFamily, Name)>,
    searches: mpsc::Receiver<ReadClients>,
    sink: Sink,
    metrics: Arc<Metrics>,
) -> Result<()> {
    threads::start("affinity", move || {
        let mut full = FullSets::default();
        let mut next_count = Instant::now();
        loop {
            match searches.recv_timeout(next_count.saturating_duration_since(Instant::now())) {
                Ok(search) => {
                    let begun = Instant::now();
                    if search_set(&tables, &search, &sink).is_err() {
                        return;
                    }
                    thread::sleep(begun.elapsed() * REST);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let begun = Instant::now();
                    match count(&tables) {
                        Ok(fills) => metrics.full_affinity_sets(full.follow(fills)),
                        Err(error) => {
                            tracing::debug!(%error, "cannot count affinity sets, will retry")
                        }
                    }
                    next_count = Instant::now() + PERIOD.max(begun.elapsed() * PART);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })
}

/// Sends the clients in batches. The last batch is always sent, so that the next search can begin.
fn search_set(tables: &[(IpFamily, Name)], search: &ReadClients, sink: &Sink) -> Result<(), Ended> {
    let ReadClients { family, name, .. } = search;
    for _ in 0..ATTEMPTS {
        let mut keys = Vec::new();
        let read = find(tables, search, &mut keys);
        for batch in keys.chunks(BATCH) {
            let keys = batch.to_vec();
            let clients = Clients { family: *family, name: name.clone(), keys, is_last: false };
            sink.send_blocking(ReconcilerInput::Clients(clients), batch.len())?;
        }
        match read {
            Ok(Reading::Complete) => break,
            Ok(Reading::Partial) => {}
            Err(error) => {
                tracing::debug!(set = %name, %error, "cannot read affinity set");
                break;
            }
        }
    }
    let clients = Clients { family: *family, name: name.clone(), keys: Vec::new(), is_last: true };
    sink.send_blocking(ReconcilerInput::Clients(clients), 1)
}

fn find(
    tables: &[(IpFamily, Name)],
    search: &ReadClients,
    found: &mut Vec<Key>,
) -> Result<Reading, DataplaneError> {
    let ReadClients { family, name, set, numbers } = search;
    let Some((_, table)) = tables.iter().find(|(of, _)| of == family) else {
        return Ok(Reading::Complete);
    };
    let is_sought =
        |value: Value| matches!(value, Value::Number(number) if numbers.contains(&number));
    NfTables::open()?.read_keys(*family, table, name, set, |key| {
        if key.values().any(is_sought) {
            found.push(key);
        }
    })
}

fn count(tables: &[(IpFamily, Name)]) -> Result<Vec<(IpFamily, SetFill)>, DataplaneError> {
    let mut kernel = NfTables::open()?;
    let mut all = Vec::new();
    for (family, table) in tables {
        all.extend(kernel.fills(*family, table)?.into_iter().map(|fill| (*family, fill)));
    }
    Ok(all)
}

/// The sets that were reported as full.
#[derive(Default)]
struct FullSets(BTreeSet<(IpFamily, Name)>);

impl FullSets {
    /// Logs changes of the full sets. Returns their number.
    fn follow(&mut self, fills: Vec<(IpFamily, SetFill)>) -> usize {
        let before = std::mem::take(&mut self.0);
        let is_full = |(family, fill): &(IpFamily, SetFill)| {
            let was_full = before.contains(&(*family, fill.name.clone()));
            fill.percent() >= if was_full { RELAXED_PERCENT } else { FULL_PERCENT }
        };
        let full: BTreeMap<(IpFamily, Name), SetFill> = fills
            .into_iter()
            .filter(is_full)
            .map(|(family, fill)| ((family, fill.name.clone()), fill))
            .collect();
        let new = full.iter().filter(|(of, _)| !before.contains(of));
        for ((family, _), fill) in new.take(MOST_NAMED) {
            let SetFill { name, count, size } = fill;
            let service = affinity_service(name).map(|service| service.to_string());
            tracing::warn!(
                service = service.as_deref().unwrap_or(name.as_str()),
                family = family.nft_name(),
                clients = count,
                limit = size,
                "session affinity set full, new clients get no affinity"
            );
        }
        for (family, name) in before.iter().filter(|of| !full.contains_key(of)).take(MOST_NAMED) {
            let service = affinity_service(name).map(|service| service.to_string());
            tracing::info!(
                service = service.as_deref().unwrap_or(name.as_str()),
                family = family.nft_name(),
                "session affinity set no longer full"
            );
        }
        self.0 = full.into_keys().collect();
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_sets_full_are_counted_with_hysteresis() {
        let mut full = FullSets::default();
        let mut follow = |counts: &[u32]| {
            let fill = |(n, count): (usize, &u32)| {
                let name = Name::from(format!("affinity/default/s{n}/tcp/"));
                (IpFamily::Ipv4, SetFill { name, count: *count, size: 65_535 })
            };
            full.follow(counts.iter().enumerate().map(fill).collect())
        };
        assert_eq!(follow(&[62_258, 0]), 0, "94.999 %");
        assert_eq!(follow(&[62_259, 65_535]), 2);
        assert_eq!(follow(&[59_000, 65_535]), 2, "90.03 %, and it was full");
        assert_eq!(follow(&[58_900, 65_535]), 1);
        assert_eq!(follow(&[59_000, 65_535]), 1, "it was not full");
        assert_eq!(follow(&[]), 0);
    }
}
