//! What is wrong with objects, told once and not with every list.

use std::collections::{HashMap, HashSet};

use rulegen_model::{Kind, ObjectKey, Problem, Severity};

/// The objects that something is wrong with.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    told: HashMap<(Kind, ObjectKey), Vec<Problem>>,
    /// Those of a kind whose list has begun that were not told again yet.
    doubted: HashSet<(Kind, ObjectKey)>,
}

impl Complaints {
    /// Tells what is wrong with an object, if that is new.
    pub(crate) fn about(&mut self, kind: Kind, key: ObjectKey, problems: Vec<Problem>) {
        let object = (kind, key);
        self.doubted.remove(&object);
        if problems.is_empty() {
            self.told.remove(&object);
            return;
        }
        let told = self.told.entry(object).or_default();
        if *told != problems {
            problems.iter().for_each(log);
            *told = problems;
        }
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
        let is_rejected = |problems: &[Problem]| {
            problems.iter().any(|problem| problem.severity >= Severity::Warning)
        };
        let of_kind = self.told.iter().filter(|((of, _), _)| *of == kind);
        of_kind.filter(|(_, problems)| is_rejected(problems)).count()
    }
}

/// What users of the cluster do is no failure of the node: notes are for those who look closer.
pub(crate) fn log(problem: &Problem) {
    if problem.severity == Severity::Note {
        tracing::debug!("{problem}");
    } else {
        tracing::warn!("{problem}");
    }
}
