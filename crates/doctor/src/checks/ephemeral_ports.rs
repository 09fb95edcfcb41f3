//! Finds node ports that the kernel may assign to outgoing connections (net.ipv4.ip_local_port_range).
//! A process then has the port, and the agent cannot listen on a healthCheckNodePort.

use crate::error::FactResult;
use rulegen_lint::{EphemeralNodePort, ephemeral_node_ports};
use rulegen_model::ProblemCode;
use rulegen_os::sysctl::LocalPorts;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Number of node ports that the finding names.
const NAMED: usize = 3;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let ephemeral = LocalPorts::read()?;
        let assigned = ephemeral_node_ports(&cluster.snapshot, |port| ephemeral.assigns(port));
        Ok(CheckResult::Found(check(&assigned, &ephemeral).into_iter().collect()))
    })
}

/// What the finding says about a node port.
fn words(EphemeralNodePort { number, port, is_health_check }: &EphemeralNodePort) -> String {
    match is_health_check {
        false => format!("{number} (Service {port})"),
        true => {
            format!("{number} (Service {}/{}, healthCheckNodePort)", port.namespace, port.service)
        }
    }
}

fn check(assigned: &[EphemeralNodePort], ephemeral: &LocalPorts) -> Option<Finding> {
    let (first, last) = (assigned.first()?.number, assigned.last()?.number);
    let mut named: Vec<String> = assigned.iter().take(NAMED).map(words).collect();
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
        FindingCode::Object(ProblemCode::NodePortsEphemeral),
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
    use rulegen_net::{Protocol, ServicePortName};

    use super::*;

    #[test]
    fn node_port_in_ephemeral_range_is_a_note_unless_reserved() {
        let ports = [30_080, 31_000, 31_001, 32_000, 32_768];
        let port = |number: u16| EphemeralNodePort {
            number,
            port: ServicePortName {
                namespace: "default".into(),
                service: "web".into(),
                port: number.to_string().into(),
                protocol: Protocol::Tcp,
            },
            is_health_check: false,
        };
        let found = |range, reserved| {
            let ephemeral = LocalPorts { range, reserved };
            let assigned = ports.into_iter().filter(|port| ephemeral.assigns(*port)).map(port);
            check(&assigned.collect::<Vec<_>>(), &ephemeral)
        };
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
