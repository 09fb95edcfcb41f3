//! Values that the API server rejects for a new object, and that a proxy accepts or does not read.

use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rulegen_model::ProblemCode;
use rulegen_net::{parse_address, parse_network};

use crate::finding::LintFinding;

/// The findings about a Service.
pub(crate) fn of_service(service: &Service) -> Vec<LintFinding> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut findings = addresses(spec);
    let ports = spec.ports.as_deref().unwrap_or_default();
    for (n, port) in ports.iter().enumerate() {
        findings.extend(of_port(n, port, ports.len()));
    }
    findings.extend(names_of_other_protocols(ports));
    findings.extend(names(spec));
    let has_name = spec.external_name.as_ref().is_some_and(|name| !name.is_empty());
    if spec.type_.as_deref() == Some("ExternalName") && !has_name {
        let what = "missing: type ExternalName needs a host name";
        findings.push(found(ProblemCode::MissingField, "spec.externalName".to_owned(), what));
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if let [first, second, ..] = families
        && first == second
    {
        let what = format!("{second} is listed twice");
        findings.push(found(ProblemCode::UnsupportedValue, "spec.ipFamilies[1]".to_owned(), what));
    }
    findings
}

/// The findings about an EndpointSlice.
pub(crate) fn of_slice(slice: &EndpointSlice) -> Vec<LintFinding> {
    let endpoints = slice.endpoints.iter().flatten().enumerate();
    let addresses = endpoints.flat_map(|(n, endpoint)| {
        let addresses = endpoint.addresses.iter().enumerate();
        addresses
            .filter_map(move |(of, text)| address(format!("endpoints[{n}].addresses[{of}]"), text))
    });
    addresses.collect()
}

fn found(code: ProblemCode, field: String, what: impl Into<String>) -> LintFinding {
    LintFinding::new(code, what).field(field)
}

fn addresses(spec: &ServiceSpec) -> Vec<LintFinding> {
    let cluster_ip = spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), ip));
    let of_lists =
        [("spec.clusterIPs", &spec.cluster_ips), ("spec.externalIPs", &spec.external_ips)]
            .into_iter()
            .flat_map(|(field, list)| {
                let list = list.iter().flatten().enumerate();
                list.map(move |(n, ip)| (format!("{field}[{n}]"), ip))
            });
    let addresses = cluster_ip.chain(of_lists).filter_map(|(field, ip)| address(field, ip));
    let ranges = spec.load_balancer_source_ranges.iter().flatten().enumerate();
    let ranges = ranges.filter_map(|(n, text)| {
        network(format!("spec.loadBalancerSourceRanges[{n}]"), text.trim())
    });
    addresses.chain(ranges).collect()
}

/// An address with zero-padded numbers, or an IPv4 address that is written as an IPv6 address.
/// Kubernetes 1.36 rejects them (StrictIPCIDRValidation), because programs disagree on their meaning.
fn address(field: String, text: &str) -> Option<LintFinding> {
    let read = parse_address(text)?;
    let is_plain = text.parse::<IpAddr>().is_ok_and(|ip| ip == read);
    let what = format!("{text} is ambiguous, and Kubernetes 1.36 rejects it: write {read}");
    (!is_plain).then(|| found(ProblemCode::InvalidAddress, field, what))
}

/// The same for networks, where address bits after the length are rejected too.
fn network(field: String, text: &str) -> Option<LintFinding> {
    let read = parse_network(text)?;
    let (address, length) = text.split_once('/')?;
    let is_plain = address.parse::<IpAddr>().is_ok_and(|address| address == read.network())
        && length == read.prefix_len().to_string();
    let what = format!("{text} is ambiguous, and Kubernetes 1.36 rejects it: write {read}");
    (!is_plain).then(|| found(ProblemCode::InvalidNetwork, field, what))
}

