//! Who translates connections before rulegen does: of all nat chains of a hook the first that
//! translates a connection settles it for good, and in a chain the first rule (CVE-2019-9946).

use anyhow::Result;
use rulegen_agent::takeover::KUBE_PROXY_TABLE;
use rulegen_compiler::iptables::translations_ahead;
use rulegen_kernel::nftables::Translator;
use rulegen_model::ProxyMode;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{DEFAULT_TABLE, HeldIptables, Rim, nf_tables};

/// NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h: where iptables translates, and rulegen's table.
const OURS: i32 = -100;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    let mode = rim.config().mode;
    let table = rim.table().as_str();
    let services = [table, DEFAULT_TABLE, KUBE_PROXY_TABLE];
    let holds_services = rim.iptables()?.iter().any(HeldIptables::holds_services);
    // The tables of proxies and of the other mode are told of by checks of their own.
    let is_told = |family: &str, table: &str| {
        let is_iptables = table == "nat" && family != "inet";
        services.contains(&table) || is_iptables && holds_services
    };
    let others = match nf_tables()? {
        Some(mut kernel) => kernel.translators(OURS, is_told)?,
        None => Vec::new(),
    };
    let ahead: Vec<String> = match mode {
        ProxyMode::Nftables => Vec::new(),
        ProxyMode::Iptables => {
            let held = rim.iptables()?.iter().filter(|held| held.holds_services());
            held.flat_map(rules_ahead).collect()
        }
    };
    Ok(Outcome::Found(check(&others, &ahead)))
}

/// The rules as the program that shows them prints them.
fn rules_ahead(held: &HeldIptables) -> Vec<String> {
    let program = held.words();
    let ahead = translations_ahead(&held.ruleset);
    ahead.iter().map(|ahead| format!("{program} -t nat -A {}{}", ahead.chain, ahead.rule)).collect()
}

/// Chains of nftables at our place or before it, and rules of iptables before the jump to ours.
fn check(translators: &[Translator], ahead: &[String]) -> Vec<Finding> {
    let chain = |translator: &Translator| {
        let Translator { table_family, table, chain, priority, .. } = translator;
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
    translators.iter().map(chain).chain(ahead.iter().map(rule)).collect()
}

#[cfg(test)]
mod tests {
    use rulegen_ruleset::Family;

    use super::*;
    use crate::commands::doctor::finding::Severity;

    #[test]
    fn the_first_wins_and_at_one_place_nobody_knows() {
        let translator = |priority| Translator {
            families: vec![Family::Ipv4],
            table_family: "inet",
            table: "firewall".to_owned(),
            chain: "pre".to_owned(),
            priority,
        };
        let rule = "iptables-nft -t nat -A PREROUTING -j DOCKER".to_owned();
        let found = check(&[translator(-150), translator(-100)], &[rule]);
        let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Note, Severity::Warning]);
        assert!(found[0].what.contains("inet firewall pre"), "{found:?}");
        assert!(found[2].what.ends_with("-j DOCKER"), "{found:?}");
        assert_eq!(check(&[], &[]), []);
    }
}
