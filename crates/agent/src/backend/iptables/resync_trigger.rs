//! When to look whether others changed our rules.

use std::time::{Duration, Instant};

use rulegen_kernel::nftables::Writer;

/// After a look in vain the next one waits so many times as long as the look took: a twentieth of
/// the time is spent on looking. iptables-legacy-save takes 0.4 s of a processor for the rules of
/// 10,000 Services, and nobody tells when it is worth it.
const REST: u32 = 19;

/// Whether somebody may have changed our rules, and who.
#[derive(Debug, Default)]
pub(super) struct ResyncTrigger {
    /// Whether there is a reason to look.
    waits: bool,
    /// Whether a look was asked for.
    looks: bool,
    writer: Option<Writer>,
    /// No look before this.
    rests_until: Option<Instant>,
}

impl ResyncTrigger {
    /// Somebody may have changed something.
    pub(super) fn suspect(&mut self, writer: Option<&Writer>) {
        // One that was looked for already has nothing to do with this.
        let known = self.writer.take().filter(|_| self.waits);
        self.writer = writer.cloned().or(known);
        self.waits = true;
    }

    /// Whether it is time to look. From then on it is being looked.
    pub(super) fn wants_resync(&mut self, now: Instant) -> bool {
        let wants = self.waits && self.rests_until.is_none_or(|until| now >= until);
        self.waits &= !wants;
        self.looks |= wants;
        wants
    }

    /// Everything that was asked for was done, in this time.
    pub(super) fn resynced(&mut self, took: Duration, has_drifted: bool, now: Instant) {
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

    const RESYNC: Duration = Duration::from_millis(100);

    #[test]
    fn looks_in_vain_take_a_twentieth_of_the_time() {
        let mut now = Instant::now();
        let (begun, mut resync_trigger, mut looks) = (now, ResyncTrigger::default(), 0);
        while now.duration_since(begun) < RESYNC * 1000 {
            resync_trigger.suspect(None);
            if resync_trigger.wants_resync(now) {
                looks += 1;
                now += RESYNC;
                resync_trigger.resynced(RESYNC, false, now);
            }
            now += Duration::from_millis(1);
        }
        assert!((49..=50).contains(&looks), "{looks}");
    }

    #[test]
    fn what_is_suspected_while_resting_is_looked_at_afterwards() {
        let now = Instant::now();
        let mut resync_trigger = ResyncTrigger::default();
        assert!(!resync_trigger.wants_resync(now), "without a reason");
        resync_trigger.suspect(None);
        assert!(resync_trigger.wants_resync(now) && !resync_trigger.wants_resync(now));
        resync_trigger.resynced(RESYNC, false, now);
        resync_trigger.suspect(None);
        assert!(!resync_trigger.wants_resync(now + RESYNC));
        assert!(resync_trigger.wants_resync(now + RESYNC * REST));
        // Who fights is fought sooner.
        resync_trigger.resynced(RESYNC, true, now);
        resync_trigger.suspect(None);
        assert!(resync_trigger.wants_resync(now + RESYNC));
    }
}
