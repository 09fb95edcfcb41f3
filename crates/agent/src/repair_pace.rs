//! When to repair what other programs change.

use std::time::{Duration, Instant};

/// Repairs in a row that are made at once. Firewalls flush a table of a family at a time, and make
/// their own rules afterwards: each flush must be repaired, or new connections fail.
const AT_ONCE: u32 = 8;

/// Without a repair for this long, a row has ended.
const END_OF_ROW: Duration = Duration::from_secs(10);

/// Later repairs wait for this many times as long as the last one took, but never longer than
/// [`LONGEST_PAUSE`]. So a fight with another program takes only a part of the time.
const PAUSE: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_millis(700);

/// Decides when the next repair may begin. The caller passes the time.
#[derive(Debug, Default)]
pub(crate) struct RepairPace {
    /// Repairs in this row.
    repairs: u32,
    /// The end of the last one.
    last: Option<Instant>,
    pause: Duration,
}

impl RepairPace {
    /// When a change that was noticed then may be repaired.
    pub(crate) fn may_begin(&self, noticed: Instant) -> Instant {
        let after_pause = self.last.and_then(|last| last.checked_add(self.pause));
        after_pause.map_or(noticed, |after_pause| noticed.max(after_pause))
    }

    /// A repair that took this long has ended.
    pub(crate) fn repaired(&mut self, took: Duration, now: Instant) {
        let continues = |last: Instant| now.saturating_duration_since(last) < END_OF_ROW;
        self.repairs = match self.last.is_some_and(continues) {
            true => self.repairs.saturating_add(1),
            false => 1,
        };
        self.last = Some(now);
        self.pause = match self.repairs < AT_ONCE {
            true => Duration::ZERO,
            false => took.saturating_mul(PAUSE).min(LONGEST_PAUSE),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(100);

    #[test]
    fn repair_pace_delays_repairs_after_the_first_few() {
        let (mut now, mut pace) = (Instant::now(), RepairPace::default());
        for _ in 1..AT_ONCE {
            assert_eq!(pace.may_begin(now), now);
            pace.repaired(TOOK, now);
        }
        pace.repaired(TOOK, now);
        assert_eq!(pace.may_begin(now), now + TOOK * PAUSE);
        pace.repaired(TOOK * 10, now);
        assert_eq!(pace.may_begin(now), now + LONGEST_PAUSE);
        now += END_OF_ROW;
        assert_eq!(pace.may_begin(now), now);
        pace.repaired(TOOK, now);
        assert_eq!(pace.may_begin(now), now, "a new row");
    }
}
