//! Verdicts as JSON. The names of fields are stable.

use anyhow::{Context, Result};
use rulegen_packet_tests::CaseVerdict;
use serde_json::{Value, json};

use super::report::{FileReport, summary};

pub(super) fn describe(reports: &[FileReport]) -> Result<String> {
    let files: Vec<Value> = reports.iter().map(file).collect();
    let all = json!({"files": files, "summary": summary(reports)});
    let text = serde_json::to_string_pretty(&all).context("cannot write the results as JSON")?;
    Ok(format!("{text}\n"))
}

fn file(report: &FileReport) -> Value {
    let cases = report.cases.iter().map(|case| {
        let mut fields = json!({"name": case.name, "mode": case.mode.word()});
        let more = match &case.verdict {
            CaseVerdict::Passed => vec![("result", json!("passed"))],
            CaseVerdict::Conditional(conditions) => {
                vec![("result", json!("conditional")), ("conditions", json!(conditions))]
            }
            CaseVerdict::Failed(failures) => {
                let failures = failures
                    .iter()
                    .map(|of| json!({"mismatches": of.mismatches, "explanation": of.explanation}));
                vec![("result", json!("failed")), ("failures", failures.collect::<Vec<_>>().into())]
            }
            CaseVerdict::Ignored(reason) => {
                vec![("result", json!("ignored")), ("reason", json!(reason))]
            }
            CaseVerdict::Wrong(problem) => {
                vec![("result", json!("error")), ("problem", json!(problem))]
            }
        };
        let notes = (!case.notes.is_empty()).then(|| ("notes", json!(case.notes)));
        let more = more.into_iter().chain(notes);
        if let Some(fields) = fields.as_object_mut() {
            fields.extend(more.map(|(key, value)| (key.to_owned(), value)));
        }
        fields
    });
    let cases: Vec<Value> = cases.collect();
    json!({"file": report.file, "problems": report.problems, "cases": cases})
}
