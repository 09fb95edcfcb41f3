//! Decides when to sync: at once after an idle time, then at most once per period, not before the
//! rest that the backend wants after an expensive sync, and with increasing pauses after failures.

use std::time::{Duration, Instant};

/// The time of the next sync. The caller passes the time.
#[derive(Debug)]
pub(crate) struct SyncScheduler {
    /// The minimum time between the ends of two syncs.
    period: Duration,
    last: Option<Instant>,
    /// The minimum time after the last sync, because of its cost.
    rest: Duration,
    requested: Option<Instant>,
    failures: u32,
}

/// The pause after the first failure; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl SyncScheduler {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, last: None, rest: Duration::ZERO, requested: None, failures: 0 }
    }

    /// Requests a sync, now or at a later time.
    pub(crate) fn want(&mut self, at: Instant) {
        self.requested = Some(self.requested.map_or(at, |requested| requested.min(at)));
    }

    /// When the next sync is due, if one was requested. May be in the past.
    pub(crate) fn due(&self) -> Option<Instant> {
        let requested = self.requested?;
        let after_failures = match self.failures {
            0 => Duration::ZERO,
            failures => FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE),
        };
        let pause = self.period.max(self.rest).max(after_failures);
        let rested = self.last.and_then(|last| last.checked_add(pause));
        Some(rested.map_or(requested, |rested| requested.max(rested)))
    }

    /// The next sync does not wait for the end of the rest.
    pub(crate) fn end_rest(&mut self) {
        self.rest = Duration::ZERO;
    }

    /// Records the end of a sync, after which the backend wants this rest. After a failure the
    /// request stays pending.
    pub(crate) fn done(&mut self, now: Instant, rest: Duration, succeeded: bool) {
        self.last = Some(now);
        self.rest = rest;
        if succeeded {
            self.requested = None;
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.requested = Some(now);
        }
    }

    /// Requests a sync without a pause, for changes that the last one left for the next. They have
    /// gathered already.
    pub(crate) fn go_on(&mut self, now: Instant) {
        self.last = None;
        self.want(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);
    const NONE: Duration = Duration::ZERO;

    #[test]
    fn sync_scheduler_repair_does_not_wait_for_the_end_of_the_rest() {
        let start = Instant::now();
        let mut scheduler = SyncScheduler::new(PERIOD);
        scheduler.want(start);
        scheduler.done(start, PERIOD * 10, true);
        scheduler.want(start);
        assert_eq!(scheduler.due(), Some(start + PERIOD * 10));
        scheduler.end_rest();
        assert_eq!(scheduler.due(), Some(start + PERIOD));
    }

    #[test]
    fn sync_scheduler_syncs_first_change_at_once_and_batches_others() {
        let start = Instant::now();
        let mut scheduler = SyncScheduler::new(PERIOD);
        assert_eq!(scheduler.due(), None);
        scheduler.want(start);
        assert_eq!(scheduler.due(), Some(start));
        scheduler.done(start, NONE, true);
        assert_eq!(scheduler.due(), None);
        scheduler.want(start + PERIOD / 4);
        scheduler.want(start + PERIOD / 2);
        assert_eq!(scheduler.due(), Some(start + PERIOD));
        scheduler.done(start + PERIOD, NONE, true);
        let later = start + PERIOD * 10;
        scheduler.want(later);
        assert_eq!(scheduler.due(), Some(later));
    }

    #[test]
    fn sync_scheduler_continues_at_once_with_changes_left_over() {
        let start = Instant::now();
        let mut scheduler = SyncScheduler::new(PERIOD);
        scheduler.want(start);
        scheduler.done(start, NONE, true);
        scheduler.go_on(start);
        assert_eq!(scheduler.due(), Some(start));
    }

    #[test]
    fn sync_scheduler_retries_failures_with_backoff() {
        let start = Instant::now();
        let mut scheduler = SyncScheduler::new(Duration::ZERO);
        scheduler.want(start);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            scheduler.done(start, NONE, false);
            pauses.push(scheduler.due().unwrap() - start);
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(|n| FIRST_PAUSE * n));
        assert_eq!(pauses[9], LONGEST_PAUSE);
        scheduler.done(start, NONE, true);
        assert_eq!(scheduler.due(), None);
        scheduler.want(start);
        assert_eq!(scheduler.due(), Some(start));
    }
}
