//! Keeps rules of another mode away: leftovers at startup, and rules created later, for example by
//! a host that restores a saved ruleset.
//!
//! The kernel announces commits to nf_tables, including iptables-nft, with the writer's process.
//! For iptables-legacy there are no events: the names and sizes of its tables are compared each
//! second (two reads of /proc and a system call per table), and its rules are read when they
//! differ.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rulegen_compiler::iptables::leads_to_services;
use rulegen_config::ProxyMode;
use rulegen_kernel::iptables::{LegacyTable, Variant, legacy_tables};
use rulegen_kernel::nftables::{ChangeKind, Commit, Event, TouchedChains, Watcher, Writer};
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::iptables::Table;
use rulegen_ruleset::nftables::Name;

use super::leftovers::{Leftovers, RemovalContext, Removed};
use super::truce::{PAUSE, Truce};
use crate::drift::Drift;
use crate::error::with_causes;
use crate::input::ReconcilerInput;
use crate::intrusion::Intrusion;
use crate::source::Sink;

/// How often iptables-legacy is polled.
const POLL: Duration = Duration::from_secs(1);

/// iptables-nft-restore makes one commit per table. Removing rules after the first commit would
/// remove only half of them.
const SETTLING: Duration = Duration::from_millis(200);

/// After a read of iptables-legacy that found nothing, the next read waits this many times as long
/// as the read took.
const REST: u32 = 19;

/// The pause after a failure; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Removes rules that do not belong to the mode, repeatedly.
pub(super) struct Guard {
    mode: ProxyMode,
    rulesets: Vec<GuardedRuleset>,
    lock_timeout: Duration,
    /// The port of the agent's commits, if it can be told.
    own_port: Option<u32>,
    sink: Sink,
    truce: Truce,
    /// The iptables-legacy tables at the last read that found nothing to remove.
    legacy: Option<BTreeMap<(IpFamily, Table), LegacyTable>>,
    legacy_rests_until: Option<Instant>,
}

/// A ruleset that may contain rules of another mode, and its state.
struct GuardedRuleset {
    leftovers: Leftovers,
    /// When to check it next, if at all.
    due: Option<Instant>,
    /// Whether a check succeeded before. Rules found later were created by another program.
    was_clean: bool,
    /// The last program seen writing to it, if the kernel reported it.
    writer: Option<Writer>,
    pause: Duration,
    /// The last reported error.
    error: Option<String>,
}

impl Guard {
    pub(super) fn new(
        mode: ProxyMode,
        leftovers: Vec<Leftovers>,
        lock_timeout: Duration,
        own_port: Option<u32>,
        sink: Sink,
    ) -> Self {
        let now = Instant::now();
        let guarded = |leftovers| GuardedRuleset {
            leftovers,
            due: Some(now),
            was_clean: false,
            writer: None,
            pause: FIRST_PAUSE,
            error: None,
        };
        let rulesets = leftovers.into_iter().map(guarded).collect();
        let (truce, legacy, legacy_rests_until) = (Truce::default(), None, None);
        Self { mode, rulesets, lock_timeout, own_port, sink, truce, legacy, legacy_rests_until }
    }

    /// Does not return.
    pub(super) fn run(mut self) {
        // Opened before the first check, so that no event is missed in between.
        let mut watcher = self.open();
        let mut were_chains = false;
        let mut is_first = true;
        loop {
            were_chains |= self.check();
            if std::mem::take(&mut is_first) && were_chains && self.mode == ProxyMode::Nftables {
                warn_of_localnet();
            }
            self.wait(&mut watcher);
            self.poll_legacy();
        }
    }

    fn open(&self) -> Option<Watcher> {
        let mut tables: Vec<Name> = Vec::new();
        for ruleset in &self.rulesets {
            match &ruleset.leftovers {
                Leftovers::Tables(names) => tables.extend(names.iter().cloned()),
                Leftovers::Chains(Variant::Nft) => tables.extend(IPTABLES.map(Name::from)),
                Leftovers::Chains(Variant::Legacy) => {}
            }
        }
        let of_both =
            |name: Name| [IpFamily::Ipv4, IpFamily::Ipv6].map(|family| (family, name.clone()));
        let tables: Vec<(IpFamily, Name)> = tables.into_iter().flat_map(of_both).collect();
        let watcher = Watcher::open(&tables, Watcher::ROOM)
            .inspect_err(|error| tracing::debug!(%error, "cannot watch for rules of other modes"))
            .ok()?
            .of_chains(leads_to_services);
        Some(match self.own_port {
            Some(port) => watcher.of_others(port),
            None => watcher,
        })
    }

