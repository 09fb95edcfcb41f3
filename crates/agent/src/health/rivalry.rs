//! Detects another program that reverts rulegen's rules more often than objects change, so that
//! packets alternate between two rule sets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window in which repairs and changes are counted.
const WINDOW: Duration = Duration::from_secs(600);

/// The window is divided into slots of this length.
const PART: Duration = Duration::from_secs(60);

/// A few repairs are normal on any node.
const FEW: usize = 3;

/// Repairs and changes of the last ten minutes. The caller passes the time.
#[derive(Debug, Default)]
pub(super) struct Rivalry {
    repairs: RecentEvents,
    changes: RecentEvents,
    /// The program whose changes were reverted last.
    last: String,
    /// Until when removal of another mode's rules pauses.
    left_until: Option<Instant>,
}

impl Rivalry {
    pub(super) fn repaired(&mut self, whose: String, now: Instant) {
        self.repairs.add(now);
        self.last = whose;
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.changes.add(now);
    }

    pub(super) fn left(&mut self, pause: Duration, now: Instant) {
        self.left_until = now.checked_add(pause);
    }

    /// The warnings for people.
    pub(super) fn warnings(&self, now: Instant) -> Vec<String> {
        let (repairs, changes) = (self.repairs.count(now), self.changes.count(now));
        let minutes = WINDOW.as_secs() / 60;
        let last = &self.last;
        let is_fight = repairs >= FEW && repairs > changes;
        let fight = is_fight.then(|| {
            format!(
                "another program keeps changing the rules: {repairs} repairs and {changes} \
                 object changes in {minutes} minutes; last changed by {last}"
            )
        });
        let is_left = self.left_until.is_some_and(|until| now < until);
        let left = is_left.then(|| {
            format!(
                "{last} keeps recreating rules of another proxy mode, removal is paused; stop \
                 that program"
            )
        });
        left.into_iter().chain(fight).collect()
    }
}

/// The number of recent events.
#[derive(Debug, Default)]
struct RecentEvents(VecDeque<(Instant, usize)>);

impl RecentEvents {
    fn add(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(begun, _)| is_past(*begun, now)) {
            self.0.pop_front();
        }
        match self.0.back_mut() {
            Some((begun, count)) if now.saturating_duration_since(*begun) < PART => *count += 1,
            _ => self.0.push_back((now, 1)),
        }
    }

    fn count(&self, now: Instant) -> usize {
        let lately = self.0.iter().filter(|(begun, _)| !is_past(*begun, now));
        lately.map(|(_, count)| count).sum()
    }
}

fn is_past(begun: Instant, now: Instant) -> bool {
    now.saturating_duration_since(begun) >= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rivalry(repairs: usize, changes: usize, now: Instant) -> Rivalry {
        let mut rivalry = Rivalry::default();
        (0..repairs).for_each(|_| rivalry.repaired("nft (pid 7)".to_owned(), now));
        (0..changes).for_each(|_| rivalry.changed(now));
        rivalry
    }

    #[test]
    fn rivalry_more_repairs_than_changes_is_a_warning() {
        let now = Instant::now();
        for (repairs, changes, is_fight) in [(2, 0, false), (3, 3, false), (3, 2, true)] {
            let warnings = rivalry(repairs, changes, now).warnings(now);
            assert_eq!(warnings.len(), usize::from(is_fight), "{repairs} {changes}");
        }
        let warnings = rivalry(30, 2, now).warnings(now);
        assert!(warnings[0].contains("30 repairs") && warnings[0].contains("nft (pid 7)"));
    }

    #[test]
    fn rivalry_forgets_repairs_outside_the_window() {
        let now = Instant::now();
        let rivalry = rivalry(30, 0, now);
        assert!(rivalry.warnings(now + WINDOW).is_empty());
        // The memory use does not grow with time.
        let mut recent = RecentEvents::default();
        (0..100_000).for_each(|n| recent.add(now + Duration::from_millis(n * 100)));
        assert!(recent.0.len() <= 11, "{}", recent.0.len());
    }

    #[test]
    fn rivalry_paused_removal_of_other_mode_is_a_warning_until_it_resumes() {
        let now = Instant::now();
        let mut rivalry = rivalry(1, 0, now);
        rivalry.left(PART, now);
        assert!(rivalry.warnings(now)[0].contains("nft (pid 7)"));
        assert!(rivalry.warnings(now + PART).is_empty());
    }
}
