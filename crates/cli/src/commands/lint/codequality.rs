//! Findings as a Code Quality report of GitLab
//! (<https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rulegen_lint::{FindingSeverity, LintFinding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(super) fn describe(findings: &[LintFinding]) -> Result<String> {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut issues: Vec<Value> = Vec::new();
    for finding in findings {
        let name = name(finding);
        let number = alike.entry(name.clone()).or_default();
        issues.push(issue(finding, &fingerprint(&name, *number)));
        *number += 1;
    }
    let text = serde_json::to_string_pretty(&issues).context("cannot write findings as JSON")?;
    Ok(format!("{text}\n"))
}

fn issue(finding: &LintFinding, fingerprint: &str) -> Value {
    let LintFinding { code, severity, line, object, field, what, remedy, .. } = finding;
    let object = object.as_ref().map(ToString::to_string).unwrap_or_default();
    // Many sentences name the object.
    let place = match field {
        _ if object.is_empty() || what.contains(&object) => String::new(),
        Some(field) => format!("{object}: {field}: "),
        None => format!("{object}: "),
    };
    json!({
        "description": format!("{place}{what}. Fix: {remedy}."),
        "check_name": format!("rulegen/{}", code.name()),
        "fingerprint": fingerprint,
        "severity": match severity {
            FindingSeverity::Error => "major",
            FindingSeverity::Warning => "minor",
            FindingSeverity::Note => "info",
        },
        // GitLab needs a line.
        "location": {"path": path(finding), "lines": {"begin": line.unwrap_or(1)}},
    })
}

/// A path relative to the repository, as GitLab expects it.
fn path(finding: &LintFinding) -> &str {
    let file = finding.source.as_ref().map_or("-", |source| &*source.file);
    let path = file.trim_start_matches("./");
    if path == "-" { "stdin" } else { path }
}

/// What a finding is about, without its line: other changes of the file must not make it a new one.
fn name(finding: &LintFinding) -> String {
    let object = finding.object.as_ref().map(ToString::to_string).unwrap_or_default();
    let field = finding.field.as_deref().unwrap_or_default();
    [path(finding), finding.code.name(), &object, field].join("\0")
}

/// Findings with the same name are numbered: GitLab shows only one for each fingerprint.
fn fingerprint(name: &str, number: usize) -> String {
    let hash = Sha256::digest(format!("{name}\0{number}"));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
