//! Checks the hairpin mode of bridge ports with endpoints. If bridged packets pass the rules, the
//! bridge forwards a packet that a Service sends back to the pod it comes from. With hairpin mode
//! off it drops it. A port that is not forwarding drops all packets.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::error::FactResult;
use rulegen_kernel::neighbours::{KnownNeighbour, known_neighbours};
use rulegen_model::Snapshot;
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_os::bridges::{BridgePort, PortState, bridges, filters_vlans, forwarding_ports};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding, FindingSeverity};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let endpoints = endpoints(&cluster.snapshot);
        let has_endpoints =
            |family: &&IpFamily| endpoints.keys().any(|ip| IpFamily::of(*ip) == **family);
        let families: Vec<IpFamily> =
            node.families().iter().filter(has_endpoints).copied().collect();
        Ok(check(&pod_ports(&families)?, &endpoints))
    })
}

/// A port of a bridge that forwards translated packets itself.
#[derive(Debug, Clone)]
struct PodPort {
    bridge: String,
    name: String,
    has_hairpin: bool,
    /// Whether it passes no packets of isolated ports, so none of its own.
    is_isolated: bool,
    state: PortState,
    /// Whether the bridge forwards by VLAN.
    filters_vlans: bool,
    /// The addresses of pods behind the port, of one family.
    neighbours: Vec<IpAddr>,
}

/// The ports at which a pod may fail to reach itself, or whose bridge forwards by VLAN.
fn pod_ports(families: &[IpFamily]) -> FactResult<Vec<PodPort>> {
    let (bridges, known) = (bridges()?, known_neighbours()?);
    let mut found = Vec::new();
    for family in families {
        for bridge in &bridges {
            let filters_vlans = filters_vlans(&bridge.name);
            let ports = forwarding_ports(&bridge.name, *family == IpFamily::Ipv6)?;
            found.extend(ports.into_iter().map(|port| PodPort {
                neighbours: neighbours(&known, *family, &bridge.name, &port),
                bridge: bridge.name.clone(),
                name: port.name,
                has_hairpin: port.has_hairpin,
                is_isolated: port.is_isolated,
                state: port.state,
                filters_vlans,
            }));
        }
    }
    Ok(found)
}

/// The addresses that the kernel knows at the bridge with a hardware address of this port.
fn neighbours(
    known: &[KnownNeighbour],
    family: IpFamily,
    bridge: &str,
    port: &BridgePort,
) -> Vec<IpAddr> {
    let is_behind = |known: &&KnownNeighbour| {
        known.interface == bridge
            && IpFamily::of(known.ip) == family
            && port.macs.contains(&known.mac)
    };
    let behind = known.iter().filter(is_behind).map(|known| known.ip);
    // Each interface has such an address, and no Service has.
    behind.filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())).collect()
}

/// The endpoints of all Services, each with its first service port.
fn endpoints(snapshot: &Snapshot) -> HashMap<IpAddr, &ServicePortName> {
    let mut endpoints = HashMap::new();
    for port in snapshot.ipv4.iter().chain(&snapshot.ipv6) {
        for endpoint in &port.endpoints {
            endpoints.entry(endpoint.address.ip()).or_insert(&port.name);
        }
    }
    endpoints
}

fn check(ports: &[PodPort], endpoints: &HashMap<IpAddr, &ServicePortName>) -> CheckResult {
    let mut findings: Vec<Finding> = Vec::new();
    for found in ports.iter().filter_map(|port| finding(port, endpoints)) {
        // A port has one line for both families.
        if !findings.iter().any(|finding| finding.remedy == found.remedy) {
            findings.push(found);
        }
    }
    match ports.iter().find_map(unknown).filter(|_| findings.is_empty()) {
        Some(reason) => CheckResult::NotChecked(reason),
        None => CheckResult::Found(findings),
    }
}

