//! Finds NAT rules that run before rulegen's. The first nat chain of a hook that translates a
//! connection decides it, and within a chain the first rule (CVE-2019-9946).

use crate::error::FactResult;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_config::ProxyMode;
use rulegen_inspect::iptables::translations_ahead;
use rulegen_kernel::nftables::NatBaseChain;
use rulegen_ruleset::iptables::Table;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{ActualIptables, NodeFacts, nf_tables};
use rulegen_compiler::nftables::DEFAULT_TABLE;

/// NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h: the priority of iptables' DNAT and of rulegen's table.
const OURS: i32 = -100;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let mode = node.config().mode;
    let table = node.table().as_str();
    let services = [table, DEFAULT_TABLE, KUBE_PROXY_TABLE];
    let actual = node.iptables()?;
    // The checks kube-proxy and other-mode report the tables of Services. The chains of iptables-nft
    // have fixed priorities, so its rules are reported instead.
    let is_reported = |family: &str, table: &str| {
        node.excludes_family(family)
            || services.contains(&table)
            || table == "nat" && is_of_iptables(actual, family)
    };
    let others = match nf_tables()? {
        Some(mut kernel) => kernel.nat_base_chains(OURS, is_reported)?,
        None => Vec::new(),
    };
    let is_ours = |actual: &&ActualIptables| mode == ProxyMode::Iptables && actual.holds_services();
    let is_other_variant = |actual: &&ActualIptables| !is_ours(actual);
    let ahead: Vec<String> = actual.iter().filter(is_ours).flat_map(rules_ahead).collect();
    let other_variant: Vec<String> =
        actual.iter().filter(is_other_variant).flat_map(rules_ahead).collect();
    node.found_in_iptables(check(&others, &ahead, &other_variant))
}

/// Whether the nftables table `nat` of this family belongs to iptables-nft.
fn is_of_iptables(actual: &[ActualIptables], family: &str) -> bool {
    let mut actual = actual.iter().filter(|actual| actual.family.nft_name() == family);
    actual.any(|actual| actual.is_of_iptables_nft(Table::Nat))
}

/// The rules in the format of `iptables -S`, with the program's name.
fn rules_ahead(actual: &ActualIptables) -> Vec<String> {
    let program = actual.words();
    let ahead = translations_ahead(&actual.ruleset);
    ahead.iter().map(|ahead| format!("{program} -t nat -A {}{}", ahead.chain, ahead.rule)).collect()
}

/// `translators` are nftables chains with our priority or a lower one, `ahead` are iptables rules
/// before the jump to KUBE-SERVICES, and `other_variant` are rules of an iptables variant that we do not use.
fn check(translators: &[NatBaseChain], ahead: &[String], other_variant: &[String]) -> Vec<Finding> {
    let chain = |translator: &NatBaseChain| {
        let NatBaseChain { table_family, table, chain, priority, .. } = translator;
        let name = format!("{table_family} {table} {chain}");
        let remedy = format!(
            "list its rules with nft list chain {name}; set a priority above {OURS} if Services \
             must come first"
        );
        match *priority < OURS {
            true => Finding::warning(
                FindingCode::NatChainFirst,
                format!(
                    "the nftables chain {name} translates first (priority {priority}): traffic that \
                     it translates does not reach Services"
                ),
                remedy,
            ),
            // The kernel does not report the order of chains with the same priority.
            false => Finding::note(
                FindingCode::NatChainSamePriority,
                format!(
                    "the nftables chain {name} also translates, with the same priority {priority}: \
                     which chain runs first depends on creation order"
                ),
                remedy,
            ),
        }
    };
    let rule = |rule: &String| {
        Finding::warning(
            FindingCode::NatRuleFirst,
            format!("a NAT rule runs before those of Services: {rule}"),
            "if it matches traffic to a Service, append it instead; or delete the jump to \
             KUBE-SERVICES from the chain, and rulegen inserts it first again",
        )
    };
    // All iptables nat chains have the same priority, which is ours.
    let other = |rule: &String| {
        Finding::note(
            FindingCode::NatRuleSamePriority,
            format!(
                "a NAT rule of another iptables variant or mode has the same priority {OURS}: which \
                 chain runs first depends on creation order: {rule}"
            ),
            "if it matches traffic to a Service, delete the rule",
        )
    };
    let rules = ahead.iter().map(rule).chain(other_variant.iter().map(other));
    translators.iter().map(chain).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;

    use super::*;
    use crate::finding::FindingSeverity;

    #[test]
    fn nat_order_lower_priority_is_a_warning_and_equal_priority_a_note() {
        let translator = |priority| NatBaseChain {
            families: vec![IpFamily::Ipv4],
            table_family: "inet",
            table: "firewall".to_owned(),
            chain: "pre".to_owned(),
            priority,
        };
        let rule = "iptables-nft -t nat -A PREROUTING -j DOCKER".to_owned();
        let other = "iptables-legacy -t nat -A PREROUTING -j DNAT".to_owned();
        let found = check(&[translator(-150), translator(-100)], &[rule], &[other]);
        let severities: Vec<FindingSeverity> =
            found.iter().map(|finding| finding.severity).collect();
        assert_eq!(
            severities,
            [
                FindingSeverity::Warning,
                FindingSeverity::Note,
                FindingSeverity::Warning,
                FindingSeverity::Note
            ]
        );
        assert!(found[0].what.contains("inet firewall pre"), "{found:?}");
        assert!(found[2].what.ends_with("-j DOCKER"), "{found:?}");
        assert!(
            found[3].what.ends_with("iptables-legacy -t nat -A PREROUTING -j DNAT"),
            "{found:?}"
        );
        assert_eq!(check(&[], &[], &[]), []);
    }
}
