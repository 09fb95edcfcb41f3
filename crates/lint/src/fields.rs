//! Checks of fields that rules do not depend on: unknown, deprecated and without effect.

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use rulegen_model::{ObjectName, ProblemCode, yaml_value};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Track;

use crate::documents::LintDocument;
use crate::field_rules;
use crate::finding::LintFinding;
use crate::ignores::{ANNOTATION, Ignores};
use crate::nearest::nearest;
use crate::rule::found;

/// Maximum nesting of lists, as when reading.
const MAX_LIST_DEPTH: usize = 4;

/// The fields that are suggested for misspelt ones.
const FIELDS: [&str; 40] = [
    "addresses",
    "addressType",
    "allocateLoadBalancerNodePorts",
    "annotations",
    "appProtocol",
    "cidrs",
    "clusterIP",
    "clusterIPs",
    "conditions",
    "endpoints",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "hints",
    "hostname",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "labels",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "metadata",
    "name",
    "namespace",
    "nodeName",
    "nodePort",
    "port",
    "ports",
    "protocol",
    "publishNotReadyAddresses",
    "ready",
    "selector",
    "serving",
    "sessionAffinity",
    "sessionAffinityConfig",
    "spec",
    "targetPort",
    "terminating",
    "trafficDistribution",
];

/// Checks all objects of a document, and reads the codes that their annotations ignore.
pub(crate) fn check(document: &LintDocument, ignores: &mut Ignores) -> Vec<LintFinding> {
    let mut findings = Vec::new();
    for value in values(&document.text) {
        walk(&value, ("", ""), 0, &mut |object| {
            let of_object = object.check().into_iter().map(|of| of.at(Some(&document.source)));
            findings.extend(of_object);
            if let Some(text) = object.annotation(ANNOTATION) {
                let unknown = ignores.add_annotation(&object.name, &document.source, text);
                findings.extend(unknown);
            }
        });
    }
    findings
}

/// The values of a document: one in YAML, any number in JSON.
fn values(text: &str) -> Vec<Value> {
    if text.trim_start().starts_with(['{', '[']) {
        let json = serde_json::Deserializer::from_str(text).into_iter();
        let values: Vec<Value> = json.map_while(Result::ok).collect();
        if !values.is_empty() {
            return values;
        }
    }
    yaml_value(text).into_iter().collect()
}

/// An object as it was written.
struct RawObject<'a> {
    value: &'a Value,
    api_version: &'a str,
    name: ObjectName,
}

/// Visits the objects of lists and watch events. `list` has the version and kind of the items of a
/// typed list.
fn walk<'a>(
    value: &'a Value,
    list: (&'a str, &'a str),
    depth: usize,
    each: &mut impl FnMut(&RawObject<'a>),
) {
    if depth > MAX_LIST_DEPTH {
        return;
    }
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let api_version = text("apiVersion").unwrap_or(list.0);
    let kind = text("kind").unwrap_or(list.1);
    if let Some(items) = value.as_array().or_else(|| value.get("items")?.as_array()) {
        let of_items = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let list = of_items.map_or(("", ""), |kind| (api_version, kind));
        return items.iter().for_each(|item| walk(item, list, depth + 1, each));
    }
    if let ("", Some(object)) = (kind, value.get("object")) {
        return walk(object, ("", ""), depth + 1, each);
    }
    let known = ["Service", "EndpointSlice", "Endpoints", "ServiceCIDR"];
    let Some(kind) = known.into_iter().find(|known| *known == kind) else { return };
    let metadata = |field| value.get("metadata")?.get(field)?.as_str();
    let namespace = match kind {
        "ServiceCIDR" => "",
        _ => metadata("namespace").filter(|text| !text.is_empty()).unwrap_or("default"),
    };
    let name = metadata("name").unwrap_or_default().to_owned();
    each(&RawObject {
        value,
        api_version,
        name: ObjectName { kind, namespace: namespace.to_owned(), name },
    });
}

impl RawObject<'_> {
    fn annotation(&self, name: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    fn check(&self) -> Vec<LintFinding> {
        let findings = match (self.api_version, self.name.kind) {
            ("v1", "Service") => self.typed(|service: &Service| {
                let of_spec = field_rules::of_service(service);
                field_rules::of_annotations(&service.metadata).chain(of_spec).collect()
            }),
            ("discovery.k8s.io/v1", "EndpointSlice") => self.typed(field_rules::of_slice),
            ("v1", "Endpoints") => self.typed(|_: &Endpoints| {
                vec![deprecated(
                    "Endpoints are deprecated since Kubernetes 1.33: use EndpointSlices",
                )]
            }),
            ("networking.k8s.io/v1", "ServiceCIDR") => self.typed(|_: &ServiceCIDR| Vec::new()),
            ("networking.k8s.io/v1beta1", "ServiceCIDR") => vec![deprecated(
                "networking.k8s.io/v1beta1 is deprecated since Kubernetes 1.33: use \
                 networking.k8s.io/v1",
            )],
            _ => Vec::new(),
        };
        findings.into_iter().map(|finding| finding.about(&self.name)).collect()
    }

    /// The unknown fields, and what a check finds in the object. If it has a value of a wrong type,
    /// only that is found.
    fn typed<T: DeserializeOwned>(
        &self,
        check: impl FnOnce(&T) -> Vec<LintFinding>,
    ) -> Vec<LintFinding> {
        let (mut track, mut unknown) = (Track::new(), Vec::new());
        let tracked = serde_path_to_error::Deserializer::new(self.value, &mut track);
        let read: Result<T, serde_json::Error> =
            serde_ignored::deserialize(tracked, |path| unknown.push(path_text(&path)));
        match read {
            Err(error) => {
                let path = track.path().to_string();
                vec![found(ProblemCode::InvalidObject, path, error.to_string())]
            }
            Ok(object) => {
                let unknown = unknown.into_iter().map(unknown_field);
                unknown.chain(check(&object)).collect()
            }
        }
    }
}

fn deprecated(what: &str) -> LintFinding {
    found(ProblemCode::DeprecatedApi, "apiVersion", what)
}

fn unknown_field(path: String) -> LintFinding {
    let name = path.rsplit('.').next().unwrap_or_default();
    let what = match nearest(name, FIELDS.into_iter()) {
        Some(known) => format!("unknown field, did you mean {known:?}?"),
        None => "unknown field, which the API server rejects or drops".to_owned(),
    };
    found(ProblemCode::UnknownField, path, what)
}

fn path_text(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_text(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", path_text(parent)),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => path_text(parent),
    }
}
