//! What waits for a sync that contains it.

use std::time::{Duration, SystemTime};

/// Everything that came since the last sync that succeeded: a failed one loses nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// How many Services came, went or changed.
    pub(crate) services: usize,
    /// How many EndpointSlices did.
    pub(crate) slices: usize,
    /// When what they tell began, by the cluster's clock.
    triggers: Vec<SystemTime>,
}

/// More samples than that of one sync say nothing new.
const MOST_TRIGGERS: usize = 100_000;

impl Pending {
    pub(crate) fn trigger(&mut self, time: SystemTime) {
        if self.triggers.len() < MOST_TRIGGERS {
            self.triggers.push(time);
        }
    }

    /// How long it took from each trigger until now. A clock that was set back makes it nothing.
    pub(crate) fn latencies(&self, now: SystemTime) -> Vec<Duration> {
        self.triggers.iter().map(|time| now.duration_since(*time).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_latency() {
        let (early, late) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + SECOND);
        let mut pending = Pending::default();
        pending.trigger(late);
        assert_eq!(pending.latencies(early), [Duration::ZERO]);
        assert_eq!(pending.latencies(late + SECOND), [SECOND]);
    }

    const SECOND: Duration = Duration::from_secs(1);
}
