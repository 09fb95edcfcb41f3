//! `values.yaml`, `values.schema.json` and the chart's README agree.

use std::collections::BTreeSet;
use std::fs;

use rulegen_config::{KubeProxyConfiguration, read_config};
use serde_json::{Map, Value, json};

use crate::cases::cases;
use crate::common::{difference, root};
use crate::render::Chart;

#[test]
fn chart_has_the_version_of_the_program() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn chart_each_value_is_used_in_a_case() {
    let mut used = BTreeSet::new();
    for case in cases() {
        used.extend(value_paths().into_iter().filter(|path| at(&case.values, path).is_some()));
    }
    let unused: Vec<String> = value_paths().into_iter().filter(|it| !used.contains(it)).collect();
    assert!(unused.is_empty(), "no case sets {unused:?}");
}

#[test]
fn chart_each_value_has_a_description() {
    let described = value_paths();
    for (name, value) in values().as_object().unwrap() {
        if !described.contains(name) {
            let fields = value.as_object().unwrap_or_else(|| panic!("{name} has no description"));
            for path in fields.keys().map(|field| format!("{name}.{field}")) {
                assert!(described.contains(&path), "{path} has no description");
            }
        }
    }
}

#[test]
fn chart_schema_has_each_value_with_its_description() {
    let schema = schema();
    for (path, description) in descriptions() {
        let of_schema =
            property(&schema, &path).unwrap_or_else(|| panic!("values.schema.json has no {path}"));
        assert_eq!(of_schema["description"], *description, "{path}: values.schema.json differs");
    }
    let values = values();
    for name in schema["properties"].as_object().unwrap().keys() {
        // Helm's own.
        assert!(values.get(name).is_some() || name == "global", "values.yaml has no {name}");
    }
}

#[test]
fn chart_schema_rejects_unknown_fields_everywhere() {
    closed(&schema(), "values");
    for (values, message) in [
        (json!({ "clusterCIDDR": "" }), "additional properties 'clusterCIDDR' not allowed"),
        (json!({ "config": { "mode": "ipvs" } }), "additional properties 'mode' not allowed"),
        (json!({ "config": { "conntrack": { "mni": 0 } } }), "at '/config/conntrack'"),
        (json!({ "tolerations": [{ "efect": "NoExecute" }] }), "at '/tolerations/0'"),
        (json!({ "podMonitor": { "enable": true } }), "at '/podMonitor'"),
        (json!({ "mode": "ipvs" }), "at '/mode'"),
        (json!({ "apiServer": "192.0.2.1:6443" }), "at '/apiServer'"),
        (json!({ "apiServer": "" }), "at '/apiServer'"),
        (json!({ "clusterCIDR": "10.0.0.0" }), "at '/clusterCIDR'"),
        (json!({ "image": { "tag": 1 } }), "at '/image/tag'"),
        (json!({ "image": { "digest": "sha256:abc" } }), "at '/image/digest'"),
        (json!({ "maxUnavailable": 0 }), "at '/maxUnavailable'"),
        (json!({ "extraFlags": ["v=4"] }), "at '/extraFlags/0'"),
    ] {
        let rejection = Chart::of_project().rejection(&values);
        let rejection = rejection.unwrap_or_else(|| panic!("Helm accepts {values}"));
        assert!(rejection.contains(message), "{values}: {rejection}");
    }
    // What Helm adds for a chart that is part of another one.
    assert_eq!(Chart::of_project().rejection(&json!({ "global": { "any": 1 } })), None);
}

/// Each object has a list of its fields, or is a map, or is left to Kubernetes and kube-proxy.
fn closed(schema: &Value, path: &str) {
    const OPEN: [&str; 8] = [
        "values.global",
        "values.config.ipvs",
        "values.config.logging",
        "values.config.winkernel",
        "values.affinity.nodeAffinity",
        "values.affinity.podAffinity",
        "values.affinity.podAntiAffinity",
        "values.resources.claims[]",
    ];
    if schema["type"] == "object" && !OPEN.contains(&path) {
        let additional = &schema["additionalProperties"];
        assert!(*additional == false || additional.is_object(), "{path} allows unknown fields");
    }
    for (name, field) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        closed(field, &format!("{path}.{name}"));
    }
    if schema["items"].is_object() {
        closed(&schema["items"], &format!("{path}[]"));
    }
}

