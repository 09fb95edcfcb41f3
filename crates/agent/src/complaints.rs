//! What is wrong with objects, told once and not with every list.

use std::collections::HashMap;

use rulegen_model::{Kind, ObjectKey, Problem, Severity};

/// The objects that something is wrong with.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    told: HashMap<(Kind, ObjectKey), Vec<Problem>>,
}

impl Complaints {
    /// Tells what is wrong with an object, if that is new.
    pub(crate) fn about(&mut self, kind: Kind, key: ObjectKey, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.told.remove(&(kind, key));
            return;
        }
        let told = self.told.entry((kind, key)).or_default();
        if *told != problems {
            problems.iter().for_each(log);
            *told = problems;
        }
    }

    /// An object is gone, and with it what was wrong.
    pub(crate) fn over(&mut self, kind: Kind, key: &ObjectKey) {
        self.told.remove(&(kind, key.clone()));
    }

    /// A list of a kind ended: what is not there any more is no matter.
    pub(crate) fn keep(&mut self, kind: Kind, is_there: impl Fn(&ObjectKey) -> bool) {
        self.told.retain(|(of, key), _| *of != kind || is_there(key));
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
