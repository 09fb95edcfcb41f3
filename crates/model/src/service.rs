//! Validates Services and converts them to service ports.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;

use crate::external_ips::ExternalIps;
use crate::load_balancing::{ANNOTATION, LoadBalancing};
use crate::object::{LoadBalancerIngress, Service, ServicePortSpec};
use crate::ownership::{ClaimKind, ClaimedIp};
use crate::port::{known_protocol, optional_port, port_number};
use crate::problem::ProblemCollector;
use crate::problem_code::ProblemCode;
use crate::service_port::{ServicePort, TrafficPolicy};
use rulegen_net::{IpFamily, ServicePortName, parse_address, parse_network, special_use};

const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// The API server's default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The API server's maximum of `timeoutSeconds`: one day.
const MAX_AFFINITY_SECONDS: i64 = 86_400;

/// One validated Service, before its addresses are compared with those of other Services.
#[derive(Debug, Default)]
pub(crate) struct CheckedService {
    /// Its ports per IP family, without endpoints, external and load-balancer IPs yet. Empty if it
    /// gets no rules.
    pub(crate) ports: Vec<ServicePort>,
    /// Its cluster IPs, also if another proxy handles it.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// Its external and load-balancer IPs.
    pub(crate) claimed: Vec<ClaimedIp>,
}

/// Validates one Service.
pub(crate) fn checked_service(
    service: &Service,
    allowed: &ExternalIps,
    report: &mut ProblemCollector<'_>,
) -> CheckedService {
    let Some(kind) = proxied_kind(service, report) else {
        let cluster_ips = unproxied_ips(service, report);
        return CheckedService { cluster_ips, ..CheckedService::default() };
    };
    let claimed = claimed_ips(service, allowed, report);
    let facts = ServiceFacts::new(service, kind, report);
    let ports = distinct_ports(service, report);
    let cluster_ips = cluster_ips(service, report);
    let of_ip = |ip: &IpAddr| {
        let source_ranges = facts.source_ranges(IpFamily::of(*ip));
        let port = |port| facts.port(*ip, port, source_ranges.clone());
        ports.iter().map(port).collect::<Vec<_>>()
    };
    CheckedService { ports: cluster_ips.iter().flat_map(of_ip).collect(), cluster_ips, claimed }
}

/// The cluster IPs of a Service that another proxy handles.
fn unproxied_ips(service: &Service, report: &ProblemCollector<'_>) -> Vec<IpAddr> {
    let is_alias = service.spec.kind.as_deref() == Some("ExternalName");
    if is_alias || service.metadata.labels.service_proxy_name.is_none() {
        return Vec::new();
    }
    // Problems with them concern the other proxy.
    let mut ignored = ProblemCollector { problems: &mut Vec::new(), ..*report };
    cluster_ips(service, &mut ignored)
}

/// Why a Service gets no rules although it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproxied {
    /// It has no cluster IP (`clusterIP: None`).
    Headless,
    /// Its type is ExternalName.
    ExternalName,
    /// Another proxy handles it (label `service.kubernetes.io/service-proxy-name`).
    OtherProxy,
}

impl Unproxied {
    /// `None` if the Service gets rules, or is invalid.
    pub fn of(service: &Service) -> Option<Self> {
        if service.metadata.labels.service_proxy_name.is_some() {
            return Some(Self::OtherProxy);
        }
        if service.spec.kind.as_deref() == Some("ExternalName") {
            return Some(Self::ExternalName);
        }
        (given_cluster_ip(service) == Some("None")).then_some(Self::Headless)
    }
}

