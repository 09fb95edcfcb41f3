//! What is wrong with objects, told once and not with every list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rulegen_model::{Kind, ObjectKey, Problem, Severity};

/// The objects that something is wrong with.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    told: HashMap<(Kind, ObjectKey), Arc<[Problem]>>,
    /// Those of a kind whose list has begun that were not told again yet.
    doubted: HashSet<(Kind, ObjectKey)>,
}

impl Complaints {
    /// Takes in what is wrong with an object; returns it if it is new.
    pub(crate) fn about(
        &mut self,
        kind: Kind,
        key: ObjectKey,
        problems: Vec<Problem>,
    ) -> Option<Arc<[Problem]>> {
        let object = (kind, key);
        self.doubted.remove(&object);
        if problems.is_empty() {
            self.told.remove(&object);
            return None;
        }
        if self.told.get(&object).is_some_and(|told| **told == *problems) {
            return None;
        }
        let news: Arc<[Problem]> = problems.into();
        self.told.insert(object, news.clone());
        Some(news)
    }

    /// An object is gone, and with it what was wrong.
    pub(crate) fn over(&mut self, kind: Kind, key: &ObjectKey) {
        self.told.remove(&(kind, key.clone()));
    }

    /// A list of a kind begins: what is not told again is no matter.
    pub(crate) fn doubt(&mut self, kind: Kind) {
        self.doubted.retain(|(of, _)| *of != kind);
        self.doubted.extend(self.told.keys().filter(|(of, _)| *of == kind).cloned());
    }

    /// It ended.
    pub(crate) fn forget_doubted(&mut self, kind: Kind) {
        let (over, kept) = self.doubted.drain().partition(|(of, _)| *of == kind);
        self.doubted = kept;
        let over: HashSet<(Kind, ObjectKey)> = over;
        self.told.retain(|object, _| !over.contains(object));
    }

    /// How many objects of a kind had something left out.
    pub(crate) fn rejected(&self, kind: Kind) -> usize {
        let of_kind = self.told.iter().filter(|((of, _), _)| *of == kind);
        of_kind.filter(|(_, problems)| is_rejected(problems)).count()
    }

    /// What is wrong with the first so many objects that had something left out, ordered by kind
    /// and name, and how many there are.
    pub(crate) fn listed(&self, most: usize) -> (Vec<Arc<[Problem]>>, usize) {
        let rejected = self.told.iter().filter(|(_, problems)| is_rejected(problems));
        let mut rejected: Vec<_> = rejected.collect();
        rejected.sort_unstable_by_key(|(object, _)| *object);
        let first = rejected.iter().take(most).map(|(_, problems)| Arc::clone(problems));
        (first.collect(), rejected.len())
    }

    /// What is wrong with one object.
    pub(crate) fn of(&self, kind: Kind, key: &ObjectKey) -> Arc<[Problem]> {
        self.told.get(&(kind, key.clone())).cloned().unwrap_or_default()
    }
}

fn is_rejected(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity >= Severity::Warning)
}

/// What users of the cluster do is no failure of the node: notes are for those who look closer.
pub(crate) fn log(problem: &Problem) {
    if problem.severity == Severity::Note {
        tracing::debug!("{problem}");
    } else {
        tracing::warn!("{problem}");
    }
}
