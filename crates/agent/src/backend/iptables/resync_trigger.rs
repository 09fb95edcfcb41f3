//! Decides when to read the tables after a possible change by another program.

use std::time::{Duration, Instant};

use rulegen_kernel::nftables::Writer;

/// After a no-op resync the next one waits this many times as long as the resync took, so that
/// resyncs use at most a twentieth of the time. iptables-legacy-save needs 0.4 s of CPU time for
/// 10,000 Services.
const REST: u32 = 19;

/// Whether another program may have changed the rules, and which.
#[derive(Debug, Default)]
pub(super) struct ResyncTrigger {
    /// Whether a resync is needed that was not requested yet.
    waits: bool,
    /// Whether a resync was requested and has not ended.
    requested: bool,
    writer: Option<Writer>,
    /// No resync before this time.
    rests_until: Option<Instant>,
}

impl ResyncTrigger {
    /// Another program may have changed something.
    pub(super) fn suspect(&mut self, writer: Option<&Writer>) {
        // The previous writer is unrelated if its resync was already requested.
        let known = self.writer.take().filter(|_| self.waits);
        self.writer = writer.cloned().or(known);
        self.waits = true;
    }

    /// Whether a resync is due. If so, it counts as requested.
    pub(super) fn wants_resync(&mut self, now: Instant) -> bool {
        let wants = self.waits && self.rests_until.is_none_or(|until| now >= until);
        self.waits &= !wants;
        self.requested |= wants;
        wants
    }

    /// The requested resync ended after this time.
    pub(super) fn resynced(&mut self, took: Duration, has_drifted: bool, now: Instant) {
        if std::mem::take(&mut self.requested) {
            let rest = if has_drifted { took } else { took.saturating_mul(REST) };
            self.rests_until = now.checked_add(rest);
        }
    }

    /// The last possible writer, if the kernel reported it.
    pub(super) fn writer(&self) -> Option<Writer> {
        self.writer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESYNC: Duration = Duration::from_millis(100);

    #[test]
    fn resync_without_drift_uses_at_most_five_percent_of_the_time() {
        let mut now = Instant::now();
        let (begun, mut resync_trigger, mut resyncs) = (now, ResyncTrigger::default(), 0);
        while now.duration_since(begun) < RESYNC * 1000 {
            resync_trigger.suspect(None);
            if resync_trigger.wants_resync(now) {
                resyncs += 1;
                now += RESYNC;
                resync_trigger.resynced(RESYNC, false, now);
            }
            now += Duration::from_millis(1);
        }
        assert!((49..=50).contains(&resyncs), "{resyncs}");
    }

    #[test]
    fn resync_requested_during_the_pause_runs_after_it() {
        let now = Instant::now();
        let mut resync_trigger = ResyncTrigger::default();
        assert!(!resync_trigger.wants_resync(now), "without a reason");
        resync_trigger.suspect(None);
        assert!(resync_trigger.wants_resync(now) && !resync_trigger.wants_resync(now));
        resync_trigger.resynced(RESYNC, false, now);
        resync_trigger.suspect(None);
        assert!(!resync_trigger.wants_resync(now + RESYNC));
        assert!(resync_trigger.wants_resync(now + RESYNC * REST));
        // After drift, the pause is only as long as the resync took.
        resync_trigger.resynced(RESYNC, true, now);
        resync_trigger.suspect(None);
        assert!(resync_trigger.wants_resync(now + RESYNC));
    }
}