/// The first cluster IP, as text.
fn given_cluster_ip(service: &Service) -> Option<&str> {
    let given = service.spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    given.or(service.spec.cluster_ips.first().map(String::as_str))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ServiceKind {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

/// The Service's type; `None` if it gets no rules.
fn proxied_kind(service: &Service, report: &mut ProblemCollector<'_>) -> Option<ServiceKind> {
    let metadata = &service.metadata;
    let named =
        [("metadata.name", metadata.name.as_str()), ("metadata.namespace", metadata.namespace())]
            .into_iter()
            .all(|(field, name)| is_label(name, field, report));
    if !named {
        return None;
    }
    if let Some(proxy) = metadata.labels.service_proxy_name.as_deref() {
        report.note(
            ProblemCode::OtherProxy,
            format!("skipped: handled by the proxy {proxy:?} (label {PROXY_NAME_LABEL})"),
        );
        return None;
    }
    let kind = match service.spec.kind.as_deref() {
        None | Some("" | "ClusterIP") => ServiceKind::ClusterIp,
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        Some("ExternalName") => {
            report.note(ProblemCode::NeedsNoRules, "skipped: ExternalName Services need no rules");
            return None;
        }
        Some(other) => {
            report.warn(
                ProblemCode::UnsupportedValue,
                "spec.type",
                format!("unsupported type {other:?} (expected ClusterIP, NodePort, LoadBalancer or ExternalName), Service skipped"),
            );
            return None;
        }
    };
    match given_cluster_ip(service) {
        Some("None") => {
            report.note(
                ProblemCode::NeedsNoRules,
                "skipped: headless Services (clusterIP: None) need no rules",
            );
            None
        }
        None | Some("") => {
            report.warn(ProblemCode::ClusterIpMissing, "spec.clusterIP", "missing, Service skipped: the API server assigns it, so use the output of `kubectl get -o yaml`");
            None
        }
        Some(_) => Some(kind),
    }
}

/// Checks for a DNS label (RFC 1123), as the API server does. A valid name needs no escaping in a
/// rule's comment.
fn is_label(name: &str, field: &str, report: &mut ProblemCollector<'_>) -> bool {
    let is_valid = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_valid {
        let what =
            if name.is_empty() { "missing".to_owned() } else { format!("invalid name {name:?}") };
        report.warn(
            ProblemCode::InvalidName,
            field,
            format!("{what} (expected a DNS label: a-z, 0-9 and '-', at most 63 characters)"),
        );
    }
    is_valid
}

/// The cluster IP of each family. An address must match its entry in `ipFamilies`, if there is one.
fn cluster_ips(service: &Service, report: &mut ProblemCollector<'_>) -> Vec<IpAddr> {
    let spec = &service.spec;
    let single = [spec.cluster_ip.clone().unwrap_or_default()];
    let (texts, list) = match spec.cluster_ips.as_slice() {
        [] => (single.as_slice(), false),
        texts => (texts, true),
    };
    for (n, family) in spec.ip_families.iter().enumerate() {
        if family != "IPv4" && family != "IPv6" {
            report.warn(
                ProblemCode::UnsupportedValue,
                format!("spec.ipFamilies[{n}]"),
                format!("unsupported IP family {family:?} (expected IPv4 or IPv6)"),
            );
        }
    }
    let single_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    if list && !single_ip.is_empty() && texts.first().is_some_and(|first| first != single_ip) {
        let message = format!("{single_ip:?} differs from spec.clusterIPs[0], which is used");
        report.warn(ProblemCode::ContradictoryFields, "spec.clusterIP", message);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let field =
            if list { format!("spec.clusterIPs[{n}]") } else { "spec.clusterIP".to_owned() };
        let Some(ip) = report.need(
            parse_address(text),
            ProblemCode::InvalidAddress,
            &field,
            format!("invalid IP address {text:?}"),
        ) else {
            continue;
        };
        let family = IpFamily::of(ip);
        match spec.ip_families.get(n).map(String::as_str) {
            Some(named @ ("IPv4" | "IPv6")) if named != family.api_name() => {
                report.warn(
                    ProblemCode::ContradictoryFields,
                    field,
                    format!(
                        "{ip} is an {} address, but spec.ipFamilies[{n}] is {named:?}",
                        family.api_name()
                    ),
                );
            }
            _ if found.iter().any(|other| IpFamily::of(*other) == family) => {
                report.warn(
                    ProblemCode::ContradictoryFields,
                    field,
                    format!("{ip} is a second {} address, ignored", family.api_name()),
                );
            }
            _ => found.push(ip),
        }
    }
    found
}

struct CheckedPort {
    name: ServicePortName,
    port: u16,
    node_port: Option<NonZeroU16>,
}

/// The usable entries of `spec.ports`.
fn distinct_ports(service: &Service, report: &mut ProblemCollector<'_>) -> Vec<CheckedPort> {
    if service.spec.ports.is_empty() {
        report.warn(
            ProblemCode::MissingField,
            "spec.ports",
            "empty: a Service needs at least one port",
        );
    }
    let namespace: Arc<str> = service.metadata.namespace().into();
    let name: Arc<str> = service.metadata.name.as_str().into();
    let mut ports: Vec<CheckedPort> = Vec::with_capacity(service.spec.ports.len());
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (n, spec) in service.spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{n}].{name}");
        let Some(protocol) = known_protocol(spec.protocol.as_deref(), field("protocol"), report)
        else {
            continue;
        };
        let Some(port) = usable_port(spec, field("port"), report) else { continue };
        if !spec.name.is_empty() && !is_label(&spec.name, &field("name"), report) {
            continue;
        }
        if names.contains(&(spec.name.as_str(), protocol)) {
            let message = match spec.name.as_str() {
                "" => "missing, port skipped: a name is required if several ports have the same \
                       protocol"
                    .to_owned(),
                name => format!("duplicate name {name:?} for one protocol, port skipped"),
            };
            report.warn(ProblemCode::DuplicatePort, field("name"), message);
            continue;
        }
        if !numbers.insert((port, protocol)) {
            report.warn(
                ProblemCode::DuplicatePort,
                field("port"),
                format!("duplicate port {port} for one protocol, skipped"),
            );
            continue;
        }
        names.insert((spec.name.as_str(), protocol));
        let node_port = optional_port(spec.node_port, field("nodePort"), report);
        let name = ServicePortName {
            namespace: namespace.clone(),
            service: name.clone(),
            port: spec.name.as_str().into(),
            protocol,
        };
        ports.push(CheckedPort { name, port, node_port });
    }
    ports
}

