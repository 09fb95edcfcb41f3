//! The recent history for the status page: syncs and drift. It is bounded, and repetitions are
//! merged.

mod drifts;
mod syncs;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::drift::Drift;
use crate::report::SyncReport;

pub(crate) use drifts::{DriftEnd, DriftRecord, Drifts};
pub(crate) use syncs::{RunningSync, SyncRecord, SyncTrigger, Syncs};

/// The shared journal. Clones share the state.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<JournalPages>>);

/// The entries.
#[derive(Default)]
pub(crate) struct JournalPages {
    pub(crate) syncs: Syncs,
    pub(crate) drifts: Drifts,
}

impl Journal {
    /// Records the start of a sync.
    pub(crate) fn begins(&self, cause: SyncTrigger, began: Instant, wall: SystemTime) {
        self.with(|pages| pages.syncs.begins(RunningSync { cause, began, wall }));
    }

    /// Records the end of the sync. `services` is the number of Services whose rules changed;
    /// `found_nothing` marks a no-op resync.
    pub(crate) fn ended(&self, report: &SyncReport, services: usize, found_nothing: bool) {
        self.with(|pages| pages.syncs.ended(report, services, found_nothing));
    }

    /// Records a change by another program.
    pub(crate) fn drifted(&self, drift: &Drift, at: SystemTime) {
        self.with(|pages| pages.drifts.add(drift, at));
    }

    /// Records changes by another program that were reverted at once.
    pub(crate) fn undone(&self, drift: &Drift, at: SystemTime) {
        self.with(|pages| pages.drifts.add_undone(drift, at));
    }

    /// Records that all drift is resolved, and whether anything had to be written.
    pub(crate) fn repaired(&self, at: SystemTime, has_written: bool) {
        self.with(|pages| pages.drifts.end(at, has_written));
    }

    /// Reads or changes the journal. The closure should be short, because the reconciler may wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut JournalPages) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
