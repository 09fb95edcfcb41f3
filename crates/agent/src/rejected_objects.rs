//! Problems of objects, each reported once and not again with every list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rulegen_model::{Kind, ObjectKey, Problem, ProblemCode, Severity};

/// The objects with problems.
#[derive(Debug, Default)]
pub(crate) struct RejectedObjects {
    /// The problems of each object.
    problems: HashMap<(Kind, ObjectKey), Arc<[Problem]>>,
    /// Objects of a kind that have not appeared yet in the list in progress.
    unlisted: HashSet<(Kind, ObjectKey)>,
    /// Problems with addresses that Services request. Other objects affect them too, so the store
    /// decides when they are resolved.
    addresses: HashMap<ObjectKey, Arc<[Problem]>>,
}

impl RejectedObjects {
    /// Replaces the problems of an object. Returns them if they are new.
    pub(crate) fn about(
        &mut self,
        kind: Kind,
        key: ObjectKey,
        problems: Vec<Problem>,
    ) -> Option<Arc<[Problem]>> {
        let object = (kind, key);
        self.unlisted.remove(&object);
        if problems.is_empty() {
            self.problems.remove(&object);
            return None;
        }
        if self.problems.get(&object).is_some_and(|known| **known == *problems) {
            return None;
        }
        let news: Arc<[Problem]> = problems.into();
        self.problems.insert(object, news.clone());
        Some(news)
    }

    /// Replaces the problems with a Service's addresses. Returns them if they are new.
    pub(crate) fn about_addresses(
        &mut self,
        service: ObjectKey,
        problems: Vec<Problem>,
    ) -> Option<Arc<[Problem]>> {
        if problems.is_empty() {
            self.addresses.remove(&service);
            return None;
        }
        if self.addresses.get(&service).is_some_and(|known| **known == *problems) {
            return None;
        }
        let news: Arc<[Problem]> = problems.into();
        self.addresses.insert(service, news.clone());
        Some(news)
    }

    /// Removes an object that was deleted.
    pub(crate) fn deleted(&mut self, kind: Kind, key: &ObjectKey) {
        self.problems.remove(&(kind, key.clone()));
    }

    /// A list of a kind began. [`Self::list_ended`] removes objects that are not in it.
    pub(crate) fn list_began(&mut self, kind: Kind) {
        self.unlisted.retain(|(of, _)| *of != kind);
        self.unlisted.extend(self.problems.keys().filter(|(of, _)| *of == kind).cloned());
    }

    /// The list ended: removes the objects that were not in it.
    pub(crate) fn list_ended(&mut self, kind: Kind) {
        let (deleted, rest) = self.unlisted.drain().partition(|(of, _)| *of == kind);
        self.unlisted = rest;
        let deleted: HashSet<(Kind, ObjectKey)> = deleted;
        self.problems.retain(|object, _| !deleted.contains(object));
    }

    /// The number of objects of a kind that were rejected in full or in part.
    pub(crate) fn rejected(&self, kind: Kind) -> usize {
        let of_kind = self.problems.iter().filter(|((of, _), _)| *of == kind);
        let own = of_kind.filter(|(_, problems)| is_rejected(problems)).count();
        let has_own = |key: &ObjectKey| {
            self.problems.get(&(Kind::Service, key.clone())).is_some_and(|own| is_rejected(own))
        };
        let by_others = self.addresses.iter().filter(|_| kind == Kind::Service);
        let by_others =
            by_others.filter(|(key, problems)| is_rejected(problems) && !has_own(key)).count();
        own + by_others
    }

    /// The number of headless and ExternalName Services.
    pub(crate) fn services_without_rules(&self) -> usize {
        let is_one =
            |problems: &&Arc<[Problem]>| problems.iter().any(Problem::is_service_without_rules);
        self.problems.values().filter(is_one).count()
    }

