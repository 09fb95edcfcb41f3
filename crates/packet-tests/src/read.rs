//! Reads a test file.

use std::collections::BTreeSet;

use rulegen_model::{YamlError, nearest};
use serde_json::Value;

use crate::file::TestFile;
use crate::problem::FileProblem;
use crate::settings_text::SettingsText;
use crate::wrong_value::{in_yaml, known_fields};

/// The JSON Schema of test files. A test compares it with the types: to make it from them when it is
/// needed would add 100 kB to the program.
pub fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/test-file.schema.json")).unwrap_or_default()
}

/// Reads a test file in YAML or JSON.
///
/// # Errors
/// It is no test file, all unknown fields, or the first field with a wrong value.
pub fn read_test_file(text: &str) -> Result<TestFile, Vec<FileProblem>> {
    let whole = |message: String| vec![FileProblem::of("", message)];
    let content = SettingsText::read(text).map_err(|error| {
        whole(match error {
            YamlError::SeveralDocuments => no_test_file(
                "it has more than one document (manifests belong in `inputs.manifests`)",
            ),
            error => format!("invalid YAML: {error}"),
        })
    })?;
    let schema = schema();
    if let Some(what) = other_content(content.value(), &schema) {
        return Err(whole(no_test_file(&what)));
    }
    let file = content.parsed(&schema)?;
    let problems = checked(&file, &content);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

fn no_test_file(what: &str) -> String {
    format!(
        "not a test file: {what}. A test file begins with `inputs: {{manifests: [FILE]}}`, followed \
         by `cases:` (rulegen test --generate writes one)"
    )
}

/// What a file holds that is no attempt at a test file.
fn other_content(value: &Value, schema: &Value) -> Option<String> {
    let fields = match value {
        Value::Null => return Some("it is empty".to_owned()),
        Value::Object(fields) if fields.is_empty() => return Some("it is empty".to_owned()),
        Value::Object(fields) => fields,
        other => return Some(format!("it is {}", in_yaml(other))),
    };
    let kind = fields.get("kind").and_then(Value::as_str);
    // The kind has a field `mode` too.
    if kind == Some("KubeProxyConfiguration") {
        return Some("it is a KubeProxyConfiguration, which belongs in `inputs.config`".to_owned());
    }
    let known = known_fields(&[schema]);
    if fields.keys().any(|name| nearest(name, known.iter().copied()).is_some()) {
        return None;
    }
    Some(match kind {
        Some(kind) => {
            format!("it is a manifest of kind {kind}, which belongs in `inputs.manifests`")
        }
        None => format!("it has none of the fields {}", known.join(", ")),
    })
}

/// What the types do not express.
fn checked(file: &TestFile, content: &SettingsText<'_>) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    if file.inputs.config.is_some() && file.inputs.configuration.is_some() {
        let message = "give either config or configuration";
        problems.push(content.problem("inputs.configuration", message));
    }
    if file.cases.is_empty() {
        problems.push(content.problem("cases", "no cases"));
    }
    let mut names = BTreeSet::new();
    for (n, case) in file.cases.iter().enumerate() {
        if !names.insert(&case.name) {
            let line = content.line(&format!("cases[{n}].name"));
            let problem = FileProblem::of("name", "another case has the same name");
            problems.push(FileProblem { line, ..problem }.in_case(&case.name));
        }
    }
    problems
}
