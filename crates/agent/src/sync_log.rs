//! The log lines of syncs. In a row of small syncs, each within a moment of the line before, some
//! share a line: with a change each few milliseconds, their lines would cost more than the syncs.

use std::time::{Duration, Instant};

use crate::report::{Operations, Phase, SyncReport};

/// Syncs that end within this time after a line share the next line.
const MOMENT: Duration = Duration::from_millis(100);

/// A sync of more Services has a line of its own.
const SMALL: usize = 100;

/// The line that is to be written. The caller passes the time.
#[derive(Default)]
pub(crate) struct SyncLog {
    line: Option<SyncSummary>,
    /// When the last line was written.
    last: Option<Instant>,
}

/// The sums of the syncs of a line.
#[derive(Debug, Clone, PartialEq)]
struct SyncSummary {
    syncs: usize,
    services: usize,
    full: bool,
    bytes: usize,
    took: Duration,
    phases: Vec<(Phase, Duration)>,
    operations: Operations,
    /// What was written, if there is one sync.
    written: Option<String>,
}

impl SyncLog {
    /// Logs a sync of this many Services that succeeded, now or with those that follow.
    pub(crate) fn add(
        &mut self,
        report: &SyncReport,
        services: usize,
        summary: &[String],
        now: Instant,
    ) {
        let line = SyncSummary::new(report, services, summary);
        let is_alone = report.full || services > SMALL;
        if is_alone {
            self.write();
        }
        self.line = Some(match self.line.take() {
            Some(earlier) => earlier.with(line),
            None => line,
        });
        if is_alone || self.due().is_none_or(|due| due <= now) {
            self.write();
            self.last = Some(now);
        }
    }

    /// When the line has to be written, if there is one.
    pub(crate) fn due(&self) -> Option<Instant> {
        let last = self.last.and_then(|last| last.checked_add(MOMENT));
        self.line.as_ref().and(last)
    }

    /// Writes the line if it is due.
    pub(crate) fn write_due(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.write();
            self.last = Some(now);
        }
    }

    /// Writes the line, if there is one.
    pub(crate) fn write(&mut self) {
        if let Some(line) = self.line.take() {
            line.log();
        }
    }
}

impl SyncSummary {
    fn new(report: &SyncReport, services: usize, summary: &[String]) -> Self {
        Self {
            syncs: 1,
            services,
            full: report.full,
            bytes: report.bytes,
            took: report.took,
            phases: report.phases.clone(),
            operations: report.operations,
            written: Some(summary.join("; ")),
        }
    }

    /// The sum with the line of a later sync.
    fn with(mut self, later: Self) -> Self {
        self.syncs += later.syncs;
        self.services += later.services;
        self.bytes += later.bytes;
        self.took += later.took;
        for (phase, took) in later.phases {
            match self.phases.iter_mut().find(|(of, _)| *of == phase) {
                Some((_, sum)) => *sum += took,
                None => self.phases.push((phase, took)),
            }
        }
        self.operations += later.operations;
        self.written = None;
        self
    }

    fn log(&self) {
        let phase = |searched| {
            let mut of_sync = self.phases.iter().filter(|(phase, _)| *phase == searched);
            of_sync.next().map(|(_, took)| milliseconds(*took))
        };
        let Operations { elements, rules, chains, sets, flushed_sets } = self.operations;
        tracing::info!(
            syncs = Some(self.syncs).filter(|syncs| *syncs > 1),
            services = self.services,
            full = self.full,
            bytes = self.bytes,
            milliseconds = milliseconds(self.took),
            gather_ms = phase(Phase::Gather),
            compile_ms = phase(Phase::Compile),
            read_ms = phase(Phase::Read),
            diff_ms = phase(Phase::Diff),
            commit_ms = phase(Phase::Commit),
            other_ms = phase(Phase::Other),
            elements_added = elements.added,
            elements_deleted = elements.deleted,
            rules_added = rules.added,
            rules_deleted = rules.deleted,
            chains_added = chains.added,
            chains_deleted = chains.deleted,
            sets_added = sets.added,
            sets_deleted = sets.deleted,
            sets_flushed = flushed_sets,
            written = self.written,
            "synced"
        );
    }
}

/// With microsecond resolution.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn report(full: bool) -> SyncReport {
        SyncReport {
            families: Vec::new(),
            full,
            error: None,
            took: Duration::from_millis(2),
            phases: vec![(Phase::Commit, Duration::from_millis(1))],
            operations: Operations::default(),
            bytes: 100,
            changes: Default::default(),
            finished: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn sync_log_writes_first_sync_at_once_and_sums_those_that_follow() {
        let (mut log, start) = (SyncLog::default(), Instant::now());
        log.add(&report(false), 1, &["one".to_owned()], start);
        assert_eq!((&log.line, log.due()), (&None, None), "it is written");
        for millis in [5, 10, 15] {
            let now = start + Duration::from_millis(millis);
            log.add(&report(false), 1, &["more".to_owned()], now);
        }
        let line = log.line.clone().unwrap();
        assert_eq!((line.syncs, line.services, line.bytes), (3, 3, 300));
        assert_eq!(line.took, Duration::from_millis(6));
        assert_eq!(line.phases, [(Phase::Commit, Duration::from_millis(3))]);
        assert_eq!(line.written, None);
        assert_eq!(log.due(), Some(start + MOMENT));
        log.write_due(start + MOMENT / 2);
        assert!(log.line.is_some());
        log.write_due(start + MOMENT);
        assert_eq!(log.line, None);
        log.add(&report(false), 1, &[], start + MOMENT * 3);
        assert_eq!(log.line, None, "the row has ended");
    }

    #[test]
    fn sync_log_does_not_sum_large_syncs() {
        for (full, services) in [(true, 0), (false, SMALL + 1)] {
            let (mut log, start) = (SyncLog::default(), Instant::now());
            log.add(&report(false), 1, &[], start);
            log.add(&report(false), 1, &[], start);
            log.add(&report(full), services, &[], start);
            assert_eq!(log.line, None);
        }
    }
}
