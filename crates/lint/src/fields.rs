//! Checks of fields that rules do not depend on: unknown, deprecated and without effect.

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use rulegen_model::{ObjectName, ProblemCode, WrongField, nearest, typed_value};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::documents::LintDocument;
use crate::field_rules;
use crate::finding::LintFinding;
use crate::ignores::{ANNOTATION, Ignores};
use crate::written::{self, WrittenObject};

/// The fields that are suggested for misspelt ones.
const FIELDS: [&str; 43] = [
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
    "podCIDR",
    "podCIDRs",
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
    "taints",
    "targetPort",
    "terminating",
    "trafficDistribution",
];

/// A document whose objects were checked.
#[derive(Default)]
pub(crate) struct CheckedDocument {
    pub(crate) findings: Vec<LintFinding>,
    /// Number of objects.
    pub(crate) objects: usize,
    /// The objects whose names the API server generates.
    pub(crate) generated: Vec<ObjectName>,
}

/// Checks all objects of a document, and reads the codes that their annotations ignore.
pub(crate) fn check(document: &LintDocument, ignores: &mut Ignores) -> CheckedDocument {
    let (mut findings, mut generated, mut count) = (Vec::new(), Vec::new(), 0);
    for value in written::values(&document.text) {
        let misspelt = written::misspelt_kinds(&value).into_iter();
        findings.extend(misspelt.map(|(kind, known)| {
            let what = format!("unknown kind {kind:?}, did you mean {known:?}?");
            let finding = LintFinding::new(ProblemCode::UnsupportedValue, what).field("kind");
            finding
                .remedy("correct the kind: the object was not checked")
                .at(Some(&document.source))
        }));
        for object in written::objects(&value) {
            count += 1;
            if object.has_generated_name() {
                generated.push(object.name.clone());
            }
            let of_object = object.check().into_iter().map(|of| of.at(Some(&document.source)));
            findings.extend(of_object);
            if let Some(text) = object.annotation(ANNOTATION) {
                let unknown = ignores.add_annotation(&object.name, &document.source, text);
                findings.extend(unknown);
            }
        }
    }
    CheckedDocument { findings, objects: count, generated }
}

impl WrittenObject<'_, Value> {
    fn annotation(&self, name: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    fn has_generated_name(&self) -> bool {
        let start = self.value.get("metadata").and_then(|of| of.get("generateName"));
        self.name.name.is_empty() && start.and_then(Value::as_str).is_some_and(|of| !of.is_empty())
    }

    fn check(&self) -> Vec<LintFinding> {
        let findings = match (self.api_version, self.name.kind) {
            ("v1", "Service") => self.typed(field_rules::of_service),
            ("discovery.k8s.io/v1", "EndpointSlice") => self.typed(field_rules::of_slice),
            ("v1", "Endpoints") => self.typed(|_: &Endpoints| {
                vec![deprecated(
                    "Endpoints are deprecated since Kubernetes 1.33: use EndpointSlices",
                )]
            }),
            ("v1", "Node") => self.typed(field_rules::of_node),
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
        let (read, unknown) = typed_value(self.value);
        match read {
            Err(WrongField { path, message }) => {
                let finding = LintFinding::new(ProblemCode::InvalidObject, message);
                vec![finding.field(path.to_string())]
            }
            Ok(object) => {
                let unknown = unknown.iter().map(|path| unknown_field(path.to_string()));
                unknown.chain(check(&object)).collect()
            }
        }
    }
}

fn deprecated(what: &str) -> LintFinding {
    LintFinding::new(ProblemCode::DeprecatedApi, what).field("apiVersion")
}

fn unknown_field(path: String) -> LintFinding {
    let name = path.rsplit('.').next().unwrap_or_default();
    let what = match nearest(name, FIELDS.into_iter()) {
        Some(known) => format!("unknown field, did you mean {known:?}?"),
        None => "unknown field, which the API server rejects or drops".to_owned(),
    };
    LintFinding::new(ProblemCode::UnknownField, what).field(path)
}
