//! Fields of Services, EndpointSlices and Nodes that are deprecated, not allowed or without effect:
//! what the API server rejects (its `validation.go`) or warns about (its `warnings.go`), and what no
//! proxy uses.

use k8s_openapi::api::core::v1::{Node, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rulegen_model::ProblemCode;

use crate::field_values;
use crate::finding::LintFinding;

/// Deprecated annotations of Services, with their replacements.
const ANNOTATIONS: [(&str, &str); 2] = [
    ("service.kubernetes.io/topology-aware-hints", "spec.trafficDistribution"),
    ("service.alpha.kubernetes.io/tolerate-unready-endpoints", "spec.publishNotReadyAddresses"),
];

/// Source ranges that only cloud providers use.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

const ZONE: &str = "topology.kubernetes.io/zone";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";

/// The findings about a Service.
pub(crate) fn of_service(service: &Service) -> Vec<LintFinding> {
    let mut findings = of_annotations(&service.metadata);
    let Some(spec) = &service.spec else { return findings };
    findings.extend(deprecated(spec));
    findings.extend(not_allowed(spec));
    findings.extend(without_effect(spec));
    findings.extend(field_values::of_service(service));
    findings
}

fn of_annotations(metadata: &ObjectMeta) -> Vec<LintFinding> {
    let has = |name: &str| metadata.annotations.as_ref().is_some_and(|of| of.contains_key(name));
    let field = |name: &str| format!("metadata.annotations[{name}]");
    let deprecated = ANNOTATIONS.into_iter().filter(|(name, _)| has(name));
    let mut findings: Vec<LintFinding> = deprecated
        .map(|(name, replacement)| {
            let what = format!("this annotation is deprecated: use {replacement}");
            found(ProblemCode::DeprecatedField, field(name), what)
        })
        .collect();
    if has(SOURCE_RANGES) {
        let what =
            "only cloud providers use this annotation: kube-proxy and rulegen allow all clients";
        let finding = found(ProblemCode::FieldWithoutEffect, field(SOURCE_RANGES), what);
        findings.push(finding.remedy("use spec.loadBalancerSourceRanges"));
    }
    findings
}

fn deprecated(spec: &ServiceSpec) -> Vec<LintFinding> {
    let uses_external_ips = !is_alias(spec) && !is_headless(spec);
    let rules = [
        (
            spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty()),
            "spec.loadBalancerIP",
            "deprecated since Kubernetes 1.24: use an annotation of the load balancer's \
             implementation",
        ),
        (
            uses_external_ips && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
            "spec.externalIPs",
            "deprecated since Kubernetes 1.36: use type LoadBalancer",
        ),
        (
            spec.traffic_distribution.as_deref() == Some("PreferClose"),
            "spec.trafficDistribution",
            "PreferClose is deprecated since Kubernetes 1.34: use PreferSameZone",
        ),
    ];
    broken(rules, ProblemCode::DeprecatedField)
}

fn is_alias(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

fn is_headless(spec: &ServiceSpec) -> bool {
    let mut ips = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    !is_alias(spec) && ips.any(|ip| ip == "None")
}

/// A finding for each rule that is broken.
fn broken<'a>(
    rules: impl IntoIterator<Item = (bool, &'a str, &'a str)>,
    code: ProblemCode,
) -> Vec<LintFinding> {
    let broken = rules.into_iter().filter(|(is_broken, _, _)| *is_broken);
    broken.map(|(_, field, what)| found(code, field, what)).collect()
}

fn found(code: ProblemCode, field: impl Into<String>, what: impl Into<String>) -> LintFinding {
    LintFinding::new(code, what).field(field)
}

