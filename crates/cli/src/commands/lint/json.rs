//! Findings as JSON. The names of fields are stable.

use anyhow::{Context, Result};
use rulegen_lint::{FindingSeverity, LintFinding};
use serde_json::{Value, json};

use super::counts::count;

/// `hidden` is the number of findings that are not shown, `objects` that of checked objects.
pub(super) fn describe(findings: &[LintFinding], hidden: usize, objects: usize) -> Result<String> {
    let all: Vec<Value> = findings.iter().map(finding).collect();
    let report = json!({
        "findings": all,
        "summary": {
            "error": count(findings, FindingSeverity::Error),
            "warning": count(findings, FindingSeverity::Warning),
            "note": count(findings, FindingSeverity::Note),
            "hidden": hidden,
            "objects": objects,
        },
    });
    let text = serde_json::to_string_pretty(&report).context("cannot write findings as JSON")?;
    Ok(format!("{text}\n"))
}

fn finding(finding: &LintFinding) -> Value {
    let LintFinding { code, severity, source, line, object, field, what, remedy } = finding;
    let object = object.as_ref().map(
        |object| json!({"kind": object.kind, "namespace": object.namespace, "name": object.name}),
    );
    json!({
        "code": code,
        "severity": severity,
        "file": source.as_ref().map(|source| &*source.file),
        "document": source.as_ref().map(|source| source.document),
        "line": line,
        "object": object,
        "field": field,
        "message": what,
        "remedy": remedy,
    })
}
