//! Messages about values that a test file must not have. They are made from the schema and the value.

use rulegen_model::{FieldStep, nearest};
use serde_json::Value;

/// The message for a field that the schema does not have at a path.
pub(crate) fn unknown_field(root: &Value, parent: &[FieldStep], name: &str) -> String {
    not_one_of("unknown field", name, &known_fields(&schemas_at(root, parent)))
}

/// What is wrong with a value.
pub(crate) struct WrongValue {
    /// Its path.
    pub(crate) path: Vec<FieldStep>,
    pub(crate) message: String,
}

/// What the schema says is wrong with the value at a path, apart from its parts.
pub(crate) fn wrong_value(root: &Value, file: &Value, path: &[FieldStep]) -> Option<WrongValue> {
    let schemas = schemas_at(root, path);
    let value = path.iter().try_fold(file, |value, step| match step {
        FieldStep::Field(name) => value.get(name),
        FieldStep::Item(index) => value.get(index),
    })?;
    let fits: Vec<&Value> = schemas.iter().copied().filter(|of| has_type(of, value)).collect();
    let here = |message| WrongValue { path: path.to_vec(), message };
    match value {
        _ if fits.is_empty() => {
            let wanted =
                in_words(schemas.iter().flat_map(|of| types(of)).filter(|of| *of != "null"));
            let subject = if path.is_empty() { "the file " } else { "" };
            let found = in_yaml(value);
            (!wanted.is_empty()).then(|| here(format!("{subject}is {found}, use {wanted}")))
        }
        Value::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            let unknown = unknown_name(&fits, &names).map(|(name, message)| {
                let path = [path, &[FieldStep::Field(name.to_owned())]].concat();
                WrongValue { path, message }
            });
            unknown.or_else(|| wrong_number_of_fields(&fits, &names).map(here))
        }
        Value::String(text) => {
            let words: Vec<&str> = fits.iter().filter_map(|of| of.get("const")?.as_str()).collect();
            let is_wrong = words.len() == fits.len() && !words.contains(&text.as_str());
            is_wrong.then(|| here(not_one_of(&format!("unknown value {text:?}"), text, &words)))
        }
        Value::Number(number) => out_of_bounds(&fits, number.as_f64()?).map(here),
        _ => None,
    }
}

fn out_of_bounds(schemas: &[&Value], number: f64) -> Option<String> {
    let bound = |name| schemas.iter().find_map(|of| of.get(name)?.as_f64());
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if !(least..=most).contains(&number) => {
            Some(format!("{number} is not from {least} to {most}"))
        }
        (Some(least), _) if number < least => Some(format!("{number} is less than {least}")),
        (_, Some(most)) if number > most => Some(format!("{number} is more than {most}")),
        _ => None,
    }
}

/// A field that no schema has, with its message.
fn unknown_name<'a>(schemas: &[&Value], names: &[&'a str]) -> Option<(&'a str, String)> {
    let is_open = |schema: &&Value| schema.get("additionalProperties") != Some(&Value::Bool(false));
    if schemas.iter().any(is_open) {
        return None;
    }
    let known = known_fields(schemas);
    let unknown = names.iter().find(|name| !known.contains(name))?;
    Some((unknown, not_one_of("unknown field", unknown, &known)))
}

/// Too few or too many fields of an object, which may have one of these schemas.
fn wrong_number_of_fields(schemas: &[&Value], names: &[&str]) -> Option<String> {
    let lacking: Vec<Vec<&str>> =
        schemas.iter().map(|schema| lacking(schema, names)).filter(|of| !of.is_empty()).collect();
    match (schemas, lacking.as_slice()) {
        ([_], [lacking]) => Some(format!("missing: {}", lacking.join(", "))),
        // Alternatives with one field each.
        ([_, _, ..], lacking) if names.len() != 1 && !lacking.is_empty() => {
            Some(format!("give exactly one of {}", known_fields(schemas).join(", ")))
        }
        _ => None,
    }
}

/// The required fields that an object does not have.
fn lacking<'a>(schema: &'a Value, names: &[&str]) -> Vec<&'a str> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    required.filter_map(Value::as_str).filter(|name| !names.contains(name)).collect()
}

fn not_one_of(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(similar) => format!("{what}, did you mean {similar:?}?"),
        None => format!("{what}, use one of {}", known.join(", ")),
    }
}

/// The fields of some schemas.
pub(crate) fn known_fields<'a>(schemas: &[&'a Value]) -> Vec<&'a str> {
    let fields = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
    let mut fields: Vec<&str> = fields.flat_map(|of| of.keys().map(String::as_str)).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// The schemas of the value at a path.
fn schemas_at<'a>(root: &'a Value, path: &[FieldStep]) -> Vec<&'a Value> {
    path.iter().fold(alternatives(root, root), |schemas, step| {
        let parts = schemas.iter().filter_map(|schema| match step {
            FieldStep::Item(_) => schema.get("items"),
            FieldStep::Field(name) => {
                let named = schema.get("properties").and_then(|of| of.get(name));
                named.or_else(|| schema.get("additionalProperties").filter(|of| of.is_object()))
            }
        });
        parts.flat_map(|part| alternatives(root, part)).collect()
    })
}

/// A schema with references followed, or its alternatives.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(pointer.trim_start_matches('#'));
        return target.map(|target| alternatives(root, target)).unwrap_or_default();
    }
    let of = |key| schema.get(key).and_then(Value::as_array);
    match of("anyOf").or_else(|| of("oneOf")) {
        Some(all) => all.iter().flat_map(|one| alternatives(root, one)).collect(),
        None => vec![schema],
    }
}

/// The types that a schema allows, in JSON Schema's words.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let is = |of: &str| of == type_of(value) || of == "integer" && is_whole(value);
    types(schema).into_iter().any(is)
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type of a value in the words of YAML.
pub(crate) fn in_yaml(value: &Value) -> &'static str {
    with_article(type_of(value))
}

/// A type in the words of YAML.
fn with_article(of: &str) -> &'static str {
    match of {
        "null" => "empty",
        "boolean" => "true or false",
        "number" => "a number",
        "integer" => "a whole number",
        "string" => "a string",
        "array" => "a list",
        _ => "a map",
    }
}

/// Types, each once.
fn in_words<'a>(types: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in types.map(with_article) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}
