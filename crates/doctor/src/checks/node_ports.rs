//! Finds processes that listen on node ports. Packets from outside go to the Service and do not reach
//! the process. On a health-check node port, the agent cannot answer load balancers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::error::FactResult;
use rulegen_compiler::{NodePortsAt, node_ports_at};
use rulegen_model::Snapshot;
use rulegen_net::{IpFamily, Protocol, ServicePortName};
use rulegen_os::sockets::{Listener, listeners};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let snapshot = &cluster.snapshot;
        let node_ports = node_ports(snapshot);
        let numbers: BTreeSet<u16> = node_ports.keys().map(|port| port.number).collect();
        let open = |family| node_ports_at(&snapshot.node, node.config(), family);
        let open = IpFamily::BOTH.map(open);
        let processes: Vec<ListeningProcess> =
            listeners(&numbers)?.into_iter().map(ListeningProcess::from).collect();
        Ok(CheckResult::Found(check(&node_ports, &open, &processes)))
    })
}

/// A node port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct NodePort {
    number: u16,
    protocol: Protocol,
    port: ServicePortName,
    /// Whether it is the healthCheckNodePort, which the agent answers itself.
    is_health_check: bool,
}

/// A listening process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListeningProcess {
    protocol: Protocol,
    address: SocketAddr,
    name: Option<String>,
    holder: String,
}

impl From<Listener> for ListeningProcess {
    fn from(listener: Listener) -> Self {
        let Listener { protocol, address, holder, .. } = listener;
        let words = holder.as_ref().map_or_else(|| "a process".to_owned(), ToString::to_string);
        Self { protocol, address, name: holder.map(|process| process.name), holder: words }
    }
}

/// Node ports with the IP families of their Services.
type NodePorts = BTreeMap<NodePort, BTreeSet<IpFamily>>;

fn node_ports(snapshot: &Snapshot) -> NodePorts {
    let mut node_ports = NodePorts::new();
    let ports = |family| snapshot.service_ports(family).iter().map(move |port| (family, port));
    for (family, port) in IpFamily::BOTH.into_iter().flat_map(ports) {
        let of = |number, protocol, is_health_check| NodePort {
            number,
            protocol,
            port: port.name.clone(),
            is_health_check,
        };
        let node_port = port.node_port.map(|number| of(number.get(), port.name.protocol, false));
        let health_check =
            port.health_check_node_port.map(|number| of(number.get(), Protocol::Tcp, true));
        for port in node_port.into_iter().chain(health_check) {
            node_ports.entry(port).or_default().insert(family);
        }
    }
    node_ports
}

/// Process name of the agent, which answers load balancers.
const AGENT: &str = "rulegen";

fn check(
    node_ports: &NodePorts,
    open: &[NodePortsAt; 2],
    processes: &[ListeningProcess],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, families) in node_ports {
        let at_port = |process: &&ListeningProcess| {
            process.protocol == port.protocol && process.address.port() == port.number
        };
        for process in processes.iter().filter(at_port) {
            findings.extend(match port.is_health_check {
                // The agent answers in both families, regardless of the Service's.
                true => at_health_check(port, process),
                false => at_node_port(port, families, process, open),
            });
        }
    }
    findings
}

fn at_node_port(
    port: &NodePort,
    families: &BTreeSet<IpFamily>,
    process: &ListeningProcess,
    [ipv4, ipv6]: &[NodePortsAt; 2],
) -> Option<Finding> {
    let ip = process.address.ip().to_canonical();
    let is_reached = |family: &IpFamily| match family {
        IpFamily::Ipv4 => sees_ipv4(ip) && is_open(ipv4, ip),
        IpFamily::Ipv6 => ip.is_ipv6() && is_open(ipv6, ip),
    };
    let NodePort { number, protocol, port, .. } = port;
    let ListeningProcess { address, holder, .. } = process;
    families.iter().any(is_reached).then(|| {
        Finding::warning(
            FindingCode::NodePortInUse,
            format!(
                "node port {number} ({}) of Service {port} is in use: {holder} listens on {address}, \
                 but traffic to that port goes to the Service's endpoints",
                protocol.name().to_uppercase()
            ),
            format!(
                "configure another port for the process, or change spec.ports[].nodePort; add \
                 {number} to net.ipv4.ip_local_reserved_ports so that the kernel does not assign it"
            ),
        )
    })
}

fn at_health_check(port: &NodePort, process: &ListeningProcess) -> Option<Finding> {
    let NodePort { number, port, .. } = port;
    let ListeningProcess { address, holder, name, .. } = process;
    // An unnamed process is usually the agent itself.
    let other = name.as_ref().filter(|name| *name != AGENT)?;
    Some(Finding::error(
        FindingCode::HealthCheckNodePortInUse,
        format!(
            "port {number} of Service {}/{} (spec.healthCheckNodePort) is in use: {holder} listens \
             on {address} and receives the load balancers' health checks",
            port.namespace, port.service
        ),
        format!("stop {other}, or configure another port for it; the agent retries"),
    ))
}

/// A wildcard IPv6 socket also accepts IPv4, unless IPV6_V6ONLY is set, which /proc/net does not show.
fn sees_ipv4(address: IpAddr) -> bool {
    address.is_ipv4() || address.is_unspecified()
}

