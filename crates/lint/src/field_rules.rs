//! Fields of Services and EndpointSlices that are deprecated, not allowed or without effect.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rulegen_model::ProblemCode;

use crate::finding::LintFinding;
use crate::rule::found;

/// Deprecated annotations of Services, with their replacements.
const ANNOTATIONS: [(&str, &str); 2] = [
    ("service.kubernetes.io/topology-aware-hints", "spec.trafficDistribution"),
    ("service.alpha.kubernetes.io/tolerate-unready-endpoints", "spec.publishNotReadyAddresses"),
];

/// Deprecated annotations.
pub(crate) fn of_annotations(metadata: &ObjectMeta) -> impl Iterator<Item = LintFinding> {
    let has = |name: &str| metadata.annotations.as_ref().is_some_and(|of| of.contains_key(name));
    ANNOTATIONS.into_iter().filter(move |(name, _)| has(name)).map(|(name, replacement)| {
        let what = format!("this annotation is deprecated: use {replacement}");
        found(ProblemCode::DeprecatedField, format!("metadata.annotations[{name}]"), what)
    })
}

/// The findings about the `spec` of a Service.
pub(crate) fn of_service(service: &Service) -> Vec<LintFinding> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut findings = deprecated(spec);
    findings.extend(not_allowed(spec));
    findings.extend(without_effect(spec));
    findings
}

fn deprecated(spec: &ServiceSpec) -> Vec<LintFinding> {
    let is_set = spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty());
    let what = "deprecated since Kubernetes 1.24: use an annotation of the load balancer's \
                implementation";
    let finding = || found(ProblemCode::DeprecatedField, "spec.loadBalancerIP", what);
    is_set.then(finding).into_iter().collect()
}

/// Fields that the API server rejects, because of the Service's type.
fn not_allowed(spec: &ServiceSpec) -> Vec<LintFinding> {
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let is_load_balancer = kind == "LoadBalancer";
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let has_affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let has_ranges = spec.load_balancer_source_ranges.as_ref().is_some_and(|of| !of.is_empty());
    let only_load_balancer = "only allowed for type LoadBalancer";
    let rules = [
        (
            spec.external_traffic_policy.is_some() && kind == "ClusterIP" && !has_external_ips,
            "spec.externalTrafficPolicy",
            "only allowed with type NodePort, LoadBalancer or with externalIPs",
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
        (
            spec.session_affinity_config.is_some() && !has_affinity,
            "spec.sessionAffinityConfig",
            "only allowed with sessionAffinity ClientIP",
        ),
    ];
    let broken = rules.into_iter().filter(|(is_broken, _, _)| *is_broken);
    let mut findings: Vec<LintFinding> =
        broken.map(|(_, field, what)| found(ProblemCode::FieldNotAllowed, field, what)).collect();
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
    let is_alias = spec.type_.as_deref() == Some("ExternalName");
    let is_headless = !is_alias && spec.cluster_ip.as_deref() == Some("None");
    let is = |text: &Option<String>, value: &str| text.as_deref() == Some(value);
    let headless = "no effect: headless Services (clusterIP: None) have no rules";
    let rules = [
        (
            is_alias && spec.selector.as_ref().is_some_and(|of| !of.is_empty()),
            "spec.selector",
            "no effect on ExternalName Services",
        ),
        (
            !is_alias && spec.external_name.as_ref().is_some_and(|name| !name.is_empty()),
            "spec.externalName",
            "only used by type ExternalName",
        ),
        (is_headless && is(&spec.session_affinity, "ClientIP"), "spec.sessionAffinity", headless),
        (
            is_headless && is(&spec.internal_traffic_policy, "Local"),
            "spec.internalTrafficPolicy",
            headless,
        ),
        (
            is_headless && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
            "spec.externalIPs",
            headless,
        ),
        (is_headless && spec.traffic_distribution.is_some(), "spec.trafficDistribution", headless),
    ];
    let unused = rules.into_iter().filter(|(is_unused, _, _)| *is_unused);
    unused.map(|(_, field, what)| found(ProblemCode::FieldWithoutEffect, field, what)).collect()
}

/// The findings about an EndpointSlice.
pub(crate) fn of_slice(slice: &EndpointSlice) -> Vec<LintFinding> {
    let mut findings = Vec::new();
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