/// The fields of `config` in the schema are those of the configuration that the agent reads.
#[test]
fn chart_schema_has_the_fields_of_the_configuration() {
    // Values of the chart, and what does not change.
    const ELSEWHERE: [&str; 4] = ["apiVersion", "kind", "mode", "clusterCIDR"];
    let of_schema = &schema()["properties"]["config"];
    let mut all = serde_json::to_value(KubeProxyConfiguration::default()).unwrap();
    for field in ELSEWHERE {
        assert!(all.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    has_fields(of_schema, &all, "config");
    let sample = sample(of_schema);
    let (_, problems) = read_config("config.conf", sample.to_string().as_bytes());
    let unknown: Vec<String> = problems
        .iter()
        .map(ToString::to_string)
        .filter(|problem| problem.contains("unknown field"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn has_fields(schema: &Value, sample: &Value, path: &str) {
    let Some(fields) = sample.as_object().filter(|_| schema["additionalProperties"] == false)
    else {
        return;
    };
    for (name, value) in fields {
        let field = &schema["properties"][name];
        assert!(field.is_object(), "values.schema.json has no {path}.{name}");
        has_fields(field, value, &format!("{path}.{name}"));
    }
}

/// A value of a schema with all fields.
fn sample(schema: &Value) -> Value {
    if let Some(choices) = schema["enum"].as_array() {
        return choices[0].clone();
    }
    match schema["type"].as_str().unwrap() {
        "object" => {
            let none = Map::new();
            let fields = schema["properties"].as_object().unwrap_or(&none);
            fields.iter().map(|(name, field)| (name.clone(), sample(field))).collect()
        }
        "array" => json!([]),
        "boolean" => json!(true),
        "integer" | "number" => json!(1),
        _ => json!(""),
    }
}

#[test]
fn chart_readme_lists_each_value() {
    let mut table = "| value | default | description |\n|---|---|---|\n".to_owned();
    let values = values();
    for (path, description) in descriptions() {
        let default = at(&values, &path).unwrap();
        table += &format!("| `{path}` | `{default}` | {} |\n", description.replace('|', "\\|"));
    }
    let readme = read("README.md");
    let (start, end) = ("<!-- values -->\n", "<!-- end of values -->\n");
    let (before, rest) = readme.split_once(start).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = format!("{before}{start}{table}{end}{after}");
        fs::write(root().join("deploy/chart/README.md"), text).unwrap();
    } else if found != table {
        let difference = difference(&table, found);
        panic!("README.md differs from values.yaml; set UPDATE_GOLDEN=1 to update\n{difference}");
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join("deploy/chart").join(name)).unwrap()
}

fn values() -> Value {
    serde_saphyr::from_str(&read("values.yaml")).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).unwrap()
}

/// The paths of all values that have a description, such as `image.tag`.
fn value_paths() -> Vec<String> {
    descriptions().into_iter().map(|(path, _)| path).collect()
}

fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, name| value.get(name))
}

fn property<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |value, name| value.get("properties")?.get(name))
}

/// The paths and descriptions in values.yaml: a description is a comment that starts with `# --`.
fn descriptions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut comment, mut group) = (None::<String>, String::new());
    for line in read("values.yaml").lines() {
        let text = line.trim_start();
        if let Some(start) = text.strip_prefix("# -- ") {
            comment = Some(start.to_owned());
        } else if let (Some(comment), Some(more)) = (&mut comment, text.strip_prefix("# ")) {
            *comment += &format!(" {more}");
        } else if let Some((name, _)) =
            text.split_once(':').filter(|_| !text.starts_with(['#', '-']))
        {
            let name = if line == text { name.to_owned() } else { format!("{group}.{name}") };
            match comment.take() {
                Some(comment) => found.push((name, comment)),
                None if line == text => group = name,
                // Part of a value that has a description.
                None => {}
            }
        }
    }
    found
}