/// True if node ports of a family are open at the address that a process listens on. It is an
/// address of this node.
fn is_open(node_ports_at: &NodePortsAt, address: IpAddr) -> bool {
    match address.is_unspecified() {
        true => node_ports_at.is_open_anywhere(),
        false => node_ports_at.is_open_at(address, |_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16, is_health_check: bool) -> NodePorts {
        port_of(&IpFamily::BOTH, number, is_health_check)
    }

    fn port_of(families: &[IpFamily], number: u16, is_health_check: bool) -> NodePorts {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: rulegen_net::Protocol::Tcp,
        };
        let port = NodePort { number, protocol: Protocol::Tcp, port, is_health_check };
        NodePorts::from([(port, families.iter().copied().collect())])
    }

    fn process(protocol: Protocol, address: &str, name: Option<&str>) -> Option<ListeningProcess> {
        let holder = name.map_or("a process".to_owned(), |name| format!("{name} (pid 7)"));
        let name = name.map(str::to_owned);
        Some(ListeningProcess { protocol, address: address.parse().ok()?, name, holder })
    }

    fn found_at(
        ports: &NodePorts,
        open: &NodePortsAt,
        process: Option<ListeningProcess>,
    ) -> Option<String> {
        let open = [open.clone(), open.clone()];
        let found = check(ports, &open, process.as_slice());
        found.first().map(|finding| finding.what.clone())
    }

    const ALL: NodePortsAt = NodePortsAt::AnyLocal { loopback: false };

    #[test]
    fn node_port_process_is_named() {
        let found_at = |process| found_at(&port(30080, false), &ALL, process);
        assert_eq!(
            found_at(process(Protocol::Tcp, "0.0.0.0:30080", Some("nginx"))).as_deref(),
            Some(
                "node port 30080 (TCP) of Service default/web:http is in use: nginx (pid 7) listens \
                 on 0.0.0.0:30080, but traffic to that port goes to the Service's endpoints"
            )
        );
        assert!(found_at(process(Protocol::Tcp, "[::]:30080", None)).is_some());
        assert_eq!(found_at(process(Protocol::Udp, "0.0.0.0:30080", Some("nginx"))), None);
        assert_eq!(found_at(process(Protocol::Tcp, "0.0.0.0:30081", Some("nginx"))), None);
    }

    #[test]
    fn node_port_process_at_a_closed_address_is_ignored() {
        let loopback = || process(Protocol::Tcp, "127.0.0.1:30080", Some("nginx"));
        let ports = port(30080, false);
        assert_eq!(found_at(&ports, &ALL, loopback()), None);
        assert!(found_at(&ports, &NodePortsAt::AnyLocal { loopback: true }, loopback()).is_some());
        let these = NodePortsAt::These(vec![IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(found_at(&ports, &these, loopback()), None);
        let at = |address| found_at(&ports, &these, process(Protocol::Tcp, address, Some("nginx")));
        assert!(at("192.0.2.1:30080").is_some());
        assert_eq!(at("192.0.2.2:30080"), None);
    }

    #[test]
    fn node_port_process_conflicts_in_its_own_family_only() {
        let is_found = |family, address| {
            let process = process(Protocol::Tcp, address, Some("nginx"));
            found_at(&port_of(&[family], 30080, false), &ALL, process).is_some()
        };
        for (address, ipv4, ipv6) in [
            ("0.0.0.0:30080", true, false),
            ("192.0.2.1:30080", true, false),
            ("[::ffff:192.0.2.1]:30080", true, false),
            ("[::]:30080", true, true),
            ("[2001:db8::1]:30080", false, true),
        ] {
            let found = IpFamily::BOTH.map(|family| is_found(family, address));
            assert_eq!(found, [ipv4, ipv6], "{address}");
        }
    }

    #[test]
    fn node_port_process_at_all_addresses_conflicts_only_if_node_ports_are_open_somewhere() {
        let [none, some] = [vec![], vec![IpAddr::from([192, 0, 2, 1])]].map(NodePortsAt::These);
        for address in ["0.0.0.0:30080", "[::]:30080"] {
            let process = || process(Protocol::Tcp, address, Some("nginx"));
            assert_eq!(found_at(&port(30080, false), &none, process()), None);
            assert!(found_at(&port(30080, false), &some, process()).is_some(), "{address}");
        }
        // Closed in IPv4, and the first process listens in IPv4 only.
        let open = [none, ALL];
        let found = |address| {
            check(&port(30080, false), &open, process(Protocol::Tcp, address, None).as_slice())
                .len()
        };
        assert_eq!([found("0.0.0.0:30080"), found("[::]:30080")], [0, 1]);
    }

    #[test]
    fn health_check_node_port_is_answered_by_the_agent_only() {
        let found_at = |name| {
            found_at(&port(30090, true), &ALL, process(Protocol::Tcp, "0.0.0.0:30090", name))
        };
        assert_eq!(found_at(Some("rulegen")), None);
        assert_eq!(found_at(None), None);
        assert!(found_at(Some("nginx")).is_some_and(|what| what.contains("healthCheckNodePort")));
    }
}