fn usable_port(
    spec: &ServicePortSpec,
    field: String,
    report: &mut ProblemCollector<'_>,
) -> Option<u16> {
    let number = report.need(spec.port, ProblemCode::MissingField, &field, "missing")?;
    port_number(number, field, report).map(NonZeroU16::get)
}

/// Properties shared by all ports of a Service, in both families.
struct ServiceFacts {
    source_ranges: Vec<IpNet>,
    health_check_node_port: Option<NonZeroU16>,
    internal_policy: TrafficPolicy,
    external_policy: TrafficPolicy,
    affinity_seconds: Option<u32>,
    load_balancing: Option<LoadBalancing>,
    ports: usize,
}

impl ServiceFacts {
    fn new(service: &Service, kind: ServiceKind, report: &mut ProblemCollector<'_>) -> Self {
        let spec = &service.spec;
        let mut external_policy =
            policy(spec.external_traffic_policy.as_deref(), "spec.externalTrafficPolicy", report);
        // Without external traffic the field has no effect.
        if kind == ServiceKind::ClusterIp && spec.external_ips.is_empty() {
            external_policy = TrafficPolicy::Cluster;
        }
        let checked = kind == ServiceKind::LoadBalancer && external_policy == TrafficPolicy::Local;
        let health_check = spec.health_check_node_port.filter(|_| checked);
        Self {
            source_ranges: source_ranges(&spec.load_balancer_source_ranges, report),
            health_check_node_port: optional_port(
                health_check,
                "spec.healthCheckNodePort".into(),
                report,
            ),
            internal_policy: policy(
                spec.internal_traffic_policy.as_deref(),
                "spec.internalTrafficPolicy",
                report,
            ),
            external_policy,
            affinity_seconds: affinity(service, report),
            load_balancing: load_balancing(service, report),
            ports: spec.ports.len(),
        }
    }

    /// Clients that may use the load-balancer IPs of a family; empty allows all.
    fn source_ranges(&self, family: IpFamily) -> Arc<[IpNet]> {
        let of_family = |range: &&IpNet| IpFamily::of_network(**range) == family;
        let ranges: Arc<[IpNet]> = self.source_ranges.iter().filter(of_family).copied().collect();
        let allows_all = ranges.iter().any(|range| range.prefix_len() == 0);
        if allows_all { Arc::default() } else { ranges }
    }

    /// A port in the family of this cluster IP.
    fn port(
        &self,
        cluster_ip: IpAddr,
        port: &CheckedPort,
        source_ranges: Arc<[IpNet]>,
    ) -> ServicePort {
        ServicePort {
            name: port.name.clone(),
            cluster_ip,
            port: port.port,
            node_port: port.node_port,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges,
            health_check_node_port: self.health_check_node_port,
            internal_policy: self.internal_policy,
            external_policy: self.external_policy,
            affinity_seconds: self.affinity_seconds,
            load_balancing: self.load_balancing,
            ports_of_service: self.ports,
            endpoints: Vec::new(),
        }
    }
}

fn policy(text: Option<&str>, field: &str, report: &mut ProblemCollector<'_>) -> TrafficPolicy {
    match text {
        Some("Local") => TrafficPolicy::Local,
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some(other) => {
            report.warn(
                ProblemCode::UnsupportedValue,
                field,
                format!("unsupported policy {other:?} (expected Cluster or Local), using Cluster"),
            );
            TrafficPolicy::Cluster
        }
    }
}

fn affinity(service: &Service, report: &mut ProblemCollector<'_>) -> Option<u32> {
    match service.spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => {
            let given = service.spec.session_affinity_config.client_ip.timeout_seconds;
            let seconds = given.unwrap_or(DEFAULT_AFFINITY_SECONDS.into());
            let valid = u32::try_from(seconds)
                .ok()
                .filter(|_| (1..=MAX_AFFINITY_SECONDS).contains(&seconds));
            let message = format!(
                "invalid timeout {seconds} (expected 1 to {MAX_AFFINITY_SECONDS} seconds), using {DEFAULT_AFFINITY_SECONDS}"
            );
            let seconds = report.need(
                valid,
                ProblemCode::InvalidAffinityTimeout,
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                message,
            );
            Some(seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS))
        }
        Some(other) => {
            report.warn(
                ProblemCode::UnsupportedValue,
                "spec.sessionAffinity",
                format!(
                    "unsupported session affinity {other:?} (expected None or ClientIP), using None"
                ),
            );
            None
        }
    }
}

