//! Reads a [`KubeProxyConfiguration`] from a file and reports its problems.

use rulegen_model::{
    FieldPath, FieldStep, ObjectName, Problem, ProblemCode, Severity, Source, typed_value,
    yaml_value,
};
use serde_json::Value;

use crate::schema::KubeProxyConfiguration;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Maximum number of errors. After each invalid field the rest is read again, which this limits.
const MAX_ERRORS: usize = 100;

/// Reads a configuration. An unknown field is a warning. A value with which kube-proxy does not start
/// is an error, and the field gets its default.
pub fn read_config(file: &str, text: &[u8]) -> (KubeProxyConfiguration, Vec<Problem>) {
    let mut reader =
        ConfigReader { source: Source { file: file.into(), document: 1 }, problems: Vec::new() };
    let config = reader.object(text).map(|value| reader.config(value)).unwrap_or_default();
    (config, reader.problems)
}

/// Collects the problems of a file.
struct ConfigReader {
    source: Source,
    problems: Vec<Problem>,
}

impl ConfigReader {
    /// The object in the file, if it is a KubeProxyConfiguration.
    fn object(&mut self, text: &[u8]) -> Option<Value> {
        let value = std::str::from_utf8(text)
            .map_err(|error| format!("not text: byte {} is not UTF-8", error.valid_up_to()))
            .and_then(|text| yaml_value(text).map_err(|error| format!("invalid YAML: {error}")));
        let mut value = match value {
            Ok(value) => value,
            Err(message) => {
                self.problems.push(Problem::new(Severity::Error, message).at(&self.source));
                return None;
            }
        };
        match &value {
            Value::Object(_) => {}
            Value::Null => {
                self.error("", format!("empty file, expected a {KIND}"));
                return None;
            }
            _ => {
                self.error("", format!("not an object, expected a {KIND}"));
                return None;
            }
        }
        remove_nulls(&mut value);
        let [has_kind, has_version] = [("kind", KIND), ("apiVersion", API_VERSION)]
            .map(|(field, supported)| self.has_type(&value, field, supported));
        (has_kind && has_version).then_some(value)
    }

    /// Checks `kind` or `apiVersion`.
    fn has_type(&mut self, value: &Value, field: &str, supported: &str) -> bool {
        match value.get(field) {
            Some(Value::String(given)) if given == supported => return true,
            Some(given) => self.error(field, format!("unsupported value {given}, use {supported}")),
            None => self.error(field, format!("missing, use {supported}")),
        }
        false
    }

    fn config(&mut self, mut value: Value) -> KubeProxyConfiguration {
        for _ in 0..MAX_ERRORS {
            let (read, unknown) = typed_value(&value);
            let wrong = match read {
                Ok(config) => {
                    for field in unknown {
                        let problem = Problem::warning(field.to_string(), "unknown field, ignored");
                        self.push(problem.code(ProblemCode::UnknownField));
                    }
                    return config;
                }
                Err(wrong) => wrong,
            };
            self.error(&wrong.path.to_string(), wrong.message);
            if !remove(&mut value, &wrong.path) {
                break;
            }
        }
        KubeProxyConfiguration::default()
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        self.push(Problem::new(Severity::Error, message).field(field));
    }

    fn push(&mut self, problem: Problem) {
        let object = ObjectName { kind: KIND, namespace: String::new(), name: String::new() };
        self.problems.push(problem.of(&self.source, &object));
    }
}

/// A null field counts as absent.
fn remove_nulls(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    fields.retain(|_, value| !value.is_null());
    fields.values_mut().for_each(remove_nulls);
}

/// Removes the field at a path, or the list that contains it. Returns whether it existed.
fn remove(value: &mut Value, path: &FieldPath) -> bool {
    let names = path.0.iter().map_while(|step| match step {
        FieldStep::Field(name) => Some(name),
        FieldStep::Item(_) => None,
    });
    let names: Vec<&String> = names.collect();
    let Some((last, sections)) = names.split_last() else { return false };
    let section = sections.iter().try_fold(value, |value, key| value.get_mut(key));
    let fields = section.and_then(Value::as_object_mut);
    fields.is_some_and(|fields| fields.remove(*last).is_some())
}
