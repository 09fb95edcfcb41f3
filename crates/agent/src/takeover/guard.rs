//! Keeps rules of another mode away: those that were there at the start, and those that somebody
//! makes later, such as a host that restores the rules of yesterday.
//!
//! The kernel announces commits to tables of nf_tables, those of iptables-nft among them, with who
//! made them. Of iptables-legacy it tells nothing: each second the names and the sizes of its tables
//! are compared, which takes two reads of /proc and a system call a table, and its rules are read
//! where they differ.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rulegen_compiler::iptables::leads_to_services;
use rulegen_config::ProxyMode;
use rulegen_kernel::host;
use rulegen_kernel::iptables::{LegacyTable, Variant, legacy_tables};
use rulegen_kernel::nftables::{Commit, Done, Event, TouchedChains, Watcher, Writer};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Table;
use rulegen_ruleset::nftables::Name;

use super::Intrusion;
use super::leftovers::{Leftovers, Look, Removed};
use super::truce::{PAUSE, Truce};
use crate::drift::Drift;
use crate::error::with_causes;
use crate::input::Input;
use crate::source::Sink;

/// How often iptables-legacy is looked at.
const POLL: Duration = Duration::from_secs(1);

/// iptables-nft-restore makes one commit a table: who looks at once removes half of it, and then the
/// other half.
const SETTLING: Duration = Duration::from_millis(200);

/// After rules of iptables-legacy were read without a result, the next time is so many times as far
/// away as that took.
const REST: u32 = 19;

/// After a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Removes what does not belong to the mode, again and again.
pub(super) struct Guard {
    mode: ProxyMode,
    places: Vec<Place>,
    lock_timeout: Duration,
    sink: Sink,
    truce: Truce,
    /// The tables of iptables-legacy when their rules were last read, and nothing had to be removed.
    legacy: Option<BTreeMap<(IpFamily, Table), LegacyTable>>,
    legacy_rests_until: Option<Instant>,
}

/// Where there may be something, and what is known of it.
struct Place {
    leftovers: Leftovers,
    /// When to look, if at all.
    due: Option<Instant>,
    /// Whether it was looked at without an error before: what is there is somebody's since.
    was_clean: bool,
    /// Who was seen to write there, if the kernel told.
    writer: Option<Writer>,
    pause: Duration,
    /// What was reported last.
    error: Option<String>,
}

impl Guard {
    pub(super) fn new(
        mode: ProxyMode,
        leftovers: Vec<Leftovers>,
        lock_timeout: Duration,
        sink: Sink,
    ) -> Self {
        let now = Instant::now();
        let place = |leftovers| Place {
            leftovers,
            due: Some(now),
            was_clean: false,
            writer: None,
            pause: FIRST_PAUSE,
            error: None,
        };
        let places = leftovers.into_iter().map(place).collect();
        let (truce, legacy, legacy_rests_until) = (Truce::default(), None, None);
        Self { mode, places, lock_timeout, sink, truce, legacy, legacy_rests_until }
    }

    /// Does not return.
    pub(super) fn run(mut self) {
        // Opened before the first look, so that nothing is missed between the two.
        let mut watcher = self.open();
        let mut were_chains = false;
        let mut is_first = true;
        loop {
            were_chains |= self.look();
            if std::mem::take(&mut is_first) && were_chains && self.mode == ProxyMode::Nftables {
                warn_of_localnet();
            }
            self.wait(&mut watcher);
            self.poll_legacy();
        }
    }

    fn open(&self) -> Option<Watcher> {
        let mut tables: Vec<Name> = Vec::new();
        for place in &self.places {
            match &place.leftovers {
                Leftovers::Tables(names) => tables.extend(names.iter().cloned()),
                Leftovers::Chains(Variant::Nft) => tables.extend(IPTABLES.map(Name::from)),
                Leftovers::Chains(Variant::Legacy) => {}
            }
        }
        let of_both =
            |name: Name| [IpFamily::Ipv4, IpFamily::Ipv6].map(|family| (family, name.clone()));
        let tables: Vec<(IpFamily, Name)> = tables.into_iter().flat_map(of_both).collect();
        Watcher::open(&tables, Watcher::ROOM)
            .inspect_err(|error| tracing::debug!(%error, "cannot watch for rules of other modes"))
            .ok()
            .map(|watcher| watcher.of_chains(leads_to_services))
    }

    /// Waits until something is due, or was seen.
    fn wait(&mut self, watcher: &mut Option<Watcher>) {
        let now = Instant::now();
        let due = self.places.iter().filter_map(|place| place.due).min();
        let due = due.map(|due| due.max(self.truce.until(now).unwrap_or(due)));
        let patience = due.map_or(POLL, |due| due.saturating_duration_since(now).min(POLL));
        let Some(events) = watcher.as_mut().map(|watcher| watcher.next(Some(patience))) else {
            thread::sleep(patience);
            *watcher = self.open();
            return;
        };
        match events {
            Ok(events) => events.iter().for_each(|event| self.on_ruleset_event(event)),
            Err(error) => {
                tracing::debug!(%error, "cannot watch for rules of other modes, will retry");
                *watcher = None;
                self.on_ruleset_event(&Event::Lost);
            }
        }
    }

