//! Label and field selectors.

use serde_json::Value;

use super::http::Request;
use super::kind::Kind;
use super::status::{self, Status};

/// The objects of a kind that a request selects.
pub(super) struct Selection {
    pub(super) kind: Kind,
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

struct Requirement {
    key: String,
    rule: Rule,
}

enum Rule {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selection {
    pub(super) fn new(
        kind: Kind,
        namespace: Option<&str>,
        request: &Request,
    ) -> Result<Self, Status> {
        let requirements = |parameter| requirements(request.parameter(parameter).unwrap_or(""));
        let fields = requirements("fieldSelector")?;
        let strange = fields.iter().find(|field| !kind.selectable().contains(&&*field.key));
        if let Some(strange) = strange {
            let message = format!("field label not supported: {}", strange.key);
            return Err(status::bad_request(&message));
        }
        let namespace = namespace.map(str::to_owned);
        Ok(Self { kind, namespace, labels: requirements("labelSelector")?, fields })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == **namespace)
            && self.labels.iter().all(|label| label.holds(metadata["labels"][&label.key].as_str()))
            && self.fields.iter().all(|field| field.holds(Some(&field_of(object, &field.key))))
    }

    /// Whether it has label or field selectors.
    pub(super) fn is_selective(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }
}

impl Requirement {
    /// A missing label is not in any set.
    fn holds(&self, value: Option<&str>) -> bool {
        let is_in = |set: &[String]| value.is_some_and(|value| set.iter().any(|one| one == value));
        match &self.rule {
            Rule::Exists => value.is_some(),
            Rule::Absent => value.is_none(),
            Rule::In(set) => is_in(set),
            Rule::NotIn(set) => !is_in(set),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let one = |value: &str| vec![value.trim().to_owned()];
        let (key, rule) = if let Some(key) = text.strip_prefix('!') {
            (key, Rule::Absent)
        } else if let Some((key, set)) = text.split_once(" notin ") {
            (key, Rule::NotIn(set_of(set)?))
        } else if let Some((key, set)) = text.split_once(" in ") {
            (key, Rule::In(set_of(set)?))
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Rule::NotIn(one(value)))
        } else if let Some((key, value)) = text.split_once('=') {
            (key, Rule::In(one(value.trim_start_matches('='))))
        } else {
            (text, Rule::Exists)
        };
        let key = key.trim();
        let is_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let is_good = !key.is_empty() && key.chars().all(is_key);
        is_good.then(|| Self { key: key.to_owned(), rule })
    }
}

fn requirements(text: &str) -> Result<Vec<Requirement>, Status> {
    // Commas within parentheses separate the members of a set.
    let mut depth = 0_usize;
    let parts = text.split(|c| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ',' && depth == 0
    });
    let unclear = || status::bad_request(&format!("unable to parse requirement: {text}"));
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts.map(|part| Requirement::parse(part).ok_or_else(unclear)).collect()
}

fn set_of(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

/// A missing field is an empty string or false, as in Go.
fn field_of(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, name| &value[name]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null if path == "spec.unschedulable" => "false".to_owned(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}
