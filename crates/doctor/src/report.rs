//! The results of checks.

use rulegen_config::ProxyMode;

use crate::checks::Check;
use crate::finding::{CheckResult, Grade};
use crate::node_facts::NodeFacts;

/// The results of all checks that ran.
#[derive(Debug, Clone)]
pub struct Report {
    /// The mode that was assumed.
    pub mode: ProxyMode,
    /// The node's name, if objects were given.
    pub node: Option<String>,
    /// The results, in the order of the checks.
    pub checked: Vec<Checked>,
}

/// A check with its result.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What was checked, from [`CHECKS`](crate::CHECKS).
    pub check: &'static Check,
    /// Its result.
    pub outcome: CheckResult,
}

impl Report {
    /// Runs checks. A check that fails to run is [`CheckResult::Unknown`].
    pub fn new(node: &NodeFacts, checks: impl IntoIterator<Item = &'static Check>) -> Self {
        let checked = checks.into_iter().map(|check| {
            let outcome =
                (check.run)(node).unwrap_or_else(|error| CheckResult::Unknown(error.text()));
            Checked { check, outcome }
        });
        Self {
            mode: node.config().mode,
            node: node.cluster().map(|cluster| cluster.snapshot.node.name.clone()),
            checked: checked.collect(),
        }
    }

    /// Number of checks with a grade.
    pub fn count(&self, grade: Grade) -> usize {
        self.checked.iter().filter(|checked| checked.outcome.grade() == grade).count()
    }
}
