//! Numbers of findings.

use rulegen_lint::{FindingSeverity, LintFinding};

/// Number of findings with a severity.
pub(super) fn count(findings: &[LintFinding], severity: FindingSeverity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}
