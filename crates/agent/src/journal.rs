//! What happened lately, for people who look: the last syncs, and what others did to our rules.
//! All of it is bounded, and whatever repeats itself is kept once.

mod drifts;
mod syncs;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::drift::Drift;
use crate::report::SyncReport;

pub(crate) use drifts::{DriftRecord, Drifts, End};
pub(crate) use syncs::{Cause, Running, SyncRecord, Syncs};

/// Where the reconciler writes it down. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Pages>>);

/// What is written down.
#[derive(Default)]
pub(crate) struct Pages {
    pub(crate) syncs: Syncs,
    pub(crate) drifts: Drifts,
}

impl Journal {
    /// A sync begins.
    pub(crate) fn begins(&self, cause: Cause, began: Instant, wall: SystemTime) {
        self.with(|pages| pages.syncs.begins(Running { cause, began, wall }));
    }

    /// It ended. It changed the rules of so many Services, or was no more than a look in vain.
    pub(crate) fn ended(&self, report: &SyncReport, services: usize, found_nothing: bool) {
        self.with(|pages| pages.syncs.ended(report, services, found_nothing));
    }

    /// Others changed our rules.
    pub(crate) fn drifted(&self, drift: &Drift, at: SystemTime) {
        self.with(|pages| pages.drifts.add(drift, at));
    }

    /// Others did something that was undone at once.
    pub(crate) fn undone(&self, drift: &Drift, at: SystemTime) {
        self.with(|pages| pages.drifts.add_undone(drift, at));
    }

    /// All that others did is right again; whether anything had to be written for that.
    pub(crate) fn repaired(&self, at: SystemTime, has_written: bool) {
        self.with(|pages| pages.drifts.end(at, has_written));
    }

    /// Reads or writes it. What is done here shall be short: the reconciler may wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Pages) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
