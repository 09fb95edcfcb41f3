//! Finds Services that exceed the maximum size.

use crate::error::FactResult;
use rulegen_model::{Cluster, ObjectKey, Snapshot, TooLarge};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{NodeFacts, has_services, no_services};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|Cluster { snapshot, .. }| {
        let is_checked = has_services(snapshot) || !snapshot.too_large.is_empty();
        Ok(if is_checked { CheckResult::Found(check(snapshot)) } else { no_services() })
    })
}

fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let finding = |(service, too_large): (&ObjectKey, &TooLarge)| {
        let (namespace, name) = (&service.namespace, &service.name);
        let (total, limit) = (too_large.size.total(), too_large.limit);
        Finding::error(
            FindingCode::ServiceTooLarge,
            format!(
                "Service {namespace}/{name} has no rules: its size {total} exceeds the limit {limit}"
            ),
            "split it into several Services, or increase --max-service-size (rulegen.maxServiceSize \
             in the configuration)",
        )
    };
    snapshot.too_large.iter().map(finding).collect()
}
