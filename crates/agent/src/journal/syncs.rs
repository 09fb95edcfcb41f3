//! Recent syncs.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::report::{Operations, Phase, SyncReport};

/// The number of entries kept: most of an hour of a busy cluster.
const KEPT: usize = 200;

/// The maximum length of an error message.
const LONGEST_ERROR: usize = 2000;

/// What was pending when a sync began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SyncTrigger {
    /// The number of pending Service changes.
    pub(crate) services: usize,
    /// The number of pending EndpointSlice changes.
    pub(crate) slices: usize,
    /// Whether the previous sync failed.
    pub(crate) again: bool,
    /// Whether another program had changed the rules.
    pub(crate) drift: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningSync {
    pub(crate) cause: SyncTrigger,
    pub(crate) began: Instant,
    /// Its start by the wall clock.
    pub(crate) wall: SystemTime,
}

/// A finished sync, or a series of syncs that failed with the same error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncRecord {
    pub(crate) cause: SyncTrigger,
    /// The number of Services whose rules changed.
    pub(crate) services: usize,
    /// Whether it was a full resync.
    pub(crate) full: bool,
    /// The error, if it failed.
    pub(crate) error: Option<String>,
    pub(crate) took: Duration,
    pub(crate) phases: Vec<(Phase, Duration)>,
    pub(crate) operations: Operations,
    pub(crate) bytes: usize,
    pub(crate) finished: SystemTime,
    /// The number of consecutive failures with the same error; 1 if it succeeded.
    pub(crate) times: u32,
    /// When the first of these failures ended.
    pub(crate) since: SystemTime,
}

/// The last entries, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    running: Option<RunningSync>,
    ended: VecDeque<SyncRecord>,
    /// The number of no-op resyncs since the last entry.
    no_op_resyncs: u64,
    last_success: Option<SystemTime>,
}

impl Syncs {
    /// The running sync.
    pub(crate) fn running(&self) -> Option<RunningSync> {
        self.running
    }

    /// The finished syncs, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &SyncRecord> {
        self.ended.iter().rev()
    }

    /// The number of no-op resyncs since the newest entry.
    pub(crate) fn no_op_resyncs(&self) -> u64 {
        self.no_op_resyncs
    }

    /// The time of the last success, including no-op resyncs.
    pub(crate) fn last_success(&self) -> Option<SystemTime> {
        self.last_success
    }

    /// The newest entry, if it failed and no sync succeeded since.
    pub(crate) fn failing(&self) -> Option<&SyncRecord> {
        let newest = self.ended.back()?;
        (newest.error.is_some() && self.no_op_resyncs == 0).then_some(newest)
    }

    pub(super) fn begins(&mut self, running: RunningSync) {
        self.running = Some(running);
    }

    pub(super) fn ended(&mut self, report: &SyncReport, services: usize, found_nothing: bool) {
        let cause = self.running.take().map(|running| running.cause).unwrap_or_default();
        if report.error.is_none() {
            self.last_success = Some(report.finished);
        }
        if found_nothing {
            self.no_op_resyncs += 1;
            return;
        }
        // After a no-op resync, a failure starts a new entry.
        let no_op_resyncs = std::mem::take(&mut self.no_op_resyncs);
        let mut record = record(cause, report, services);
        if let Some(before) = self.ended.back_mut()
            && record.error.is_some()
            && no_op_resyncs == 0
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

fn record(cause: SyncTrigger, report: &SyncReport, services: usize) -> SyncRecord {
    // The number of further rejections depends on what is pending.
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
