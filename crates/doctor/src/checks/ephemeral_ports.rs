//! Finds node ports that the kernel may assign to outgoing connections (net.ipv4.ip_local_port_range).
//! A process then has the port, and the agent cannot listen on a healthCheckNodePort.

use std::collections::BTreeMap;

use crate::error::FactResult;
use rulegen_model::Snapshot;
use rulegen_net::IpFamily;
use rulegen_os::sysctl::LocalPorts;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Number of node ports that the finding names.
const NAMED: usize = 3;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let node_ports = node_ports(&cluster.snapshot);
        Ok(CheckResult::Found(check(&node_ports, &LocalPorts::read()?).into_iter().collect()))
    })
}

/// The node ports, each with its Service.
fn node_ports(snapshot: &Snapshot) -> BTreeMap<u16, String> {
    let mut node_ports = BTreeMap::new();
    let ports = IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family));
    for port in ports {
        let name = &port.name;
        if let Some(number) = port.node_port {
            node_ports.entry(number.get()).or_insert_with(|| format!("Service {name}"));
        }
        if let Some(number) = port.health_check_node_port {
            node_ports.entry(number.get()).or_insert_with(|| {
                format!("Service {}/{}, healthCheckNodePort", name.namespace, name.service)
            });
        }
    }
    node_ports
}

fn check(node_ports: &BTreeMap<u16, String>, ephemeral: &LocalPorts) -> Option<Finding> {
    let assigned: Vec<(&u16, &String)> =
        node_ports.iter().filter(|(port, _)| ephemeral.assigns(**port)).collect();
    let ((first, _), (last, _)) = (assigned.first()?, assigned.last()?);
    let mut named: Vec<String> =
        assigned.iter().take(NAMED).map(|(port, service)| format!("{port} ({service})")).collect();
    let more = assigned.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let (start, end) = (ephemeral.range.start(), ephemeral.range.end());
    let all = if first == last { first.to_string() } else { format!("{first}-{last}") };
    let reserved: Vec<String> = ephemeral
        .reserved
        .iter()
        .map(|range| format!("{}-{}", range.start(), range.end()))
        .chain([all])
        .collect();
    Some(Finding::note(
        FindingCode::NodePortsEphemeral,
        format!(
            "the kernel may use node ports {} for outgoing connections, because they are in \
             net.ipv4.ip_local_port_range ({start}-{end}): a process then has the port, and a \
             program that wants to listen on it, such as the agent on a healthCheckNodePort, cannot",
            named.join(", ")
        ),
        format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={}, and persist it in /etc/sysctl.d; or set \
             a range that does not overlap with the node ports of the cluster",
            reserved.join(",")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_port_in_ephemeral_range_is_a_note_unless_reserved() {
        let ports = [30_080, 31_000, 31_001, 32_000, 32_768];
        let ports = ports.map(|port| (port, format!("Service default/web:{port}"))).into();
        let found = |range, reserved| check(&ports, &LocalPorts { range, reserved });
        assert_eq!(found(32_769..=60_999, vec![]), None);
        assert_eq!(found(32_768..=60_999, vec![32_768..=32_768]), None);
        let finding = found(1_024..=65_535, vec![30_080..=30_080, 6_443..=6_443]).unwrap();
        let start = "the kernel may use node ports 31000 (Service default/web:31000), 31001 (Service \
                     default/web:31001), 32000 (Service default/web:32000), and 1 more for outgoing";
        assert!(finding.what.starts_with(start), "{finding:?}");
        let start = "sysctl -w net.ipv4.ip_local_reserved_ports=30080-30080,6443-6443,31000-32768,";
        assert!(finding.remedy.starts_with(start), "{finding:?}");
        let finding = found(32_768..=60_999, vec![]).unwrap();
        assert!(finding.remedy.contains("reserved_ports=32768,"), "{finding:?}");
    }
}
