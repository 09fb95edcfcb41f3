//! Checks of a running cluster's objects, for the doctor.

use std::sync::Arc;

use rulegen_model::{
    Kind, Metadata, ObjectName, Objects, Problem, ProblemCode, Service, Snapshot, Sourced,
    node_problems, typed_value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::field_rules::{of_node, of_service, of_slice};
use crate::finding::LintFinding;
use crate::lint::of_problem;
use crate::references::{self, object_name};
use crate::source_ranges;

/// The objects of a running cluster.
#[derive(Debug, Clone, Copy)]
pub struct ClusterObjects<'a> {
    /// Services, EndpointSlices and Nodes, as the API server has them.
    pub objects: &'a Objects,
    /// Their snapshot for one node.
    pub snapshot: &'a Snapshot,
    /// What reading the objects and building the snapshot found.
    pub problems: &'a [Problem],
    /// Whether all Nodes are among the objects, or only one.
    pub has_all_nodes: bool,
}

/// The findings about a running cluster's objects that do not depend on a node. Fields that rules do not
/// depend on are not kept in memory, and not checked.
pub fn lint_cluster(cluster: ClusterObjects<'_>) -> Vec<LintFinding> {
    let ClusterObjects { objects, snapshot, problems, has_all_nodes } = cluster;
    let known = problems.iter().filter(|problem| problem.code.is_some()).cloned();
    let mut findings: Vec<LintFinding> = known.map(of_problem).collect();
    findings.extend(objects.nodes.iter().flat_map(node_problems).map(of_problem));
    findings.extend(source_ranges::of_services(&objects.services));
    findings.extend(references::cluster_ips_outside(objects, &snapshot.service_cidrs));
    findings.extend(references::unknown_services(objects));
    if has_all_nodes {
        findings.extend(references::unknown_nodes(objects));
    }
    findings.extend(fields(objects));
    findings.retain(|finding| is_of_cluster(finding.code));
    findings
        .sort_by_cached_key(|of| (of.code, of.object.clone(), of.field.clone(), of.what.clone()));
    // Reading found the problems of this node's Node too.
    findings.dedup_by(|a, b| {
        (a.code, &a.object, &a.field, &a.what) == (b.code, &b.object, &b.field, &b.what)
    });
    findings
}

/// Whether the code is of a fault of a cluster's objects that no node is needed to evaluate.
fn is_of_cluster(code: ProblemCode) -> bool {
    use ProblemCode as Code;
    match code {
        // The doctor does not run with such an input.
        Code::UnreadableInput | Code::InvalidDocument | Code::NotAnObject | Code::EmptyInput => {
            false
        }
        // Traffic does not depend on it.
        Code::UnknownField | Code::DeprecatedField | Code::DeprecatedApi | Code::UnknownCode => {
            false
        }
        // No faults.
        Code::ClusterIpMissing | Code::NeedsNoRules | Code::OtherProxy | Code::NoSlices => false,
        // The doctor has a check for each, which uses facts of the node.
        Code::ServiceTooLarge
        | Code::FrontendConflict
        | Code::NoEndpointSlice
        | Code::EmptyEndpointSlices
        | Code::NoSuchEndpointPort
        | Code::NoReadyEndpoints
        | Code::OnlyTerminatingEndpoints
        | Code::NoLocalEndpoints
        | Code::NodePortsEphemeral => false,
        Code::InvalidObject
        | Code::UnsupportedVersion
        | Code::DuplicateObject
        | Code::InvalidName
        | Code::MissingField
        | Code::UnsupportedValue
        | Code::InvalidAddress
        | Code::InvalidNetwork
        | Code::InvalidPort
        | Code::DuplicatePort
        | Code::InvalidAffinityTimeout
        | Code::ContradictoryFields
        | Code::HostNameSlice
        | Code::MissingServiceLabel
        | Code::TooManyAddresses
        | Code::SourceRangesOpen
        | Code::ExternalIpNotAllowed
        | Code::OwnClusterIp
        | Code::OtherClusterIp
        | Code::NodeAddressRefused
        | Code::AddressInServiceCidr
        | Code::FieldNotAllowed
        | Code::FieldWithoutEffect
        | Code::SourceRangesExcludeAll
        | Code::SourceRangesOfOneFamily
        | Code::ClusterIpOutsideCidrs
        | Code::UnknownService
        | Code::UnknownNode => true,
    }
}

/// The findings about the fields of single objects.
fn fields(objects: &Objects) -> Vec<LintFinding> {
    // An ExternalName Service has no rules, and its host name is not kept.
    let services = objects.services.iter().filter(|of| !is_external_name(&of.object));
    let services = of_kind(Kind::Service, services, |of| &of.metadata, of_service);
    let slices = of_kind(Kind::EndpointSlice, &objects.slices, |of| &of.metadata, of_slice);
    let nodes = of_kind(Kind::Node, &objects.nodes, |of| &of.metadata, of_node);
    [services, slices, nodes].concat()
}

fn is_external_name(service: &Service) -> bool {
    service.spec.kind.as_deref() == Some("ExternalName")
}

