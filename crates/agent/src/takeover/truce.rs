//! When to stop removing rules that another program keeps recreating.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this many removals within the window, another program is recreating the rules. Packets
/// would alternate between the two rule sets.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// How long removal pauses then.
pub(super) const PAUSE: Duration = Duration::from_secs(300);

/// The last removals. The caller passes the time.
#[derive(Debug, Default)]
pub(super) struct Truce {
    removals: VecDeque<Instant>,
    until: Option<Instant>,
}

impl Truce {
    /// No removal before this time.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Records a removal. Returns whether removals have to pause.
    pub(super) fn removed(&mut self, now: Instant) -> bool {
        let is_old = |then: &Instant| now.saturating_duration_since(*then) >= WINDOW;
        while self.removals.front().is_some_and(is_old) {
            self.removals.pop_front();
        }
        self.removals.push_back(now);
        // If it continues right after a pause, the next pause starts at once.
        let continues = self.until.is_some_and(|until| !is_old(&until));
        let is_fight = self.removals.len() >= MOST || continues;
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
    fn removal_pauses_if_another_program_keeps_recreating_rules() {
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
        // The program continues.
        assert!(truce.removed(now));
        // The program stopped.
        now += PAUSE + WINDOW;
        assert!(!truce.removed(now));
    }

    #[test]
    fn occasional_removals_do_not_cause_a_pause() {
        let (mut now, mut truce) = (Instant::now(), Truce::default());
        for _ in 0..100 {
            assert!(!truce.removed(now));
            now += WINDOW / 4;
        }
    }
}
