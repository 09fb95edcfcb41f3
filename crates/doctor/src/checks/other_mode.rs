//! Finds leftover rules of the other proxy mode. The nat chain that runs first decides a connection,
//! and a reject by either mode applies. Chains that cleanup keeps because rules of other programs
//! jump to them do not count.

use crate::error::FactResult;
use rulegen_config::ProxyMode;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{ActualIptables, NodeFacts};
use rulegen_compiler::nftables::DEFAULT_TABLE;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let ours = [node.table().as_str(), DEFAULT_TABLE];
    let tables = node.tables()?.iter().filter(|(_, name)| ours.contains(&name.as_str()));
    let tables: Vec<String> =
        tables.map(|(family, name)| format!("{} {name}", family.nft_name())).collect();
    let chains = match node.config().mode {
        ProxyMode::Iptables => Vec::new(),
        ProxyMode::Nftables => {
            let actual = node.iptables()?.iter().filter(|actual| actual.holds_services());
            actual.map(ActualIptables::words).collect()
        }
    };
    let findings = check(node.config().mode, &tables, &chains);
    match node.config().mode {
        ProxyMode::Iptables => Ok(CheckResult::Found(findings)),
        ProxyMode::Nftables => node.found_in_iptables(findings),
    }
}

/// `tables` are existing tables of nftables mode, `chains` the programs that list chains of iptables
/// mode.
fn check(mode: ProxyMode, tables: &[String], chains: &[String]) -> Vec<Finding> {
    match mode {
        ProxyMode::Nftables => chains
            .iter()
            .map(|program| {
                Finding::warning(
                    FindingCode::IptablesRulesLeft,
                    format!("{program} has KUBE-* chains: they still translate and reject traffic"),
                    "rulegen cleanup, then apply again; an agent removes them after its first sync",
                )
            })
            .collect(),
        ProxyMode::Iptables => tables
            .iter()
            .map(|table| {
                Finding::warning(
                    FindingCode::NftablesTableLeft,
                    format!(
                        "the nftables table {table} exists: it still translates and rejects traffic"
                    ),
                    format!("nft delete table {table}; an agent in iptables mode does this itself"),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_other_mode_are_found_in_both_modes() {
        let table = ["ip rulegen".to_owned()];
        let program = ["iptables-nft".to_owned()];
        let findings = |mode, tables: &[String], chains: &[String]| {
            check(mode, tables, chains).into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(findings(ProxyMode::Nftables, &table, &[]), Vec::<String>::new());
        assert_eq!(findings(ProxyMode::Iptables, &[], &program), Vec::<String>::new());
        assert!(findings(ProxyMode::Nftables, &table, &program)[0].starts_with("iptables-nft has"));
        assert!(findings(ProxyMode::Iptables, &table, &program)[0].contains("table ip rulegen"));
    }
}
