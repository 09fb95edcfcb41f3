//! The last syncs.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::report::{Operations, Phase, SyncReport};

/// How many are kept: most of an hour of a busy cluster's.
const KEPT: usize = 200;

/// Longer errors say nothing new.
const LONGEST_ERROR: usize = 2000;

/// Why a sync began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// Changes of Services that waited.
    pub(crate) services: usize,
    /// Changes of EndpointSlices that waited.
    pub(crate) slices: usize,
    /// Whether the sync before failed.
    pub(crate) again: bool,
    /// Whether others had changed our rules.
    pub(crate) drift: bool,
}

/// A sync that goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) cause: Cause,
    pub(crate) began: Instant,
    /// The same by the wall's clock.
    pub(crate) wall: SystemTime,
}

/// A sync that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncRecord {
    pub(crate) cause: Cause,
    /// How many Services' rules became others.
    pub(crate) services: usize,
    /// Whether everything was compared with the kernel.
    pub(crate) full: bool,
    /// Why it failed; none if it did not.
    pub(crate) error: Option<String>,
    pub(crate) took: Duration,
    pub(crate) phases: Vec<(Phase, Duration)>,
    pub(crate) operations: Operations,
    pub(crate) bytes: usize,
    pub(crate) finished: SystemTime,
    /// How often it failed alike one after the other; 1 for one that did not.
    pub(crate) times: u32,
    /// When the first of those ended.
    pub(crate) since: SystemTime,
}

/// The last ones, the newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    running: Option<Running>,
    ended: VecDeque<SyncRecord>,
    /// Looks in vain since the last that is kept.
    looks: u64,
    last_success: Option<SystemTime>,
}

impl Syncs {
    /// The one that goes on.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running
    }

    /// Those that ended, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &SyncRecord> {
        self.ended.iter().rev()
    }

    /// How often since the newest of them all was compared, and nothing was found.
    pub(crate) fn looks(&self) -> u64 {
        self.looks
    }

    /// When one last succeeded, also a look in vain.
    pub(crate) fn last_success(&self) -> Option<SystemTime> {
        self.last_success
    }

    /// The newest, if it failed and none succeeded since.
    pub(crate) fn failing(&self) -> Option<&SyncRecord> {
        let newest = self.ended.back()?;
        (newest.error.is_some() && self.looks == 0).then_some(newest)
    }

    pub(super) fn begins(&mut self, running: Running) {
        self.running = Some(running);
    }

    pub(super) fn ended(&mut self, report: &SyncReport, services: usize, found_nothing: bool) {
        let cause = self.running.take().map(|running| running.cause).unwrap_or_default();
        if report.error.is_none() {
            self.last_success = Some(report.finished);
        }
        if found_nothing {
            self.looks += 1;
            return;
        }
        // After a look in vain a failure is the first of others.
        let looks = std::mem::take(&mut self.looks);
        let mut record = record(cause, report, services);
        if let Some(before) = self.ended.back_mut()
            && record.error.is_some()
            && looks == 0
            && before.error == record.error
        {
            record.times = before.times.saturating_add(1);
            record.since = before.since;
            *before = record;
            return;
        }
        self.ended.push_back(record);
        if self.ended.len() > KEPT {
            self.ended.pop_front();
        }
    }
}

fn record(cause: Cause, report: &SyncReport, services: usize) -> SyncRecord {
    // How much was refused beside the first grows with what is pending.
    let first = |error: &String| error.split("; ").next().unwrap_or_default().to_owned();
    let cut = |error: String| error.chars().take(LONGEST_ERROR).collect();
    SyncRecord {
        cause,
        services,
        full: report.full,
        error: report.error.as_ref().map(first).map(cut),
        took: report.took,
        phases: report.phases.clone(),
        operations: report.operations,
        bytes: report.bytes,
        finished: report.finished,
        times: 1,
        since: report.finished,
    }
}
