//! Changes that wait for a successful sync.

use std::time::{Duration, SystemTime};

/// All changes since the last successful sync that left none for the next. A failed sync keeps them.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The number of Service changes.
    pub(crate) services: usize,
    /// The number of EndpointSlice changes.
    pub(crate) slices: usize,
    /// The trigger times, by the cluster's clock.
    triggers: Vec<SystemTime>,
}

/// The maximum number of samples per sync.
const MOST_TRIGGERS: usize = 100_000;

impl Pending {
    pub(crate) fn trigger(&mut self, time: SystemTime) {
        if self.triggers.len() < MOST_TRIGGERS {
            self.triggers.push(time);
        }
    }

    /// The time from each trigger until now; 0 if the clock was set back.
    pub(crate) fn latencies(&self, now: SystemTime) -> Vec<Duration> {
        self.triggers.iter().map(|time| now.duration_since(*time).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programming_latency_is_zero_after_clock_was_set_back() {
        let (early, late) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + SECOND);
        let mut pending = Pending::default();
        pending.trigger(late);
        assert_eq!(pending.latencies(early), [Duration::ZERO]);
        assert_eq!(pending.latencies(late + SECOND), [SECOND]);
    }

    const SECOND: Duration = Duration::from_secs(1);
}
