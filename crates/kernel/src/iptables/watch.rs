//! Watches the iptables tables for changes, as far as the kernel reports them.

use std::thread;
use std::time::{Duration, Instant};

use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::Variant;
use crate::nftables::{self, DataplaneError, Event};

/// Waits for changes to the tables of a variant. iptables-nft uses nf_tables, which reports each
/// commit with its author. For iptables-legacy the kernel sends no events, so any change is
/// possible after each poll interval.
pub struct Watcher {
    events: Option<nftables::Watcher>,
    looked: Instant,
}

/// Poll interval for iptables-legacy.
const POLL: Duration = Duration::from_secs(1);

impl Watcher {
    /// Watches from now on the chains of tables `filter` and `nat` that `concerns` accepts by name;
    /// other programs have chains in the same tables.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`].
    pub fn open(variant: Variant, concerns: fn(&str) -> bool) -> Result<Self, DataplaneError> {
        let tables = [IpFamily::Ipv4, IpFamily::Ipv6]
            .into_iter()
            .flat_map(|family| ["filter", "nat"].map(|table| (family, Name::from(table))));
        let tables: Vec<(IpFamily, Name)> = tables.collect();
        let events = match variant {
            Variant::Nft => {
                let watcher = nftables::Watcher::open(&tables, nftables::Watcher::ROOM)?;
                Some(watcher.of_chains(concerns))
            }
            Variant::Legacy => None,
        };
        Ok(Self { events, looked: Instant::now() })
    }

    /// Waits for the next events; returns [`Event::Lost`] once a second for iptables-legacy.
    ///
    /// # Errors
    /// See [`DataplaneError`].
    pub fn next(&mut self, patience: Duration) -> Result<Vec<Event>, DataplaneError> {
        if let Some(events) = &mut self.events {
            return events.next(Some(patience));
        }
        thread::sleep(patience.min(POLL.saturating_sub(self.looked.elapsed())));
        if self.looked.elapsed() < POLL {
            return Ok(Vec::new());
        }
        self.looked = Instant::now();
        Ok(vec![Event::Lost])
    }
}
