//! Finds addresses and ports that several Services claim.

use crate::error::FactResult;
use rulegen_compiler::conflicts;
use rulegen_lint::frontend_conflict;

use crate::finding::CheckResult;
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let conflicts = conflicts(&cluster.snapshot, node.config());
        let findings = conflicts.iter().filter_map(|conflict| frontend_conflict(conflict, true));
        Ok(CheckResult::Found(findings.map(Into::into).collect()))
    })
}