fn of_port(n: usize, port: &ServicePort, count: usize) -> Vec<LintFinding> {
    let mut findings = Vec::new();
    if count > 1 && port.name.as_ref().is_none_or(String::is_empty) {
        let what = "missing: each of several ports needs a name";
        findings.push(found(ProblemCode::MissingField, format!("spec.ports[{n}].name"), what));
    }
    let target = || format!("spec.ports[{n}].targetPort");
    match &port.target_port {
        // 0 means that it is not set.
        Some(IntOrString::Int(number)) if !(0..=65_535).contains(number) => {
            let what = format!("port {number} is out of range");
            findings.push(found(ProblemCode::InvalidPort, target(), what));
        }
        Some(IntOrString::String(name)) if !is_port_name(name) => {
            let what = format!("invalid name {name:?} of a container port");
            let finding = found(ProblemCode::InvalidName, target(), what);
            findings.push(finding.remedy(
                "use a-z, 0-9 and '-', at most 15 characters, at least one of them a letter",
            ));
        }
        _ => {}
    }
    findings
}

/// Names that a port of another protocol has too. A proxy accepts them.
fn names_of_other_protocols(ports: &[ServicePort]) -> Vec<LintFinding> {
    let protocol = |port: &ServicePort| port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let mut protocols: HashMap<&str, String> = HashMap::new();
    let mut findings = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let first = protocols.entry(name).or_insert_with(|| protocol(port));
        if *first != protocol(port) {
            let what = format!(
                "duplicate name {name:?}: the API server rejects it, also for another protocol"
            );
            findings.push(found(ProblemCode::DuplicatePort, format!("spec.ports[{n}].name"), what));
        }
    }
    findings
}

/// Values that are names.
fn names(spec: &ServiceSpec) -> Vec<LintFinding> {
    const DISTRIBUTIONS: [&str; 3] = ["PreferSameZone", "PreferSameNode", "PreferClose"];
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let mut findings = Vec::new();
    if let Some(text) = given(&spec.traffic_distribution)
        && !DISTRIBUTIONS.contains(&text.as_str())
    {
        let what = format!("unsupported value {text:?}, use one of {}", DISTRIBUTIONS.join(", "));
        let field = "spec.trafficDistribution".to_owned();
        findings.push(found(ProblemCode::UnsupportedValue, field, what));
    }
    if let Some(text) = given(&spec.external_name)
        && spec.type_.as_deref() == Some("ExternalName")
        && !is_subdomain(text.strip_suffix('.').unwrap_or(&text))
    {
        let what = format!("invalid host name {text:?}");
        let finding = found(ProblemCode::InvalidName, "spec.externalName".to_owned(), what);
        findings.push(finding.remedy("use lower-case DNS labels with dots between them"));
    }
    if let Some(text) = given(&spec.load_balancer_class)
        && !is_qualified_name(&text)
    {
        let what = format!("invalid name {text:?}");
        let finding = found(ProblemCode::InvalidName, "spec.loadBalancerClass".to_owned(), what);
        findings.push(finding.remedy("use a name such as example.com/internal"));
    }
    findings
}

/// A DNS subdomain (RFC 1123).
fn is_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// The name of a label: `name` or `prefix/name`.
fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [name.bytes().next(), name.bytes().last()];
    prefix.is_none_or(is_subdomain)
        && name.len() <= 63
        && name.bytes().all(is_allowed)
        && ends.into_iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()))
}

/// A service name of RFC 6335.
fn is_port_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(is_allowed)
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_addresses_and_networks_are_found() {
        for (text, is_found) in [
            ("10.0.0.1", false),
            ("fd00:0::1", false),
            ("FD00::1", false),
            ("10.0.0.010", true),
            ("::ffff:10.0.0.1", true),
            ("not an address", false),
        ] {
            assert_eq!(address(String::new(), text).is_some(), is_found, "{text}");
        }
        for (text, is_found) in [
            ("10.0.0.0/8", false),
            ("fd00::/8", false),
            ("10.1.0.0/8", true),
            ("010.0.0.0/8", true),
            ("10.0.0.0/08", true),
            ("not a network", false),
        ] {
            assert_eq!(network(String::new(), text).is_some(), is_found, "{text}");
        }
    }

    #[test]
    fn target_port_names_are_those_of_rfc_6335() {
        for (name, is_valid) in [
            ("http", true),
            ("http-2", true),
            ("fifteen-letters", true),
            ("sixteen-letters-", false),
            ("80", false),
            ("Http", false),
            ("a--b", false),
            ("-a", false),
            ("", false),
        ] {
            assert_eq!(is_port_name(name), is_valid, "{name}");
        }
    }
}
