//! Checks whether the kernel supports the rules. In nftables mode the kernel validates an example of
//! each kind of rule and rolls it back; iptables mode needs nf_tables or the programs of iptables-legacy.

use crate::error::FactResult;
use rulegen_config::ProxyMode;
use rulegen_kernel::iptables::{accessible, is_accessible};
use rulegen_kernel::nftables::Missing;
use rulegen_model::{Host, Objects, read_manifest, snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Table;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{NodeFacts, nf_tables};

/// A Service that uses all features: two endpoints, session affinity, source ranges, a node port.
const EXAMPLE: &str = include_str!("example.yaml");

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    Ok(match node.config().mode {
        ProxyMode::Nftables => CheckResult::Found(match nf_tables()? {
            Some(mut kernel) => check_nftables(&kernel.missing(&examples(node))?),
            None => vec![Finding::error(
                FindingCode::NfTablesUnsupported,
                "the kernel does not support nf_tables",
                "modprobe nf_tables, use a kernel built with CONFIG_NF_TABLES, or use --proxy-mode \
                 iptables",
            )],
        }),
        ProxyMode::Iptables => {
            let access = node.iptables_access();
            let variants = accessible(access).unwrap_or_default();
            let is_missing = |family: &&IpFamily| {
                !variants.iter().any(|variant| is_accessible(**family, *variant, access))
            };
            let missing = node.families().iter().filter(is_missing).copied().collect::<Vec<_>>();
            CheckResult::Found(check_iptables(&missing))
        }
    })
}

/// Tables with all kinds of rules.
fn examples(node: &NodeFacts) -> Vec<Table> {
    let mut objects = Objects::default();
    read_manifest("example", EXAMPLE.as_bytes(), &mut objects);
    let (snapshot, _) = snapshot(&objects, &node.config().snapshot_options(), &Host::default());
    node.desired_tables(&snapshot)
}

fn check_nftables(missing: &[Missing]) -> Vec<Finding> {
    let finding = |missing: &Missing| {
        let Missing { option, since, .. } = missing;
        Finding::error(
            FindingCode::KernelFeatureMissing,
            format!("the kernel does not support {missing}"),
            format!("use Linux {since} or newer, built with {option}; or --proxy-mode iptables"),
        )
    };
    missing.iter().map(finding).collect()
}

/// `missing` holds the families without an installed program.
fn check_iptables(missing: &[IpFamily]) -> Vec<Finding> {
    let finding = |family: &IpFamily| match family {
        IpFamily::Ipv4 => Finding::error(
            FindingCode::IptablesNotInstalled,
            "iptables is not installed: iptables mode requires it",
            "install iptables (iptables-nft-restore), or use --proxy-mode nftables",
        ),
        IpFamily::Ipv6 => Finding::warning(
            FindingCode::Ip6tablesNotInstalled,
            "ip6tables is not installed: Services get no IPv6 rules",
            "install ip6tables, or use --ip-family ipv4",
        ),
    };
    missing.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use rulegen_model::SnapshotOptions;
    use rulegen_net::IpFamily;

    use super::*;

    #[test]
    fn kernel_feature_missing_is_reported_with_first_linux_version() {
        let missing = Missing {
            family: IpFamily::Ipv4,
            feature: "random choice",
            option: "NFT_NUMGEN",
            since: "4.9",
            errno: "ENOENT: No such file or directory".to_owned(),
        };
        let [finding] = &check_nftables(&[missing])[..] else { panic!("one is missing") };
        assert!(
            finding.what.starts_with("the kernel does not support random choice"),
            "{finding:?}"
        );
        assert!(finding.remedy.starts_with("use Linux 4.9 or newer, built with NFT_NUMGEN"));
        assert_eq!(check_nftables(&[]), []);
        let found = check_iptables(&IpFamily::BOTH);
        let remedies: Vec<&str> = found.iter().map(|finding| &*finding.remedy).collect();
        let [ipv4, ipv6] = remedies[..] else { panic!("{remedies:?}") };
        assert!(ipv4.ends_with("use --proxy-mode nftables"), "{ipv4}");
        assert!(ipv6.ends_with("use --ip-family ipv4"), "{ipv6}");
        assert_eq!(check_iptables(&[]), []);
    }

    #[test]
    fn kernel_feature_example_manifest_compiles_without_problems() {
        let mut objects = Objects::default();
        assert_eq!(read_manifest("example", EXAMPLE.as_bytes(), &mut objects), []);
        let (snapshot, problems) =
            snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        assert_eq!(problems, []);
        for family in IpFamily::BOTH {
            let [port] = snapshot.service_ports(family) else { panic!("one port") };
            assert_eq!((port.endpoints.len(), port.source_ranges.len()), (2, 1));
            assert!(port.node_port.is_some() && port.affinity_seconds.is_some());
        }
    }
}