    /// All objects with problems.
    fn all(&self) -> impl Iterator<Item = ((Kind, &ObjectKey), Arc<[Problem]>)> {
        let own = self.problems.iter().map(|((kind, key), problems)| {
            let addresses = self.addresses.get(key).filter(|_| *kind == Kind::Service);
            ((*kind, key), joined(Some(problems), addresses))
        });
        let has_own = |key: &ObjectKey| self.problems.contains_key(&(Kind::Service, key.clone()));
        let others = self.addresses.iter().filter(move |(key, _)| !has_own(key));
        own.chain(others.map(|(key, problems)| ((Kind::Service, key), problems.clone())))
    }

    /// The problems of the first rejected objects, ordered by kind and name, and the total number.
    pub(crate) fn listed(&self, most: usize) -> (Vec<Arc<[Problem]>>, usize) {
        let mut rejected: Vec<_> =
            self.all().filter(|(_, problems)| is_rejected(problems)).collect();
        rejected.sort_unstable_by_key(|(object, _)| *object);
        let count = rejected.len();
        (rejected.into_iter().take(most).map(|(_, problems)| problems).collect(), count)
    }

    /// The problems of one object.
    pub(crate) fn of(&self, kind: Kind, key: &ObjectKey) -> Arc<[Problem]> {
        let addresses = self.addresses.get(key).filter(|_| kind == Kind::Service);
        joined(self.problems.get(&(kind, key.clone())), addresses)
    }
}

fn joined(own: Option<&Arc<[Problem]>>, addresses: Option<&Arc<[Problem]>>) -> Arc<[Problem]> {
    match (own, addresses) {
        (Some(own), Some(addresses)) => own.iter().chain(&**addresses).cloned().collect(),
        (one, other) => one.or(other).cloned().unwrap_or_default(),
    }
}

fn is_rejected(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity >= Severity::Warning)
}

/// Errors in objects are not failures of the node. Notes are logged at debug level, those that
/// many Services have only as a number.
pub(crate) fn log(problem: &Problem) {
    if problem.is_service_without_rules() {
        return;
    }
    let source = problem.source.as_ref().map(ToString::to_string);
    let object = problem.object.as_ref().map(ToString::to_string);
    let field = problem.shown_field();
    let code = problem.code.map(ProblemCode::name);
    let problem_text = problem.shown_message();
    if problem.severity == Severity::Note {
        tracing::debug!(
            source,
            object,
            field,
            code,
            problem = problem_text,
            "note about an object"
        );
    } else {
        tracing::warn!(source, object, field, code, problem = problem_text, "problem in an object");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Service's address conflicts are kept apart from its own problems.
    #[test]
    fn rejected_objects_keep_address_conflicts_apart_from_other_problems() {
        let mut rejected_objects = RejectedObjects::default();
        let key = ObjectKey::new("aaa", "x");
        let (own, taken) = (Problem::warning("spec.type", "own"), Problem::warning("ip", "taken"));
        assert!(rejected_objects.about_addresses(key.clone(), vec![taken.clone()]).is_some());
        assert!(rejected_objects.about_addresses(key.clone(), vec![taken.clone()]).is_none());
        assert_eq!(rejected_objects.rejected(Kind::Service), 1);
        assert_eq!(rejected_objects.rejected(Kind::Node), 0);
        assert!(rejected_objects.about(Kind::Service, key.clone(), vec![own.clone()]).is_some());
        assert_eq!(rejected_objects.rejected(Kind::Service), 1);
        assert_eq!(*rejected_objects.of(Kind::Service, &key), [own.clone(), taken.clone()]);
        assert_eq!(rejected_objects.listed(9), (vec![vec![own.clone(), taken.clone()].into()], 1));
        // The Service is reported again unchanged, which says nothing about its addresses.
        assert!(rejected_objects.about(Kind::Service, key.clone(), Vec::new()).is_none());
        assert_eq!(rejected_objects.listed(9), (vec![vec![taken].into()], 1));
        assert!(rejected_objects.about_addresses(key.clone(), Vec::new()).is_none());
        assert_eq!(rejected_objects.rejected(Kind::Service), 0);
        assert!(rejected_objects.of(Kind::Service, &key).is_empty());
    }
}
