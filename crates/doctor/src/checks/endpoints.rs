//! Finds service ports without endpoints, with the reason.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::error::FactResult;
use rulegen_inspect::words;
use rulegen_lint::{LintFinding, unavailable};
use rulegen_model::{ProblemCode, Unavailability, UnavailableReason, unavailable_ports};
use rulegen_net::{IpFamily, ServicePortName};

use super::node_name;
use crate::finding::{CheckResult, Finding, FindingSeverity};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let unavailable = unavailable_ports(&cluster.snapshot, &cluster.objects);
        let is_misnamed = !unavailable.is_empty() && node_name::is_wrong(node, cluster)?;
        let misnamed = is_misnamed.then_some(cluster.snapshot.node.name.as_str());
        Ok(CheckResult::Found(check(&unavailable, misnamed)))
    })
}

/// One finding per Service and kind of problem. `misnamed` is the name of this node if no Node has it,
/// so that no endpoint counts as local.
fn check(unavailable_ports: &[Unavailability], misnamed: Option<&str>) -> Vec<Finding> {
    let mut services: BTreeMap<ServiceProblem<'_>, Vec<&Unavailability>> = BTreeMap::new();
    for unavailability in unavailable_ports {
        services.entry(ServiceProblem::of(unavailability)).or_default().push(unavailability);
    }
    services.values().filter_map(|ports| finding(ports, misnamed)).collect()
}

/// A problem of a Service, which may affect several of its ports.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ServiceProblem<'a> {
    namespace: &'a str,
    service: &'a str,
    code: ProblemCode,
    severity: FindingSeverity,
}

impl<'a> ServiceProblem<'a> {
    fn of(unavailability: &'a Unavailability) -> Self {
        let ServicePortName { namespace, service, .. } = &unavailability.port;
        let LintFinding { code, severity, .. } = unavailable(unavailability);
        Self { namespace, service, code, severity }
    }
}

fn finding(ports: &[&Unavailability], misnamed: Option<&str>) -> Option<Finding> {
    let (first, others) = ports.split_first()?;
    let mut finding = Finding::from(unavailable(first));
    if !others.is_empty() {
        finding.what = what(&first.port, ports);
    }
    if let (Some(name), UnavailableReason::NoneLocal { .. }) = (misnamed, &first.why) {
        let ServicePortName { namespace, service, .. } = &first.port;
        finding.what = format!(
            "Service {namespace}/{service} has no usable endpoint on this node: {}",
            words::no_node_has(name)
        );
        finding.remedy = "correct the name of this node first (see node-name): until then no \
                          endpoint counts as local"
            .to_owned();
    }
    Some(finding)
}

/// At most this many reasons of a Service, and ports of a reason, are named.
const MOST_NAMED: usize = 3;

/// Ports of a Service with the same reason. Each port has its families.
struct SameReason<'a> {
    why: &'a UnavailableReason,
    ports: BTreeMap<&'a str, Vec<IpFamily>>,
}

fn what(of: &ServicePortName, ports: &[&Unavailability]) -> String {
    let (mut reasons, mut more): (Vec<SameReason<'_>>, usize) = (Vec::new(), 0);
    for Unavailability { port, family, why } in ports {
        let is_known = reasons.iter().any(|reason| reason.why == why);
        if !is_known && reasons.len() < MOST_NAMED {
            reasons.push(SameReason { why, ports: BTreeMap::new() });
        }
        match reasons.iter_mut().find(|reason| reason.why == why) {
            Some(reason) => reason.ports.entry(&port.port).or_default().push(*family),
            None => more += 1,
        }
    }
    let mut parts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    format!("Service {}/{}{}", of.namespace, of.service, parts.join("; "))
}

/// Continues the name of the Service: `:http (IPv4, IPv6) has no EndpointSlice`.
impl Display for SameReason<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut by_families: BTreeMap<&[IpFamily], Vec<&str>> = BTreeMap::new();
        for (port, families) in &self.ports {
            by_families.entry(families).or_default().push(port);
        }
        let groups: Vec<String> = by_families.iter().map(|(of, ports)| group(of, ports)).collect();
        write!(f, "{} {}", groups.join(" and "), words::unavailable(self.why))
    }
}

