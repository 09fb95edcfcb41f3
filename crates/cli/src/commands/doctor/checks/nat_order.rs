//! Who translates connections before rulegen does: of all nat chains of a hook the first that
//! translates a connection settles it for good, and in a chain the first rule (CVE-2019-9946).

use anyhow::Result;
use rulegen_agent::takeover::KUBE_PROXY_TABLE;
use rulegen_config::ProxyMode;
use rulegen_inspect::iptables::translations_ahead;
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::NatBaseChain;
use rulegen_net::IpFamily;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{DEFAULT_TABLE, HeldIptables, Rim, nf_tables};

/// NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h: where iptables translates, and rulegen's table.
const OURS: i32 = -100;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    let mode = rim.config().mode;
    let table = rim.table().as_str();
    let services = [table, DEFAULT_TABLE, KUBE_PROXY_TABLE];
    let held = rim.iptables()?;
    // The tables of proxies and of the other mode are told of by checks of their own.
    let is_told = |family: &str, table: &str| {
        services.contains(&table) || table == "nat" && holds_services_in_nftables(held, family)
    };
    let others = match nf_tables()? {
        Some(mut kernel) => kernel.nat_base_chains(OURS, is_told)?,
        None => Vec::new(),
    };
    let is_ours = |held: &&HeldIptables| mode == ProxyMode::Iptables && held.holds_services();
    // The nft variant's table was looked at among those of nftables, unless it was left out.
    let is_beside = |held: &&HeldIptables| {
        !is_ours(held) && (held.variant == Variant::Legacy || held.holds_services())
    };
    let ahead: Vec<String> = held.iter().filter(is_ours).flat_map(rules_ahead).collect();
    let beside: Vec<String> = held.iter().filter(is_beside).flat_map(rules_ahead).collect();
    Ok(Outcome::Found(check(&others, &ahead, &beside)))
}

/// Whether the table `nat` of a family of nftables is that of iptables-nft with Services in it.
fn holds_services_in_nftables(held: &[HeldIptables], family: &str) -> bool {
    let word = |held: &HeldIptables| match held.family {
        IpFamily::Ipv4 => "ip",
        IpFamily::Ipv6 => "ip6",
    };
    let of_nftables = |held: &&HeldIptables| held.variant == Variant::Nft && word(held) == family;
    held.iter().filter(of_nftables).any(HeldIptables::holds_services)
}

/// The rules as the program that shows them prints them.
fn rules_ahead(held: &HeldIptables) -> Vec<String> {
    let program = held.words();
    let ahead = translations_ahead(&held.ruleset);
    ahead.iter().map(|ahead| format!("{program} -t nat -A {}{}", ahead.chain, ahead.rule)).collect()
}

/// Chains of nftables at our place or before it, and rules of iptables before the jump to ours,
/// or beside ours: those of a variant, or a mode, in which ours are not.
fn check(translators: &[NatBaseChain], ahead: &[String], beside: &[String]) -> Vec<Finding> {
    let chain = |translator: &NatBaseChain| {
        let NatBaseChain { table_family, table, chain, priority, .. } = translator;
        let name = format!("{table_family} {table} {chain}");
        let remedy = format!(
            "see what it takes with nft list chain {name}; give it a priority above {OURS} if \
             Services shall come first"
        );
        match *priority < OURS {
            true => Finding::warning(
                format!(
                    "the nftables chain {name} translates first (priority {priority}): what it \
                     takes never gets to a Service"
                ),
                remedy,
            ),
            // The kernel does not tell the order of those at one place.
            false => Finding::note(
                format!(
                    "the nftables chain {name} translates too, at the same priority {priority}: \
                     which of two comes first hangs on which was made last"
                ),
                remedy,
            ),
        }
    };
    let rule = |rule: &String| {
        Finding::warning(
            format!("a rule that translates stands before those of Services: {rule}"),
            "if what it takes is meant for a Service, have its owner append it; or delete the jump \
             to KUBE-SERVICES from the chain, and rulegen puts it first again",
        )
    };
    // iptables has one place, which is ours.
    let other = |rule: &String| {
        Finding::note(
            format!(
                "a rule of iptables that Services are not in translates too, at the same priority \
                 {OURS}: which of two comes first hangs on which was made last: {rule}"
            ),
            "see what it takes; if that is meant for a Service, delete the rule",
        )
    };
    let rules = ahead.iter().map(rule).chain(beside.iter().map(other));
    translators.iter().map(chain).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;

    use super::*;
    use crate::commands::doctor::finding::Severity;

    #[test]
    fn the_first_wins_and_at_one_place_nobody_knows() {
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
        let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
        assert_eq!(
            severities,
            [Severity::Warning, Severity::Note, Severity::Warning, Severity::Note]
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
