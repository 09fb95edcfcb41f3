//! Node ports that the kernel may assign to outgoing connections (net.ipv4.ip_local_port_range).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rulegen_model::{ProblemCode, Snapshot};
use rulegen_net::{IpFamily, ServicePortName};

use crate::finding::LintFinding;

/// A range of port numbers.
pub type PortRange = RangeInclusive<u16>;

/// The kernel's default of net.ipv4.ip_local_port_range.
pub(crate) const DEFAULT_RANGE: PortRange = 32_768..=60_999;

/// A node port that the kernel may assign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralNodePort {
    /// The port number on the node.
    pub number: u16,
    /// The service port.
    pub port: ServicePortName,
    /// Whether it is the healthCheckNodePort.
    pub is_health_check: bool,
}

/// The node ports of a snapshot that the kernel assigns, each once, ordered by number.
pub fn ephemeral_node_ports(
    snapshot: &Snapshot,
    assigns: impl Fn(u16) -> bool,
) -> Vec<EphemeralNodePort> {
    let mut found: BTreeMap<u16, EphemeralNodePort> = BTreeMap::new();
    let ports = IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family));
    for port in ports {
        let numbers = [(port.node_port, false), (port.health_check_node_port, true)];
        for (number, is_health_check) in numbers {
            let Some(number) = number.map(u16::from).filter(|number| assigns(*number)) else {
                continue;
            };
            found.entry(number).or_insert_with(|| {
                let port = port.name.clone();
                EphemeralNodePort { number, port, is_health_check }
            });
        }
    }
    found.into_values().collect()
}

/// The finding about a node port in the kernel's default range.
pub(crate) fn in_default_range(port: &EphemeralNodePort) -> LintFinding {
    let number = port.number;
    let (start, end) = (DEFAULT_RANGE.start(), DEFAULT_RANGE.end());
    LintFinding::new(
        ProblemCode::NodePortsEphemeral,
        format!(
            "the kernel may use node port {number} for outgoing connections: it is in the default of \
             net.ipv4.ip_local_port_range ({start}-{end})"
        ),
    )
    .remedy(format!(
        "choose a port below {start}, or set net.ipv4.ip_local_reserved_ports={number} on each node"
    ))
}