fn group(families: &[IpFamily], ports: &[&str]) -> String {
    let names: Vec<&str> = families.iter().map(|family| family.api_name()).collect();
    let (families, named) = (names.join(", "), ports.get(..MOST_NAMED).unwrap_or(ports).join(", "));
    match ports.len() {
        1 if named.is_empty() => format!(" ({families})"),
        1 => format!(":{named} ({families})"),
        count if count > MOST_NAMED => {
            format!(" ports {named} and {} more ({families})", count - MOST_NAMED)
        }
        _ => format!(" ports {named} ({families})"),
    }
}

#[cfg(test)]
mod tests {
    use rulegen_model::LocalPolicyScope;
    use rulegen_net::Protocol;

    use super::*;

    #[test]
    fn doctor_missing_local_endpoints_of_a_misnamed_node_have_its_name_as_remedy() {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        let remedy = |why, misnamed| {
            let unavailability = Unavailability { port: port.clone(), family: IpFamily::Ipv4, why };
            check(&[unavailability], misnamed).remove(0).remedy
        };
        let scope = LocalPolicyScope::Internal;
        let local = || UnavailableReason::NoneLocal {
            elsewhere: 1,
            without_node: 0,
            unusable_here: 0,
            scope,
        };
        assert!(remedy(local(), Some("node-1")).starts_with("correct the name of this node"));
        assert!(remedy(local(), None).starts_with("run a pod on this node"));
        assert!(
            remedy(UnavailableReason::NoSlice, Some("node-1")).contains("describe service web")
        );
        assert_eq!(check(&[], Some("node-1")), []);
    }

    #[test]
    fn doctor_endpoints_has_one_line_per_service_and_kind_of_problem() {
        let of = |service: &str, port: &str, family, why| Unavailability {
            port: ServicePortName {
                namespace: "default".into(),
                service: service.into(),
                port: port.into(),
                protocol: Protocol::Tcp,
            },
            family,
            why,
        };
        let lines = |all: &[Unavailability]| -> Vec<String> {
            check(all, None).into_iter().map(|finding| finding.what).collect()
        };
        let (four, six) = (IpFamily::Ipv4, IpFamily::Ipv6);
        let none = || UnavailableReason::NoSlice;
        let both = |port: &str| [four, six].map(|family| of("web", port, family, none()));
        assert_eq!(lines(&both("")), ["Service default/web (IPv4, IPv6) has no EndpointSlice"]);
        let dns = of("dns", "dns", six, none());
        assert_eq!(
            lines(&[&both("a")[..], &both("b"), &[dns]].concat()),
            [
                "Service default/dns:dns (IPv6) has no EndpointSlice",
                "Service default/web ports a, b (IPv4, IPv6) has no EndpointSlice",
            ]
        );
        assert_eq!(
            lines(&[of("web", "a", four, none()), of("web", "b", six, none())]),
            ["Service default/web:a (IPv4) and :b (IPv6) has no EndpointSlice"]
        );
        let not_ready = |not_ready, port: &str| {
            of("web", port, four, UnavailableReason::NoneReady { not_ready, terminating: 0 })
        };
        assert_eq!(
            lines(&[not_ready(1, "a"), not_ready(2, "b"), of("web", "c", four, none())]),
            [
                "Service default/web:c (IPv4) has no EndpointSlice",
                "Service default/web:a (IPv4) has no ready endpoint: 1 not ready; :b (IPv4) \
                 has no ready endpoint: 2 not ready",
            ]
        );
        let many: Vec<_> = (0..100).map(|n| not_ready(n, &n.to_string())).collect();
        let line = lines(&many).concat();
        assert!(line.ends_with("; and 97 more") && line.len() < 300, "{line}");
        let alike: Vec<_> = (0..100).map(|n| not_ready(1, &n.to_string())).collect();
        let start = "Service default/web ports 0, 1, 10 and 97 more (IPv4) has no ready endpoint";
        assert!(lines(&alike).concat().starts_with(start), "{:?}", lines(&alike));
    }
}
