//! Other rules in the tables that rulegen uses.

use std::collections::BTreeSet;

use rulegen_compiler::iptables::{OURS, SERVICES, SHARED_FIREWALL, loopback_guard};
use rulegen_ruleset::iptables::{ChainName, Rule, RuleSpec, Ruleset, Table, Target};

/// A rule of another program that packets to Services pass before rulegen's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleAhead<'a> {
    /// The built-in chain of the table `nat`.
    pub chain: &'a ChainName,
    /// The rule. It translates, or jumps to a chain that does.
    pub rule: &'a Rule,
}

/// Rules of `nat` that translate, or jump to a chain that does, before the jump to our Services;
/// all of them if there is no such jump. A connection that one of them translates never reaches an
/// endpoint of a Service.
pub fn translations_ahead(actual: &Ruleset) -> Vec<RuleAhead<'_>> {
    let built_in = ["PREROUTING", "OUTPUT"].map(ChainName::from);
    let chains = actual.tables.get(&Table::Nat).into_iter().flatten();
    let chains = chains.filter(|(name, _)| built_in.contains(name));
    chains
        .flat_map(|(chain, content)| {
            let leads_to_us = |rule: &&Rule| rule.target_chain() == Some(&SERVICES.into());
            let ahead = content.rules.iter().take_while(move |rule| !leads_to_us(rule));
            ahead.filter(|rule| translates(actual, rule)).map(move |rule| RuleAhead { chain, rule })
        })
        .collect()
}

/// Whether the table `nat` has a chain of kube-proxy's layout. kubelet's chains do not count.
pub fn holds_services(actual: &Ruleset) -> bool {
    let mut chains = actual.tables.get(&Table::Nat).into_iter().flat_map(|chains| chains.keys());
    chains.any(|chain| OURS.owns(Table::Nat, chain))
}

/// Whether packets from other hosts to loopback addresses are dropped, which route_localnet would
/// accept: the rule that kube-proxy, kubelet and rulegen make, and a jump to it.
pub fn guards_loopback(actual: &Ruleset) -> bool {
    let rules = |chain: &str| {
        let chain = actual.chain(Table::Filter, &chain.into());
        chain.map(|chain| chain.rules.as_slice()).unwrap_or_default()
    };
    let guard = loopback_guard();
    rules(SHARED_FIREWALL).contains(&guard)
        && rules("INPUT").iter().any(|r| r.target_chain() == Some(&SHARED_FIREWALL.into()))
}

fn translates(actual: &Ruleset, rule: &Rule) -> bool {
    let mut seen: BTreeSet<&ChainName> = BTreeSet::new();
    let mut next = vec![rule];
    while let Some(rule) = next.pop() {
        if is_translation(rule) {
            return true;
        }
        let Some(chain) = rule.target_chain().filter(|chain| seen.insert(chain)) else { continue };
        next.extend(actual.chain(Table::Nat, chain).into_iter().flat_map(|chain| &chain.rules));
    }
    false
}

fn is_translation(rule: &Rule) -> bool {
    match rule {
        Rule::Known(RuleSpec { target: Some(Target::Dnat(_)), .. }) => true,
        Rule::Known(_) => false,
        Rule::Foreign { target, .. } => target
            .as_ref()
            .is_some_and(|target| matches!(target.as_str(), "DNAT" | "REDIRECT" | "NETMAP")),
    }
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;
    use rulegen_ruleset::iptables::parse;

    use super::*;

    fn actual(table: &str, lines: &[&str]) -> Ruleset {
        let text = format!("*{table}\n{}\nCOMMIT\n", lines.join("\n"));
        let (ruleset, errors) = parse(IpFamily::Ipv4, &text);
        assert_eq!(errors, []);
        ruleset
    }

    const SERVICES_JUMP: &str =
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";

    fn ahead(rules: &[&str]) -> Vec<String> {
        let chains = [
            ":PREROUTING ACCEPT [0:0]",
            ":OUTPUT ACCEPT [0:0]",
            ":KUBE-SERVICES - [0:0]",
            ":DOCKER - [0:0]",
            ":MARKS - [0:0]",
        ];
        let actual = actual("nat", &[chains.as_slice(), rules].concat());
        let text = |ahead: &RuleAhead<'_>| format!("{} {}", ahead.chain, ahead.rule);
        translations_ahead(&actual).iter().map(text).collect()
    }

    #[test]
    fn nat_order_finds_foreign_dnat_before_services_jump_through_chains() {
        let docker = "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER";
        let published =
            "-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80";
        let redirect = "-A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 3128";
        let found = ahead(&[docker, redirect, SERVICES_JUMP, published]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("PREROUTING") && found[0].contains("-j DOCKER"), "{found:?}");
        assert!(found[1].starts_with("OUTPUT") && found[1].contains("REDIRECT"), "{found:?}");
    }

    #[test]
    fn nat_order_ignores_foreign_rules_after_services_jump_or_without_dnat() {
        let marks = ["-A PREROUTING -j MARKS", "-A MARKS -j MARKS", "-A MARKS -j RETURN"];
        let behind = "-A PREROUTING -p tcp -j DNAT --to-destination 172.17.0.2:80";
        let rules = [marks.as_slice(), &[SERVICES_JUMP, behind]].concat();
        assert_eq!(ahead(&rules), Vec::<String>::new());
    }

    #[test]
    fn route_localnet_guard_must_be_reachable_from_input() {
        let chains = [":INPUT ACCEPT [0:0]", ":KUBE-FIREWALL - [0:0]"];
        let guard = "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \
                     \"block incoming localnet connections\" -m conntrack ! --ctstate \
                     RELATED,ESTABLISHED,DNAT -j DROP";
        let jump = "-A INPUT -j KUBE-FIREWALL";
        let guards = |rules: &[&str]| {
            guards_loopback(&actual("filter", &[chains.as_slice(), rules].concat()))
        };
        assert!(guards(&[jump, guard]));
        assert!(!guards(&[guard]));
        assert!(!guards(&[jump]));
    }

    #[test]
    fn kubelet_chains_do_not_count_as_service_rules() {
        assert!(holds_services(&actual("nat", &[":KUBE-SVC-ABC - [0:0]"])));
        assert!(!holds_services(&actual("nat", &[":KUBE-KUBELET-CANARY - [0:0]"])));
        assert!(!holds_services(&actual("mangle", &[":KUBE-IPTABLES-HINT - [0:0]"])));
    }
}
