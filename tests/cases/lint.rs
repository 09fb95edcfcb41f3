//! Manifests for `rulegen lint` with the expected findings, in `tests/lint`: one folder per code, and
//! some for the rest (`with-…`). `output.text`, and `output-FORMAT.text` if it exists, hold the output
//! and the exit status.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::{difference, root, rulegen, stderr, stdout};
use crate::{entries, is_update, stem};

/// The prefix of folders that are not about one code.
const OTHERS: &str = "with-";

pub(crate) fn cases() -> Vec<Trial> {
    let trial = |folder: std::path::PathBuf| {
        crate::test(format!("lint::{}", stem(&folder)), move || mismatch(&folder))
    };
    let folders = entries(&root().join("tests/lint")).into_iter().map(trial);
    folders
        .chain([crate::test("lint::every_code_has_a_folder".to_owned(), folders_of_codes)])
        .collect()
}

fn mismatch(folder: &Path) -> Option<String> {
    let mut wrong = Vec::new();
    for format in ["text", "json", "sarif", "codequality"] {
        let output = match format {
            "text" => folder.join("output.text"),
            // Files with the extension json are manifests.
            _ => folder.join(format!("output-{format}.text")),
        };
        let found = run(folder, format);
        let code = stem(folder).to_owned();
        let shown = format!("[{code}]");
        if format == "text" && !code.starts_with(OTHERS) && !found.contains(&shown) {
            wrong.push(format!("no finding {shown}:\n{found}"));
        }
        if format == "sarif" {
            let text = found.rsplit_once("exit status").map_or("", |(text, _)| text);
            let read = serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            wrong.extend(read.map_or_else(Some, |log| wrong_in_sarif(&log)));
        }
        if format == "codequality" {
            let text = found.rsplit_once("exit status").map_or("", |(text, _)| text);
            let read = serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            wrong.extend(read.map_or_else(Some, |report| wrong_in_code_quality(&report)));
        }
        if format != "text" && !output.exists() {
            continue;
        }
        if is_update() {
            fs::write(&output, &found).unwrap();
        }
        let wanted = fs::read_to_string(&output).unwrap_or_default();
        if wanted != found {
            wrong.push(difference(&wanted, &found));
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("\n"))
}

fn run(folder: &Path, format: &str) -> String {
    let mut arguments = vec!["lint", "-f", ".", "--severity", "note", "-o", format];
    if folder.join("kube-proxy.conf").exists() {
        arguments.extend(["--config", "kube-proxy.conf"]);
    }
    let output = rulegen(folder, &arguments);
    let status = output.status.code().unwrap();
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let found = stdout(&output).replace(&version, "\"version\": \"VERSION\"");
    format!("{found}{}exit status {status}\n", stderr(&output))
}

fn folders_of_codes() -> Option<String> {
    let list = stdout(&rulegen(&root(), &["lint", "--list"]));
    let codes: BTreeSet<String> = list
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect();
    let folders = entries(&root().join("tests/lint"));
    let folders: BTreeSet<String> =
        folders.iter().map(|of| stem(of).to_owned()).filter(|of| !of.starts_with(OTHERS)).collect();
    (codes != folders).then(|| difference(&format!("{codes:#?}"), &format!("{folders:#?}")))
}

/// What GitLab requires of a Code Quality report.
fn wrong_in_code_quality(report: &Value) -> Option<String> {
    let issues = report.as_array().expect("a list");
    let text = |issue: &Value, path: &str| {
        let text = issue.pointer(path).and_then(Value::as_str).unwrap_or_default();
        text.to_owned()
    };
    let is_right = |issue: &&Value| {
        let has_texts = ["/description", "/check_name", "/fingerprint", "/location/path"]
            .iter()
            .all(|path| !text(issue, path).is_empty());
        let path = text(issue, "/location/path");
        let severities = ["info", "minor", "major", "critical", "blocker"];
        has_texts
            && !path.starts_with('/')
            && !path.starts_with("./")
            && severities.contains(&&*text(issue, "/severity"))
            && issue.pointer("/location/lines/begin").and_then(Value::as_u64) > Some(0)
    };
    let wrong: Vec<String> =
        issues.iter().filter(|issue| !is_right(issue)).map(Value::to_string).collect();
    let fingerprints: BTreeSet<String> =
        issues.iter().map(|issue| text(issue, "/fingerprint")).collect();
    match wrong.is_empty() {
        true if fingerprints.len() == issues.len() => None,
        true => Some("fingerprints are not unique".to_owned()),
        false => Some(wrong.join("\n")),
    }
}

/// What the schema of SARIF 2.1.0 requires of the properties that are used.
fn wrong_in_sarif(log: &Value) -> Option<String> {
    let schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
    let driver = &log["runs"][0]["tool"]["driver"];
    let rules = driver["rules"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&str> = rules.iter().filter_map(|rule| rule["id"].as_str()).collect();
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: &str, value: &Value| {
        if !holds {
            wrong.push(format!("{what}: {value}"));
        }
    };
    check(log["version"] == "2.1.0", "version", &log["version"]);
    check(log["$schema"] == schema, "$schema", &log["$schema"]);
    check(log["runs"].as_array().is_some_and(|runs| runs.len() == 1), "runs", &log["runs"]);
    check(driver["name"] == "rulegen", "name", driver);
    check(ids.iter().collect::<BTreeSet<_>>().len() == rules.len(), "rules with one id", driver);
    let levels = ["none", "note", "warning", "error"];
    let is_level = |level: &Value| level.as_str().is_some_and(|level| levels.contains(&level));
    for rule in &rules {
        check(rule["shortDescription"]["text"].is_string(), "shortDescription", rule);
        check(rule["help"]["text"].is_string(), "help", rule);
        check(is_level(&rule["defaultConfiguration"]["level"]), "level", rule);
    }
    for result in log["runs"][0]["results"].as_array().expect("results") {
        let index = result["ruleIndex"].as_u64().and_then(|index| usize::try_from(index).ok());
        let rule = index.and_then(|index| ids.get(index)).copied();
        check(rule.is_some() && result["ruleId"].as_str() == rule, "ruleId", result);
        check(is_level(&result["level"]), "level", result);
        check(result["message"]["text"].as_str().is_some_and(|of| !of.is_empty()), "text", result);
        for location in result["locations"].as_array().into_iter().flatten() {
            let physical = &location["physicalLocation"];
            let uri = physical["artifactLocation"]["uri"].as_str();
            let is_uri = uri.is_some_and(|uri| !uri.contains([' ', '\\']));
            check(is_uri || physical.is_null(), "uri", result);
            let line = &physical["region"]["startLine"];
            check(line.is_null() || line.as_u64() > Some(0), "startLine", result);
            let logical = &location["logicalLocations"];
            check(
                logical.is_null() || logical[0]["fullyQualifiedName"].is_string(),
                "name",
                result,
            );
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("\n"))
}
