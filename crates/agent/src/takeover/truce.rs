//! When to stop removing what somebody makes again each time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After so many removals within the window it is a fight, which nobody wins: packets meet the one
/// set of rules or the other.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// How long what somebody makes again each time is left.
pub(super) const PAUSE: Duration = Duration::from_secs(300);

/// The last removals. Knows no clock: the time is passed in.
#[derive(Debug, Default)]
pub(super) struct Truce {
    removals: VecDeque<Instant>,
    until: Option<Instant>,
}

impl Truce {
    /// Not before this.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Something was removed. Says whether it is a fight: then nothing more is removed for a while.
    pub(super) fn removed(&mut self, now: Instant) -> bool {
        let is_old = |then: &Instant| now.saturating_duration_since(*then) >= WINDOW;
        while self.removals.front().is_some_and(is_old) {
            self.removals.pop_front();
        }
        self.removals.push_back(now);
        // Where the fight goes on right after a pause, it is one at once.
        let goes_on = self.until.is_some_and(|until| !is_old(&until));
        let is_fight = self.removals.len() >= MOST || goes_on;
        if is_fight {
            self.removals.clear();
            self.until = now.checked_add(PAUSE);
        }
        is_fight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_left_for_a_while() {
        let (mut now, mut truce) = (Instant::now(), Truce::default());
        for _ in 1..MOST {
            assert!(!truce.removed(now));
            assert_eq!(truce.until(now), None);
            now += Duration::from_secs(1);
        }
        assert!(truce.removed(now));
        assert_eq!(truce.until(now), Some(now + PAUSE));
        now += PAUSE;
        assert_eq!(truce.until(now), None);
        // It goes on.
        assert!(truce.removed(now));
        // And is over.
        now += PAUSE + WINDOW;
        assert!(!truce.removed(now));
    }

    #[test]
    fn a_removal_now_and_then_is_no_fight() {
        let (mut now, mut truce) = (Instant::now(), Truce::default());
        for _ in 0..100 {
            assert!(!truce.removed(now));
            now += WINDOW / 4;
        }
    }
}