/// Why a pod behind a port does not reach itself, with the remedy.
struct Obstacle {
    severity: FindingSeverity,
    code: FindingCode,
    /// `hairpin mode is off on port pod1 of bridge cbr0`.
    what: String,
    /// What its endpoint does not do.
    effect: &'static str,
    remedy: String,
}

fn obstacle(port: &PodPort) -> Option<Obstacle> {
    let PodPort { bridge, name, has_hairpin, is_isolated, state, .. } = port;
    let place = format!("port {name} of bridge {bridge}");
    let not_itself = "does not reach itself through the Service";
    Some(match (state, is_isolated, has_hairpin) {
        (PortState::Forwarding, false, true) => return None,
        (PortState::Forwarding, _, false) => Obstacle {
            severity: FindingSeverity::Warning,
            code: FindingCode::HairpinOff,
            what: format!("hairpin mode is off on {place}"),
            effect: not_itself,
            remedy: format!(
                "bridge link set dev {name} hairpin on; for new pods, set hairpinMode in the CNI \
                 configuration of the bridge plugin"
            ),
        },
        (PortState::Forwarding, true, true) => Obstacle {
            severity: FindingSeverity::Warning,
            code: FindingCode::BridgePortIsolated,
            what: format!("{place} is isolated"),
            effect: not_itself,
            remedy: format!(
                "bridge link set dev {name} isolated off; for new pods, unset portIsolation in the \
                 CNI configuration of the bridge plugin"
            ),
        },
        (state, ..) => Obstacle {
            severity: FindingSeverity::Error,
            code: FindingCode::BridgePortNotForwarding,
            what: format!("{place} is {}", state.word()),
            effect: "gets no packets",
            remedy: reopening(bridge, name, *state),
        },
    })
}

fn finding(port: &PodPort, endpoints: &HashMap<IpAddr, &ServicePortName>) -> Option<Finding> {
    let behind = |ip: &IpAddr| Some((*ip, *endpoints.get(ip)?));
    let (ip, service) = port.neighbours.iter().find_map(behind)?;
    let Obstacle { severity, code, what, effect, remedy } = obstacle(port)?;
    let what = format!("{what}: its endpoint {ip} of Service {service} {effect}");
    Some(Finding::new(code, severity, what, remedy))
}

/// Without the spanning tree protocol, a port forwards as soon as it is up.
fn reopening(bridge: &str, port: &str, state: PortState) -> String {
    match state {
        PortState::Disabled => {
            format!("ip link set dev {port} up; the other end of a veth pair must be up too")
        }
        _ => format!(
            "ip link set dev {bridge} type bridge stp_state 0 && ip link set dev {port} down && ip \
             link set dev {port} up; if the bridge is part of a loop, the spanning tree protocol is \
             needed, and opens the port when it can"
        ),
    }
}

/// Why a port may have an endpoint that does not reach itself.
fn unknown(port: &PodPort) -> Option<String> {
    if port.filters_vlans {
        return Some(format!(
            "bridge {} forwards by VLAN (vlan_filtering), and which ports are in which VLAN is not \
             read",
            port.bridge
        ));
    }
    let Obstacle { what, code, remedy, .. } =
        obstacle(port).filter(|_| port.neighbours.is_empty())?;
    let next = match code {
        FindingCode::BridgePortNotForwarding => remedy,
        _ => "check again after the node has sent packets to the pod".to_owned(),
    };
    Some(format!("{what}, and the kernel does not know which pod is behind it: {next}"))
}

#[cfg(test)]
mod tests {
    use rulegen_net::Protocol;

    use super::*;

    const ENDPOINTS: [&str; 2] = ["10.244.1.5", "fd00:10:244:1::5"];

