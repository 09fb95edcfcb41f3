//! Services that are left out of the rules, each reported once.

use std::collections::BTreeMap;

use rulegen_model::{ObjectKey, ObjectName, Problem, Severity};

/// Why a Service is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOutKind {
    /// It exceeds the configured limit.
    TooLarge,
    /// The kernel refused its rules.
    Refused,
}

impl LeftOutKind {
    pub(crate) const ALL: [LeftOutKind; 2] = [LeftOutKind::TooLarge, LeftOutKind::Refused];

    /// The value of the metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            LeftOutKind::TooLarge => "too-large",
            LeftOutKind::Refused => "refused",
        }
    }

    /// The reason of the Event.
    pub(crate) fn event(self) -> &'static str {
        match self {
            LeftOutKind::TooLarge => "ServiceTooLarge",
            LeftOutKind::Refused => "ServiceRefusedByKernel",
        }
    }
}

/// Why a Service is left out, with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOutReason {
    pub(crate) reason: LeftOutKind,
    /// What is wrong and what to do, for people.
    pub(crate) message: String,
}

impl LeftOutReason {
    pub(crate) fn refused(by_kernel: &str) -> Self {
        let message = format!(
            "is left out: the kernel refused its rules ({by_kernel}); rulegen retries within \
             minutes and when the Service changes"
        );
        Self { reason: LeftOutKind::Refused, message }
    }

    pub(crate) fn problem(&self, service: &ObjectKey) -> Problem {
        let object = ObjectName {
            kind: "Service",
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
        };
        Problem::new(Severity::Warning, self.message.clone()).about(&object)
    }
}

/// All Services that are left out.
#[derive(Debug, Default)]
pub(crate) struct LeftOutServices {
    services: BTreeMap<ObjectKey, LeftOutReason>,
}

/// The changes since the previous state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Services that are newly left out, or for another reason.
    pub(crate) left_out: Vec<(ObjectKey, LeftOutReason)>,
    /// Services that are no longer left out.
    pub(crate) back: Vec<ObjectKey>,
}

impl LeftOutServices {
    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    /// Replaces the state. A new message with the same reason does not count as a change, because
    /// the figures in it change with each endpoint.
    pub(crate) fn replace(&mut self, services: BTreeMap<ObjectKey, LeftOutReason>) -> News {
        let before = std::mem::replace(&mut self.services, services);
        let is_new = |(key, why): &(&ObjectKey, &LeftOutReason)| {
            before.get(*key).is_none_or(|known| known.reason != why.reason)
        };
        let new = self.services.iter().filter(is_new);
        News {
            left_out: new.map(|(key, why)| (key.clone(), why.clone())).collect(),
            back: before.into_keys().filter(|key| !self.services.contains_key(key)).collect(),
        }
    }

    pub(crate) fn count(&self, reason: LeftOutKind) -> usize {
        self.services.values().filter(|why| why.reason == reason).count()
    }

    /// The problem of one Service.
    pub(crate) fn problem(&self, service: &ObjectKey) -> Option<Problem> {
        self.services.get(service).map(|why| why.problem(service))
    }

    /// The first Services by name, each with its reason.
    pub(crate) fn first(&self, most: usize) -> impl Iterator<Item = (&ObjectKey, &LeftOutReason)> {
        self.services.iter().take(most)
    }

    /// The problems of the first Services by name.
    pub(crate) fn problems(&self, most: usize) -> Vec<Problem> {
        self.services.iter().take(most).map(|(key, why)| why.problem(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_service_is_reported_once_per_reason() {
        let key = |name| ObjectKey::new("default", name);
        let too_large = |message: &str| LeftOutReason {
            reason: LeftOutKind::TooLarge,
            message: message.into(),
        };
        let mut left_out = LeftOutServices::default();
        let first = BTreeMap::from([(key("a"), too_large("10")), (key("b"), too_large("10"))]);
        assert_eq!(left_out.replace(first).left_out.len(), 2);
        let second = BTreeMap::from([
            (key("a"), too_large("11")),
            (key("b"), LeftOutReason::refused("EINVAL")),
        ]);
        let news = left_out.replace(second);
        assert_eq!(news.left_out, [(key("b"), LeftOutReason::refused("EINVAL"))]);
        assert_eq!(left_out.count(LeftOutKind::TooLarge), 1);
        assert!(left_out.problem(&key("a")).unwrap().to_string().ends_with("11"));
        assert_eq!(left_out.replace(BTreeMap::new()).back, [key("a"), key("b")]);
    }
}
