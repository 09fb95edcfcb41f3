//! Checks whether kube-proxy is running too. Both would write rules, and the chain that runs first
//! would translate each connection.

use crate::error::FactResult;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_net::IpFamily;
use rulegen_os::process::{NetworkNamespace, Process};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    // A kube-proxy in another network namespace belongs to another node (kind, tests).
    let processes = Process::all()?.into_iter().filter(|process| process.name == "kube-proxy");
    let processes = processes.filter_map(|process| {
        let namespace = process.network_namespace()?;
        Some((process, namespace))
    });
    let is_ours = node.table().as_str() == KUBE_PROXY_TABLE;
    let of_kube_proxy = node.tables()?.iter().filter(|(_, name)| name.as_str() == KUBE_PROXY_TABLE);
    let tables = of_kube_proxy.filter(|_| !is_ours).map(|(family, _)| *family).collect();
    Ok(CheckResult::Found(check(&KubeProxyFacts { processes: processes.collect(), tables })))
}

struct KubeProxyFacts {
    processes: Vec<(Process, NetworkNamespace)>,
    /// The IP families in which kube-proxy has a table.
    tables: Vec<IpFamily>,
}

fn check(facts: &KubeProxyFacts) -> Vec<Finding> {
    let process = |(process, namespace): &(Process, NetworkNamespace)| match namespace {
        NetworkNamespace::Other => None,
        NetworkNamespace::Ours => Some(Finding::error(
            FindingCode::KubeProxyRunning,
            format!(
                "{process} is running on this node: it and rulegen write rules for the same Services"
            ),
            "stop kube-proxy on this node: kubectl -n kube-system delete daemonset kube-proxy, or \
             set a nodeSelector that excludes this node",
        )),
        NetworkNamespace::Unknown => Some(Finding::note(
            FindingCode::KubeProxyNamespaceUnknown,
            format!("{process} is running, but its network namespace cannot be read"),
            "run rulegen doctor as root with CAP_SYS_PTRACE",
        )),
    };
    let table = |family: &IpFamily| {
        let table = format!("{} {KUBE_PROXY_TABLE}", family.nft_name());
        Finding::warning(
            FindingCode::KubeProxyTable,
            format!("the nftables table {table} translates the same connections"),
            format!(
                "nft delete table {table}, after kube-proxy was stopped; the agent does this after its \
                 first sync"
            ),
        )
    };
    let processes = facts.processes.iter().filter_map(process);
    processes.chain(facts.tables.iter().map(table)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingSeverity;

    #[test]
    fn kube_proxy_in_another_network_namespace_is_ignored() {
        use NetworkNamespace::{Other, Ours, Unknown};
        let severities = |namespace, tables: &[IpFamily]| {
            let process = Process { pid: 7, name: "kube-proxy".to_owned() };
            let facts =
                KubeProxyFacts { processes: vec![(process, namespace)], tables: tables.to_vec() };
            check(&facts).iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        assert_eq!(severities(Other, &[]), []);
        assert_eq!(severities(Unknown, &[]), [FindingSeverity::Note]);
        let both = [FindingSeverity::Error, FindingSeverity::Warning];
        assert_eq!(severities(Ours, &[IpFamily::Ipv6]), both);
    }
}