    fn on_ruleset_event(&mut self, event: &Event) {
        let settled = Instant::now() + SETTLING;
        for place in &mut self.places {
            match event {
                Event::Lost if place.leftovers != Leftovers::Chains(Variant::Legacy) => {
                    place.due.get_or_insert(settled);
                }
                Event::Commit(commit) if place.is_entered_by(commit) => {
                    place.due.get_or_insert(settled);
                    place.writer = Some(commit.writer.clone());
                }
                Event::Lost | Event::Commit(_) => {}
            }
        }
    }

    /// Where the kernel does not tell, the programs of iptables-legacy do, each time that a look is due.
    fn poll_legacy(&mut self) {
        let now = Instant::now();
        let is_legacy = |place: &&mut Place| place.leftovers == Leftovers::Chains(Variant::Legacy);
        let Some(place) = self.places.iter_mut().find(is_legacy) else { return };
        if place.due.is_some() || self.legacy_rests_until.is_some_and(|until| now < until) {
            return;
        }
        // However often the kernel announces commits.
        self.legacy_rests_until = now.checked_add(POLL / 2);
        let tables: io::Result<_> = legacy_tables();
        if tables.is_ok_and(|tables| self.legacy.as_ref() != Some(&tables)) {
            place.due = Some(now);
        }
    }

    /// Removes what is due. Says whether there were chains of iptables.
    fn look(&mut self) -> bool {
        let mut were_chains = false;
        let now = Instant::now();
        if self.truce.until(now).is_some() {
            return false;
        }
        for n in 0..self.places.len() {
            let Some(place) = self.places.get_mut(n) else { continue };
            if place.due.is_none_or(|due| now < due) {
                continue;
            }
            let is_legacy = place.leftovers == Leftovers::Chains(Variant::Legacy);
            if is_legacy {
                // What is changed after this is seen the next time.
                self.legacy = legacy_tables().ok();
            }
            let begun = Instant::now();
            let Some(removed) = place.remove(self.lock_timeout) else { continue };
            if is_legacy && removed.what.is_empty() {
                self.legacy_rests_until = begun.checked_add(begun.elapsed().saturating_mul(REST));
            } else if is_legacy {
                // The same rules made again would look as they did before.
                self.legacy = None;
            }
            were_chains |=
                matches!(place.leftovers, Leftovers::Chains(_)) && !removed.what.is_empty();
            let is_again = std::mem::replace(&mut place.was_clean, true);
            let writer = place.writer.take();
            self.report(removed, writer, is_again);
        }
        were_chains
    }

    fn report(&mut self, removed: Removed, writer: Option<Writer>, is_again: bool) {
        let changes = removed.what;
        for chain in removed.kept.iter().filter(|_| !is_again || !changes.is_empty()) {
            tracing::info!(chain, "keeping chain, a foreign rule jumps to it");
        }
        if changes.is_empty() {
            return;
        }
        if !is_again {
            return tracing::info!(
                removed = changes.join("; "),
                "removed leftover rules of another proxy mode"
            );
        }
        let drift = Drift { writer, changes, certain: true };
        drift.log_of_other_mode();
        let intrusion = match self.truce.removed(Instant::now()) {
            true => {
                drift.log_truce(PAUSE);
                Intrusion::Left(drift, PAUSE)
            }
            false => Intrusion::Removed(drift),
        };
        // The agent is about to end where nobody listens.
        let _ = self.sink.send_blocking(Input::OtherMode(Box::new(intrusion)), 1);
    }
}

/// The tables of iptables that a service proxy fills.
const IPTABLES: [&str; 2] = ["filter", "nat"];

impl Place {
    /// Whether a commit may have made something here.
    fn is_entered_by(&self, commit: &Commit) -> bool {
        match &self.leftovers {
            Leftovers::Tables(names) => commit.changes.iter().any(|change| {
                change.done == Done::Added && names.iter().any(|name| name.as_str() == change.table)
            }),
            Leftovers::Chains(Variant::Nft) => match &commit.chains {
                TouchedChains::These(chains) => {
                    chains.iter().any(|(_, table, _)| IPTABLES.contains(&table.as_str()))
                }
                TouchedChains::Any => {
                    let mut changes = commit.changes.iter();
                    changes.any(|change| IPTABLES.contains(&change.table.as_str()))
                }
            },
            Leftovers::Chains(Variant::Legacy) => false,
        }
    }

    /// None if it failed. The same error is reported once, however often the removal is retried.
    fn remove(&mut self, lock_timeout: Duration) -> Option<Removed> {
        let look = Look { were_seen: self.writer.is_some(), is_again: self.was_clean };
        match self.leftovers.remove(lock_timeout, look) {
            Ok(removed) => {
                (self.due, self.error, self.pause) = (None, None, FIRST_PAUSE);
                Some(removed)
            }
            Err(error) => {
                let error = with_causes(&error);
                if self.error.as_ref() == Some(&error) {
                    tracing::debug!(error, "cleanup of another proxy mode's rules failed again");
                } else {
                    let leftovers = &self.leftovers;
                    tracing::warn!(
                        error,
                        ?leftovers,
                        "cleanup of another proxy mode's rules failed, will retry; if it keeps \
                         failing, run `rulegen cleanup` as root before the agent"
                    );
                }
                self.error = Some(error);
                self.due = Instant::now().checked_add(self.pause);
                self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
                None
            }
        }
    }
}

/// The guard against neighbours may have gone with the rules.
fn warn_of_localnet() {
    if host::routes_localnet() {
        tracing::warn!(
            "net.ipv4.conf.all.route_localnet is 1; nftables mode does not need it, set it to 0 \
             unless something else does"
        );
    }
}