    fn port(neighbours: &[&str]) -> PodPort {
        PodPort {
            bridge: "cbr0".to_owned(),
            name: "pod1".to_owned(),
            has_hairpin: false,
            is_isolated: false,
            state: PortState::Forwarding,
            filters_vlans: false,
            neighbours: neighbours.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn outcome(ports: &[PodPort]) -> CheckResult {
        let service = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        check(ports, &ENDPOINTS.map(|ip| (ip.parse().unwrap(), &service)).into())
    }

    fn found(ports: &[PodPort]) -> Vec<Finding> {
        match outcome(ports) {
            CheckResult::Found(findings) => findings,
            other => panic!("{other:?}"),
        }
    }

    fn reason(ports: &[PodPort]) -> String {
        match outcome(ports) {
            CheckResult::NotChecked(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hairpin_off_matters_on_ports_with_endpoints_of_either_family_only() {
        assert_eq!(found(&[port(&["10.244.1.6", "fd00:10:244:1::6"])]), []);
        for endpoint in ENDPOINTS {
            let [finding] = &found(&[port(&[endpoint])])[..] else { panic!("one finding") };
            let start = format!(
                "hairpin mode is off on port pod1 of bridge cbr0: its endpoint {endpoint} of Service \
                 default/web:http does"
            );
            assert!(finding.what.starts_with(&start), "{finding:?}");
            let command = "bridge link set dev pod1 hairpin on;";
            assert!(finding.remedy.starts_with(command), "{finding:?}");
        }
        assert_eq!(found(&ENDPOINTS.map(|endpoint| port(&[endpoint]))).len(), 1, "one port");
        assert_eq!(found(&[PodPort { has_hairpin: true, ..port(&ENDPOINTS) }]), []);
    }

    #[test]
    fn hairpin_is_not_checked_if_a_pod_behind_a_port_is_not_known() {
        let start = "hairpin mode is off on port pod1 of bridge cbr0, and";
        let reason = reason(&[port(&["10.244.1.6"]), port(&[])]);
        assert!(reason.starts_with(start), "{reason}");
        assert_eq!(found(&[PodPort { has_hairpin: true, ..port(&[]) }]), []);
    }

    #[test]
    fn hairpin_port_that_is_not_forwarding_reaches_no_endpoint() {
        for (state, command) in [
            (PortState::Disabled, "ip link set dev pod1 up;"),
            (PortState::Blocking, "ip link set dev cbr0 type bridge stp_state 0 && ip"),
        ] {
            let closed =
                |neighbours: &[&str]| PodPort { has_hairpin: true, state, ..port(neighbours) };
            let [finding] = &found(&[closed(&ENDPOINTS)])[..] else { panic!("one finding") };
            assert_eq!(finding.code, FindingCode::BridgePortNotForwarding);
            let start = format!("port pod1 of bridge cbr0 is {}: its endpoint", state.word());
            assert!(finding.what.starts_with(&start), "{finding:?}");
            assert!(finding.remedy.starts_with(command), "{finding:?}");
            let start = format!("port pod1 of bridge cbr0 is {}, and", state.word());
            assert!(reason(&[closed(&[])]).starts_with(&start));
            assert_eq!(found(&[closed(&["10.244.1.6"])]), []);
        }
    }

    #[test]
    fn hairpin_needs_a_port_that_is_not_isolated() {
        let isolated = PodPort { has_hairpin: true, is_isolated: true, ..port(&ENDPOINTS) };
        let [finding] = &found(&[isolated])[..] else { panic!("one finding") };
        assert_eq!(finding.code, FindingCode::BridgePortIsolated);
        let command = "bridge link set dev pod1 isolated off;";
        assert!(finding.remedy.starts_with(command), "{finding:?}");
    }

    #[test]
    fn hairpin_on_a_bridge_that_forwards_by_vlan_is_not_checked() {
        let filtering = |has_hairpin, neighbours: &[&str]| PodPort {
            has_hairpin,
            filters_vlans: true,
            ..port(neighbours)
        };
        for port in [filtering(true, &ENDPOINTS), filtering(false, &[])] {
            let reason = reason(&[port]);
            assert!(reason.starts_with("bridge cbr0 forwards by VLAN"), "{reason}");
        }
        assert_eq!(found(&[filtering(false, &ENDPOINTS)]).len(), 1, "off in each VLAN");
    }
}
