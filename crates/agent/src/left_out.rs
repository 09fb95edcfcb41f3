//! Services that have no rules although their objects ask for some, told once each.

use std::collections::BTreeMap;

use rulegen_model::{ObjectKey, ObjectName, Problem, Severity};

/// Why a Service is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// It is larger than the configuration allows.
    TooLarge,
    /// The kernel does not take its rules.
    Refused,
}

impl Reason {
    pub(crate) const ALL: [Reason; 2] = [Reason::TooLarge, Reason::Refused];

    /// As a label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Reason::TooLarge => "too-large",
            Reason::Refused => "refused",
        }
    }

    /// As an Event's reason.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Reason::TooLarge => "ServiceTooLarge",
            Reason::Refused => "ServiceRefusedByKernel",
        }
    }
}

/// A Service that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) reason: Reason,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Why {
    pub(crate) fn refused(by_kernel: &str) -> Self {
        let message = format!(
            "is left out: the kernel rejected its rules ({by_kernel}); rulegen retries within \
             minutes and when the Service changes"
        );
        Self { reason: Reason::Refused, message }
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

/// All that are left out.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    services: BTreeMap<ObjectKey, Why>,
}

/// What is new about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Those that are left out since now, or for another reason.
    pub(crate) left_out: Vec<(ObjectKey, Why)>,
    /// Those that are no longer.
    pub(crate) back: Vec<ObjectKey>,
}

impl LeftOut {
    pub(crate) fn len(&self) -> usize {
        self.services.len()
    }

    /// Takes in all that are left out now. Other words for the same reason are no news: figures
    /// change with each endpoint.
    pub(crate) fn replace(&mut self, services: BTreeMap<ObjectKey, Why>) -> News {
        let before = std::mem::replace(&mut self.services, services);
        let is_new = |(key, why): &(&ObjectKey, &Why)| {
            before.get(*key).is_none_or(|known| known.reason != why.reason)
        };
        let new = self.services.iter().filter(is_new);
        News {
            left_out: new.map(|(key, why)| (key.clone(), why.clone())).collect(),
            back: before.into_keys().filter(|key| !self.services.contains_key(key)).collect(),
        }
    }

    pub(crate) fn count(&self, reason: Reason) -> usize {
        self.services.values().filter(|why| why.reason == reason).count()
    }

    /// What is wrong with one of them.
    pub(crate) fn problem(&self, service: &ObjectKey) -> Option<Problem> {
        self.services.get(service).map(|why| why.problem(service))
    }

    /// The first of them by name, and why each is left out.
    pub(crate) fn first(&self, most: usize) -> impl Iterator<Item = (&ObjectKey, &Why)> {
        self.services.iter().take(most)
    }

    /// What is wrong with the first of them by name.
    pub(crate) fn problems(&self, most: usize) -> Vec<Problem> {
        self.services.iter().take(most).map(|(key, why)| why.problem(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_news_once_for_each_reason() {
        let key = |name| ObjectKey::new("default", name);
        let too_large = |message: &str| Why { reason: Reason::TooLarge, message: message.into() };
        let mut left_out = LeftOut::default();
        let first = BTreeMap::from([(key("a"), too_large("10")), (key("b"), too_large("10"))]);
        assert_eq!(left_out.replace(first).left_out.len(), 2);
        let second =
            BTreeMap::from([(key("a"), too_large("11")), (key("b"), Why::refused("EINVAL"))]);
        let news = left_out.replace(second);
        assert_eq!(news.left_out, [(key("b"), Why::refused("EINVAL"))]);
        assert_eq!(left_out.count(Reason::TooLarge), 1);
        assert!(left_out.problem(&key("a")).unwrap().to_string().ends_with("11"));
        assert_eq!(left_out.replace(BTreeMap::new()).back, [key("a"), key("b")]);
    }
}