fn of_kind<'a, M: Serialize + 'a, T: DeserializeOwned>(
    kind: Kind,
    objects: impl IntoIterator<Item = &'a Sourced<M>>,
    metadata: fn(&M) -> &Metadata,
    check: fn(&T) -> Vec<LintFinding>,
) -> Vec<LintFinding> {
    let of_object = |Sourced { source, object }: &Sourced<M>| {
        let name = match kind {
            Kind::Node => name_without_namespace(kind, metadata(object)),
            _ => object_name(kind, metadata(object)),
        };
        let findings = api_object(object).map(|object| check(&object)).unwrap_or_default();
        let source = Arc::clone(source);
        findings.into_iter().map(move |of| of.about(&name).at(Some(&source)))
    };
    objects.into_iter().flat_map(of_object).collect()
}

fn name_without_namespace(kind: Kind, metadata: &Metadata) -> ObjectName {
    ObjectName { namespace: String::new(), ..object_name(kind, metadata) }
}

/// The object as the API has it, with the fields that are kept.
fn api_object<T: DeserializeOwned>(object: &impl Serialize) -> Option<T> {
    let written = serde_json::to_value(object).ok()?;
    typed_value(&given(written)?).0.ok()
}

/// The fields that have a value. Rules ask whether a field is given.
fn given(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Object(fields) => {
            let fields = fields.into_iter().filter_map(|(name, of)| Some((name, given(of)?)));
            let fields: Map<String, Value> = fields.collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        // The index of an element is part of a field's path.
        Value::Array(elements) if !elements.is_empty() => {
            let elements = elements.into_iter().map(|of| match of {
                Value::Object(_) => given(of).unwrap_or_else(|| Value::Object(Map::new())),
                other => other,
            });
            Some(Value::Array(elements.collect()))
        }
        Value::Array(_) => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rulegen_config::{ProxyConfig, read_config};
    use rulegen_model::{Host, IfEmpty, read_manifest, snapshot};

    use super::*;
    use crate::lint::lint;
    use crate::lint_file::LintFile;
    use crate::{documents, placeholders};

    fn of_manifest(text: &str, config: &ProxyConfig, has_all_nodes: bool) -> Vec<LintFinding> {
        let mut objects = Objects::default();
        let mut problems = read_manifest("objects", text.as_bytes(), &mut objects);
        problems.extend(objects.complete(IfEmpty::Allow));
        // The objects of a cluster have cluster IPs.
        let (name, content) = ("objects".to_owned(), Ok(text.as_bytes().to_vec()));
        let documents = documents::of_file(&LintFile { name, content });
        placeholders::assign(&mut objects, &placeholders::dual_stack(&documents));
        let options = config.snapshot_options();
        let (snapshot, found) = snapshot(&objects, &options, &Host::default());
        problems.extend(found);
        let (objects, problems) = (&objects, problems.as_slice());
        lint_cluster(ClusterObjects { objects, snapshot: &snapshot, problems, has_all_nodes })
    }

    /// Each finding about a cluster is one that the linter has about the same objects as manifests.
    #[test]
    fn cluster_findings_are_those_of_the_linter_about_the_same_objects() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lint");
        let (mut codes, mut others) = (BTreeSet::new(), Vec::new());
        for case in std::fs::read_dir(folder).unwrap() {
            let folder = case.unwrap().path();
            let file = folder.join("input.yaml");
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            // A cluster has no comments, and no object without a name.
            let only_in_manifests = ["rulegen:ignore", "rulegen/lint-ignore", "generateName"];
            if only_in_manifests.into_iter().any(|of| text.contains(of)) {
                continue;
            }
            let config = std::fs::read(folder.join("kube-proxy.conf")).unwrap_or_default();
            let config = ProxyConfig::from(&read_config("", &config).0);
            let (name, content) = ("objects".to_owned(), Ok(text.clone().into_bytes()));
            let of_linter = lint(&[LintFile { name, content }], &config).findings;
            let of_cluster = of_manifest(&text, &config, true).into_iter();
            // These may be of the IPs that the test assigns: no ServiceCIDR has them.
            for finding in of_cluster.filter(|of| !of.what.starts_with("240.")) {
                let is_same =
                    |of: &LintFinding| LintFinding { line: None, ..of.clone() } == finding;
                if !of_linter.iter().any(is_same) {
                    others.push(format!("{}: {finding:?}", file.display()));
                }
                codes.insert(finding.code);
            }
        }
        assert_eq!(others, [] as [String; 0]);
        let missing: Vec<&ProblemCode> = ProblemCode::ALL
            .iter()
            .filter(|code| is_of_cluster(**code) && !codes.contains(code))
            .collect();
        assert_eq!(missing, [] as [&ProblemCode; 0]);
    }

    #[test]
    fn cluster_without_faults_has_no_findings() {
        let text = include_str!("../../../examples/nodeport.yaml");
        assert_eq!(of_manifest(text, &ProxyConfig::default(), true), []);
    }

    #[test]
    fn unknown_nodes_are_found_only_if_all_nodes_are_known() {
        let text = include_str!("../../../tests/lint/unknown-node/input.yaml");
        let codes = |has_all_nodes| -> Vec<ProblemCode> {
            of_manifest(text, &ProxyConfig::default(), has_all_nodes)
                .into_iter()
                .map(|of| of.code)
                .collect()
        };
        assert_eq!(codes(true), [ProblemCode::UnknownNode]);
        assert_eq!(codes(false), []);
    }
}
