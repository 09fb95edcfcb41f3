//! Finds Services that exceed the maximum size.

use crate::error::FactResult;
use rulegen_lint::too_large;
use rulegen_model::Cluster;

use crate::finding::CheckResult;
use crate::node_facts::{NodeFacts, has_services, no_services};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|Cluster { snapshot, .. }| {
        let is_checked = has_services(snapshot) || !snapshot.too_large.is_empty();
        let findings = snapshot.too_large.iter().map(|(service, of)| too_large(service, of).into());
        Ok(if is_checked { CheckResult::Found(findings.collect()) } else { no_services() })
    })
}
