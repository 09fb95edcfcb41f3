//! Findings in the Static Analysis Results Interchange Format (SARIF), version 2.1.0.

use anyhow::{Context, Result};
use rulegen_lint::{LintFinding, LintRule, rule};
use rulegen_model::ProblemCode;
use serde_json::{Value, json};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn describe(findings: &[LintFinding]) -> Result<String> {
    let rules: Vec<Value> = ProblemCode::ALL.iter().map(|code| described(&rule(*code))).collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rulegen",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    let text = serde_json::to_string_pretty(&log).context("cannot write findings as SARIF")?;
    Ok(format!("{text}\n"))
}

fn described(rule: &LintRule) -> Value {
    json!({
        "id": rule.code,
        "shortDescription": {"text": rule.about},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": rule.severity.name()},
    })
}

fn result(finding: &LintFinding) -> Value {
    let LintFinding { code, severity, source, line, object, field, what, remedy } = finding;
    let mut location = serde_json::Map::new();
    if let Some(source) = source {
        let file = json!({"uri": uri(&source.file)});
        let physical = match line {
            Some(line) => json!({"artifactLocation": file, "region": {"startLine": line}}),
            None => json!({"artifactLocation": file}),
        };
        location.insert("physicalLocation".to_owned(), physical);
    }
    if let Some(object) = object {
        let name = match field {
            Some(field) => format!("{object}: {field}"),
            None => object.to_string(),
        };
        let logical = json!([{"fullyQualifiedName": name, "kind": "object"}]);
        location.insert("logicalLocations".to_owned(), logical);
    }
    let locations = if location.is_empty() { json!([]) } else { json!([location]) };
    let index = ProblemCode::ALL.iter().position(|of| of == code);
    json!({
        "ruleId": code,
        "ruleIndex": index,
        "level": severity.name(),
        "message": {"text": format!("{what}. Fix: {remedy}.")},
        "locations": locations,
    })
}

/// A path as a relative or absolute URI reference (RFC 3986). Standard input has no path.
fn uri(file: &str) -> String {
    let path = if file == "-" { "stdin" } else { file };
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    if path.starts_with('/') { format!("file://{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn sarif_uri_is_escaped() {
        assert_eq!(uri("a b/ü:1.yaml"), "a%20b/%C3%BC%3A1.yaml");
        assert_eq!(uri("/etc/x.yaml"), "file:///etc/x.yaml");
        assert_eq!(uri("-"), "stdin");
    }
}