/// Fields that the API server rejects, because of the Service's type.
fn not_allowed(spec: &ServiceSpec) -> Vec<LintFinding> {
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let is_load_balancer = kind == "LoadBalancer";
    let is_alias = is_alias(spec);
    let is_exposed = is_load_balancer || kind == "NodePort";
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let has_affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let has_ranges = spec.load_balancer_source_ranges.as_ref().is_some_and(|of| !of.is_empty());
    let mut cluster_ips = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    let only_load_balancer = "only allowed for type LoadBalancer";
    let not_for_alias = "not allowed for type ExternalName";
    let rules = [
        (
            spec.external_traffic_policy.is_some()
                && !is_exposed
                && !(kind == "ClusterIP" && has_external_ips),
            "spec.externalTrafficPolicy",
            "only allowed for types NodePort and LoadBalancer, and for ClusterIP with externalIPs",
        ),
        (
            spec.health_check_node_port.is_some_and(|port| port != 0)
                && !(is_load_balancer && is_local),
            "spec.healthCheckNodePort",
            "only allowed for type LoadBalancer with externalTrafficPolicy Local",
        ),
        (
            spec.load_balancer_class.is_some() && !is_load_balancer,
            "spec.loadBalancerClass",
            only_load_balancer,
        ),
        (
            spec.allocate_load_balancer_node_ports.is_some() && !is_load_balancer,
            "spec.allocateLoadBalancerNodePorts",
            only_load_balancer,
        ),
        (has_ranges && !is_load_balancer, "spec.loadBalancerSourceRanges", only_load_balancer),
        (is_alias && cluster_ips.any(|ip| !ip.is_empty()), "spec.clusterIP", not_for_alias),
        (
            is_alias && spec.ip_families.as_ref().is_some_and(|of| !of.is_empty()),
            "spec.ipFamilies",
            not_for_alias,
        ),
        (is_alias && spec.ip_family_policy.is_some(), "spec.ipFamilyPolicy", not_for_alias),
        (
            is_exposed && is_headless(spec),
            "spec.clusterIP",
            "None is not allowed for types NodePort and LoadBalancer",
        ),
    ];
    let mut findings = broken(rules, ProblemCode::FieldNotAllowed);
    if spec.session_affinity_config.is_some() && !has_affinity {
        let what = "only allowed with sessionAffinity ClientIP";
        let finding = found(ProblemCode::FieldNotAllowed, "spec.sessionAffinityConfig", what);
        findings.push(finding.remedy("set spec.sessionAffinity: ClientIP, or remove the field"));
    }
    if kind == "ClusterIP" {
        for (n, port) in spec.ports.iter().flatten().enumerate() {
            if port.node_port.is_some_and(|port| port != 0) {
                let field = format!("spec.ports[{n}].nodePort");
                let what = "only allowed for type NodePort or LoadBalancer";
                findings.push(found(ProblemCode::FieldNotAllowed, field, what));
            }
        }
    }
    findings
}

/// Fields that are accepted, and that no proxy uses.
fn without_effect(spec: &ServiceSpec) -> Vec<LintFinding> {
    let what = match (is_alias(spec), is_headless(spec)) {
        (true, _) => "no effect on ExternalName Services",
        (_, true) => "no effect: headless Services (clusterIP: None) have no rules",
        _ => "",
    };
    let has_no_rules = !what.is_empty();
    let is = |text: &Option<String>, value: &str| text.as_deref() == Some(value);
    let rules = [
        (
            is_alias(spec) && spec.selector.as_ref().is_some_and(|of| !of.is_empty()),
            "spec.selector",
            what,
        ),
        (
            !is_alias(spec) && spec.external_name.as_ref().is_some_and(|name| !name.is_empty()),
            "spec.externalName",
            "only used by type ExternalName",
        ),
        (has_no_rules && is(&spec.session_affinity, "ClientIP"), "spec.sessionAffinity", what),
        (
            has_no_rules && is(&spec.internal_traffic_policy, "Local"),
            "spec.internalTrafficPolicy",
            what,
        ),
        (
            has_no_rules && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
            "spec.externalIPs",
            what,
        ),
        (has_no_rules && spec.traffic_distribution.is_some(), "spec.trafficDistribution", what),
    ];
    broken(rules, ProblemCode::FieldWithoutEffect)
}

/// The findings about an EndpointSlice.
pub(crate) fn of_slice(slice: &EndpointSlice) -> Vec<LintFinding> {
    let mut findings = field_values::of_slice(slice);
    for (n, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        if endpoint.addresses.len() > 1 {
            let field = format!("endpoints[{n}].addresses[1]");
            let what =
                "no effect: kube-proxy and rulegen use the first address of an endpoint only";
            findings.push(found(ProblemCode::FieldWithoutEffect, field, what));
        }
        if endpoint.deprecated_topology.is_some() {
            let field = format!("endpoints[{n}].deprecatedTopology");
            let what = "this field is deprecated and not used: use nodeName and zone";
            findings.push(found(ProblemCode::DeprecatedField, field, what));
        }
    }
    findings
}

/// The findings about a Node.
pub(crate) fn of_node(node: &Node) -> Vec<LintFinding> {
    let label = |name: &str| node.metadata.labels.as_ref().is_some_and(|of| of.contains_key(name));
    let spec = node.spec.as_ref();
    let rules = [
        (
            spec.is_some_and(|spec| spec.external_id.is_some()),
            "spec.externalID",
            "this field is deprecated and not used: remove it",
        ),
        (
            spec.is_some_and(|spec| spec.config_source.is_some()),
            "spec.configSource",
            "this field is deprecated and not used: remove it",
        ),
    ];
    let mut findings = broken(rules, ProblemCode::DeprecatedField);
    // Cloud providers still set both labels.
    if label(OLD_ZONE) && !label(ZONE) {
        let what =
            format!("this label is deprecated and not used, so the Node has no zone: use {ZONE}");
        let field = format!("metadata.labels[{OLD_ZONE}]");
        findings.push(found(ProblemCode::DeprecatedField, field, what));
    }
    let first = spec.and_then(|spec| spec.pod_cidrs.as_ref()?.first());
    let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
    if let (Some(first), Some(single)) = (first, single)
        && first != single
    {
        let what = format!("{single} is not the first of spec.podCIDRs, {first}, which is used");
        findings.push(found(ProblemCode::ContradictoryFields, "spec.podCIDR", what));
    }
    findings
}
