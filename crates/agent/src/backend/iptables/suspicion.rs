//! When to look whether others changed our rules.

use std::time::{Duration, Instant};

use rulegen_kernel::nftables::Writer;

/// After a look in vain the next one waits so many times as long as the look took: a twentieth of
/// the time is spent on looking. iptables-legacy-save takes 0.4 s of a processor for the rules of
/// 10,000 Services, and nobody tells when it is worth it.
const REST: u32 = 19;

/// Whether somebody may have changed our rules, and who.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Whether there is a reason to look.
    waits: bool,
    /// Whether a look was asked for.
    looks: bool,
    writer: Option<Writer>,
    /// No look before this.
    rests_until: Option<Instant>,
}

impl Suspicion {
    /// Somebody may have changed something.
    pub(super) fn suspect(&mut self, writer: Option<&Writer>) {
        // One that was looked for already has nothing to do with this.
        let known = self.writer.take().filter(|_| self.waits);
        self.writer = writer.cloned().or(known);
        self.waits = true;
    }

    /// Whether it is time to look. From then on it is being looked.
    pub(super) fn wants_look(&mut self, now: Instant) -> bool {
        let wants = self.waits && self.rests_until.is_none_or(|until| now >= until);
        self.waits &= !wants;
        self.looks |= wants;
        wants
    }

    /// Everything that was asked for was done, in this time.
    pub(super) fn looked(&mut self, took: Duration, has_drifted: bool, now: Instant) {
        if std::mem::take(&mut self.looks) {
            let rest = if has_drifted { took } else { took.saturating_mul(REST) };
            self.rests_until = now.checked_add(rest);
        }
    }

    /// Who was suspected last, if the kernel told.
    pub(super) fn writer(&self) -> Option<Writer> {
        self.writer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    #[test]
    fn looks_in_vain_take_a_twentieth_of_the_time() {
        let mut now = Instant::now();
        let (begun, mut suspicion, mut looks) = (now, Suspicion::default(), 0);
        while now.duration_since(begun) < LOOK * 1000 {
            suspicion.suspect(None);
            if suspicion.wants_look(now) {
                looks += 1;
                now += LOOK;
                suspicion.looked(LOOK, false, now);
            }
            now += Duration::from_millis(1);
        }
        assert!((49..=50).contains(&looks), "{looks}");
    }

    #[test]
    fn what_is_suspected_while_resting_is_looked_at_afterwards() {
        let now = Instant::now();
        let mut suspicion = Suspicion::default();
        assert!(!suspicion.wants_look(now), "without a reason");
        suspicion.suspect(None);
        assert!(suspicion.wants_look(now) && !suspicion.wants_look(now));
        suspicion.looked(LOOK, false, now);
        suspicion.suspect(None);
        assert!(!suspicion.wants_look(now + LOOK));
        assert!(suspicion.wants_look(now + LOOK * REST));
        // Who fights is fought sooner.
        suspicion.looked(LOOK, true, now);
        suspicion.suspect(None);
        assert!(suspicion.wants_look(now + LOOK));
    }
}
