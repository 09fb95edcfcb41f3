//! The pace of syncs.
//!
//! However little changes, iptables-legacy replaces the whole table, and the kernel validates the
//! whole table of iptables-nft at each commit. So a sync costs what the table costs: 0.2 to 1 s of
//! CPU time for 10,000 Services. While changes keep coming, syncs are limited to a share of the time
//! and each writes more changes.

use std::time::Duration;

/// After a sync the agent rests for two thirds of its duration, so that syncs take at most three
/// fifths of the time of one core.
const REST: (u32, u32) = (2, 3);

/// A change never waits longer than this for the rest to end.
const LONGEST: Duration = Duration::from_secs(5);

/// The minimum time until the next sync after one that took this long.
pub(super) fn rest_after(sync: Duration) -> Duration {
    let (part, whole) = REST;
    (sync.saturating_mul(part) / whole).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sync_scheduler::SyncScheduler;

    const SYNC: Duration = Duration::from_secs(1);
    const BETWEEN_CHANGES: Duration = Duration::from_millis(250);
    const CHANGES: u32 = 100;

    /// The times at which syncs of a duration begin, with changes at these times.
    fn syncs(changes: &[Instant], took: Duration) -> Vec<Instant> {
        let mut scheduler = SyncScheduler::new(Duration::from_millis(100));
        let (mut changes, mut begun) = (changes.iter().peekable(), Vec::new());
        loop {
            let next =
                changes.peek().copied().filter(|at| scheduler.due().is_none_or(|due| **at <= due));
            match (next, scheduler.due()) {
                (Some(change), _) => {
                    changes.next();
                    scheduler.want(*change);
                }
                (None, Some(due)) => {
                    // Changes during a sync are requested after it.
                    let end = due + took;
                    begun.push(due);
                    scheduler.done(end, rest_after(took), true);
                }
                (None, None) => return begun,
            }
        }
    }

    fn steady(from: Instant) -> Vec<Instant> {
        (0..CHANGES).map(|n| from + BETWEEN_CHANGES * n).collect()
    }

    #[test]
    fn pace_of_expensive_syncs_takes_at_most_three_fifths_of_a_core() {
        let start = Instant::now();
        let begun = syncs(&steady(start), SYNC);
        let count = u32::try_from(begun.len()).unwrap();
        // 25 s of changes, one sync each 1.67 s, and the last one.
        assert!((15..=16).contains(&count), "{count}");
        assert!(begun.windows(2).all(|two| two[1] - two[0] >= SYNC + SYNC * 2 / 3), "{begun:?}");
    }

    #[test]
    fn pace_lets_the_first_change_after_quiet_begin_at_once() {
        let start = Instant::now();
        let quiet = start + SYNC + SYNC * 2 / 3;
        assert_eq!(syncs(&[start, quiet], SYNC), [start, quiet]);
        // A change during the rest waits for its end, and no longer.
        assert_eq!(syncs(&[start, start + SYNC * 5 / 4], SYNC), [start, quiet]);
    }

    #[test]
    fn pace_of_cheap_syncs_is_the_minimum_sync_period() {
        let begun = syncs(&steady(Instant::now()), Duration::from_millis(20));
        assert_eq!(begun.len(), CHANGES as usize);
    }

    #[test]
    fn pace_delays_a_change_by_a_bounded_time() {
        assert_eq!(rest_after(Duration::from_secs(3600)), LONGEST);
    }
}
