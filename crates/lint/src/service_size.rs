//! Services that exceed the maximum size.

use rulegen_model::{ObjectKey, ProblemCode, TooLarge};

use crate::finding::LintFinding;

/// The finding about a Service that is too large.
pub fn too_large(service: &ObjectKey, too_large: &TooLarge) -> LintFinding {
    let ObjectKey { namespace, name } = service;
    let (total, limit) = (too_large.size.total(), too_large.limit);
    LintFinding::new(
        ProblemCode::ServiceTooLarge,
        format!(
            "Service {namespace}/{name} has no rules: its size {total} exceeds the limit {limit}"
        ),
    )
    .remedy(
        "split it into several Services, or increase --max-service-size (rulegen.maxServiceSize \
         in the configuration)",
    )
}
