//! Services whose rules the kernel refused, and when each is retried. The caller passes the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rulegen_model::{ObjectKey, ServiceChange};

/// The Services that are left out of the rules because the kernel refuses them.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    services: BTreeMap<ObjectKey, QuarantinedService>,
}

#[derive(Debug)]
struct QuarantinedService {
    /// The error of the kernel or of iptables.
    why: String,
    /// When it was last tried.
    tried: Instant,
    /// The pause before the next retry if the Service does not change.
    pause: Duration,
    next: Instant,
}

/// The pause after the first rejection; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The minimum pause if the Service changes: each retry is a commit.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

impl Quarantine {
    pub(crate) fn holds(&self, service: &ObjectKey) -> bool {
        self.services.contains_key(service)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Records a rejection.
    pub(crate) fn refused(&mut self, service: ObjectKey, why: &str, now: Instant) {
        let before = self.services.get(&service).map(|quarantined| quarantined.pause);
        let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        let quarantined =
            QuarantinedService { why: why.to_owned(), tried: now, pause, next: now + pause };
        self.services.insert(service, quarantined);
    }

    /// Schedules the next retry of a Service that could not be tried, for an unrelated reason. The
    /// pause after the next rejection does not change.
    pub(crate) fn postpone(&mut self, service: &ObjectKey, now: Instant) {
        if let Some(quarantined) = self.services.get_mut(service) {
            quarantined.tried = now;
            quarantined.next = now + quarantined.pause.min(FIRST_PAUSE);
        }
    }

    /// Handles a change of a Service. Returns whether it is in quarantine; a deleted Service is
    /// released.
    pub(crate) fn follow(&mut self, service: &ObjectKey, change: &ServiceChange) -> bool {
        if change.after.is_empty() {
            return self.services.remove(service).is_some();
        }
        self.changed(service)
    }

    fn changed(&mut self, service: &ObjectKey) -> bool {
        let Some(quarantined) = self.services.get_mut(service) else { return false };
        quarantined.pause = FIRST_PAUSE / 2;
        quarantined.next = quarantined.next.min(quarantined.tried + LEAST_PAUSE);
        true
    }

    /// Releases a Service whose rules were accepted.
    pub(crate) fn release(&mut self, service: &ObjectKey) {
        self.services.remove(service);
    }

    /// The Services that are due for a retry.
    pub(crate) fn due(&self, now: Instant) -> Vec<ObjectKey> {
        let due = self.services.iter().filter(|(_, quarantined)| quarantined.next <= now);
        due.map(|(service, _)| service.clone()).collect()
    }

    /// When the next retry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.services.values().map(|quarantined| quarantined.next).min()
    }

    /// All Services in quarantine, each with its error.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ObjectKey, &str)> {
        self.services.iter().map(|(service, quarantined)| (service, quarantined.why.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarantined_service_is_retried_with_growing_pauses_and_earlier_if_it_changes() {
        let start = Instant::now();
        let service = ObjectKey::new("default", "web");
        let mut quarantine = Quarantine::default();
        assert_eq!((quarantine.next(), quarantine.due(start)), (None, Vec::new()));
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            quarantine.refused(service.clone(), "no", now);
            let due = now + Duration::from_secs(60 * pause);
            assert_eq!(quarantine.next(), Some(due));
            assert!(quarantine.due(due - Duration::from_millis(1)).is_empty());
            assert_eq!(quarantine.due(due), std::slice::from_ref(&service));
            now = due;
        }
        quarantine.postpone(&service, now);
        assert_eq!(
            quarantine.next(),
            Some(now + FIRST_PAUSE),
            "the retry failed for another reason"
        );
        quarantine.refused(service.clone(), "no", now);
        assert_eq!(quarantine.next(), Some(now + LONGEST_PAUSE));
        quarantine.changed(&service);
        assert_eq!(quarantine.next(), Some(now + LEAST_PAUSE));
        quarantine.refused(service.clone(), "no", now + LEAST_PAUSE);
        assert_eq!(quarantine.next(), Some(now + LEAST_PAUSE + FIRST_PAUSE));
        quarantine.release(&service);
        assert!(quarantine.is_empty() && quarantine.next().is_none());
    }
}