    /// Waits until a check is due or an event arrives.
    fn wait(&mut self, watcher: &mut Option<Watcher>) {
        let now = Instant::now();
        let due = self.rulesets.iter().filter_map(|ruleset| ruleset.due).min();
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
        for ruleset in &mut self.rulesets {
            match event {
                Event::Lost if ruleset.leftovers != Leftovers::Chains(Variant::Legacy) => {
                    ruleset.due.get_or_insert(settled);
                }
                Event::Commit(commit) if ruleset.is_affected_by(commit) => {
                    ruleset.due.get_or_insert(settled);
                    ruleset.writer = Some(commit.writer.clone());
                }
                Event::Lost | Event::Commit(_) => {}
            }
        }
    }

    /// Polls iptables-legacy, for which the kernel sends no events.
    fn poll_legacy(&mut self) {
        let now = Instant::now();
        let is_legacy =
            |ruleset: &&mut GuardedRuleset| ruleset.leftovers == Leftovers::Chains(Variant::Legacy);
        let Some(ruleset) = self.rulesets.iter_mut().find(is_legacy) else { return };
        if ruleset.due.is_some() || self.legacy_rests_until.is_some_and(|until| now < until) {
            return;
        }
        // Also limits the rate if the kernel announces many commits.
        self.legacy_rests_until = now.checked_add(POLL / 2);
        let tables: io::Result<_> = legacy_tables();
        if tables.is_ok_and(|tables| self.legacy.as_ref() != Some(&tables)) {
            ruleset.due = Some(now);
        }
    }

    /// Removes rules where a check is due. Returns whether there were iptables chains.
    fn check(&mut self) -> bool {
        let mut were_chains = false;
        let now = Instant::now();
        if self.truce.until(now).is_some() {
            return false;
        }
        for n in 0..self.rulesets.len() {
            let Some(ruleset) = self.rulesets.get_mut(n) else { continue };
            if ruleset.due.is_none_or(|due| now < due) {
                continue;
            }
            let is_legacy = ruleset.leftovers == Leftovers::Chains(Variant::Legacy);
            if is_legacy {
                // A change after this point is detected by the next poll.
                self.legacy = legacy_tables().ok();
            }
            let begun = Instant::now();
            let Some(removed) = ruleset.remove(self.lock_timeout) else { continue };
            if is_legacy && removed.what.is_empty() {
                self.legacy_rests_until = begun.checked_add(begun.elapsed().saturating_mul(REST));
            } else if is_legacy {
                // Identical rules that are created again would give the same names and sizes.
                self.legacy = None;
            }
            were_chains |=
                matches!(ruleset.leftovers, Leftovers::Chains(_)) && !removed.what.is_empty();
            let is_again = std::mem::replace(&mut ruleset.was_clean, true);
            let writer = ruleset.writer.take();
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
        // If the receiver is gone, the agent is about to exit.
        let _ = self.sink.send_blocking(ReconcilerInput::OtherMode(Box::new(intrusion)), 1);
    }
}

/// The iptables tables that a service proxy fills.
const IPTABLES: [&str; 2] = ["filter", "nat"];

impl GuardedRuleset {
    /// Whether a commit may have created rules in it.
    fn is_affected_by(&self, commit: &Commit) -> bool {
        match &self.leftovers {
            Leftovers::Tables(names) => commit.changes.iter().any(|change| {
                change.kind == ChangeKind::Added
                    && names.iter().any(|name| name.as_str() == change.table)
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

    /// Returns `None` on failure. The same error is logged once, however often the removal is
    /// retried.
    fn remove(&mut self, lock_timeout: Duration) -> Option<Removed> {
        let context = RemovalContext { were_seen: self.writer.is_some(), is_again: self.was_clean };
        match self.leftovers.remove(lock_timeout, context) {
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

/// The loopback guard rules may have been removed with the leftovers.
fn warn_of_localnet() {
    if host::routes_localnet() {
        tracing::warn!(
            "net.ipv4.conf.all.route_localnet is 1; nftables mode does not need it, set it to 0 \
             unless something else does"
        );
    }
}