fn load_balancing(service: &Service, report: &mut ProblemCollector<'_>) -> Option<LoadBalancing> {
    let text = service.metadata.annotations.load_balancing.as_deref()?;
    let known = LoadBalancing::named(text);
    if known.is_none() {
        let names = LoadBalancing::ALL.map(LoadBalancing::name).join(", ");
        let message = format!("unsupported load balancing {text:?}, ignored (use one of {names})");
        report.warn(
            ProblemCode::UnsupportedValue,
            format!("metadata.annotations[{ANNOTATION}]"),
            message,
        );
    }
    known
}

/// The valid external and load-balancer IPs, in the order of the fields.
fn claimed_ips(
    service: &Service,
    allowed: &ExternalIps,
    report: &mut ProblemCollector<'_>,
) -> Vec<ClaimedIp> {
    let external = external_ips(&service.spec.external_ips, allowed, report).into_iter();
    let ingress = load_balancer_ips(&service.status.load_balancer.ingress, report);
    external.chain(ingress).collect()
}

fn external_ips(
    texts: &[String],
    allowed: &ExternalIps,
    report: &mut ProblemCollector<'_>,
) -> Vec<ClaimedIp> {
    let usable = |(index, text): (u32, &String)| {
        let field = format!("spec.externalIPs[{index}]");
        let ip = outside_address(text, &field, "an external IP", report)?;
        let message =
            format!("{ip} is not allowed by rulegen.externalIPs of the configuration, ignored");
        let ip = report.need(
            Some(ip).filter(|ip| allowed.allow(*ip)),
            ProblemCode::ExternalIpNotAllowed,
            field,
            message,
        )?;
        Some(ClaimedIp { ip, kind: ClaimKind::ExternalIp, index })
    };
    (0..).zip(texts).filter_map(usable).collect()
}

/// An address that may be used as external or load-balancer IP.
fn outside_address(
    text: &str,
    field: &str,
    what: &str,
    report: &mut ProblemCollector<'_>,
) -> Option<IpAddr> {
    let ip = report.need(
        parse_address(text),
        ProblemCode::InvalidAddress,
        field,
        format!("invalid IP address {text:?}"),
    )?;
    if let Some(special) = special_use(ip) {
        report.warn(
            ProblemCode::InvalidAddress,
            field,
            format!("{ip} cannot be {what}: it is {special}"),
        );
        return None;
    }
    Some(ip)
}

/// Load-balancer IPs with ipMode VIP, the default. With ipMode Proxy packets arrive with another
/// destination, a node port or a pod (KEP-1860).
fn load_balancer_ips(
    ingress: &[LoadBalancerIngress],
    report: &mut ProblemCollector<'_>,
) -> Vec<ClaimedIp> {
    let mut ips = Vec::new();
    for (index, entry) in (0..).zip(ingress).filter(|(_, entry)| !entry.ip.is_empty()) {
        let field = |name| format!("status.loadBalancer.ingress[{index}].{name}");
        match entry.ip_mode.as_deref() {
            Some("Proxy") => continue,
            None | Some("" | "VIP") => {}
            Some(other) => {
                report.warn(
                    ProblemCode::UnsupportedValue,
                    field("ipMode"),
                    format!("unsupported ipMode {other:?} (expected VIP or Proxy), ignored"),
                );
                continue;
            }
        }
        let ip = outside_address(&entry.ip, &field("ip"), "a load-balancer IP", report);
        ips.extend(ip.map(|ip| ClaimedIp { ip, kind: ClaimKind::LoadBalancerIp, index }));
    }
    ips
}

/// Like the API server, accepts blanks around a range.
fn source_ranges(texts: &[String], report: &mut ProblemCollector<'_>) -> Vec<IpNet> {
    let usable = |(n, text): (usize, &String)| {
        let field = format!("spec.loadBalancerSourceRanges[{n}]");
        let message = format!("invalid CIDR {text:?} (for example 203.0.113.0/24)");
        report.need(parse_network(text.trim()), ProblemCode::InvalidNetwork, field, message)
    };
    let ranges: Vec<IpNet> = texts.iter().enumerate().filter_map(usable).collect();
    if ranges.is_empty() && !texts.is_empty() {
        let message = "no valid range, so all clients may use the load balancer";
        report.warn(ProblemCode::SourceRangesOpen, "spec.loadBalancerSourceRanges", message);
    }
    ranges
}
