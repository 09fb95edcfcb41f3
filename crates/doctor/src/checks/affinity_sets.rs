//! Checks whether a session affinity set is nearly full; in iptables mode, whether the list of
//! clients that xt_recent keeps for an endpoint is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::FactResult;
use rulegen_compiler::nftables::affinity_service;
use rulegen_config::ProxyMode;
use rulegen_kernel::nftables::SetFill;
use rulegen_net::IpFamily;
use rulegen_os::recent;
use rulegen_ruleset::iptables::{
    ChainName, Match, Recent, RecentAction, Rule, RuleSpec, Ruleset, Table, Target,
};
use rulegen_ruleset::nftables::Name;

use super::rules_present::are_there;
use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{NodeFacts, nf_tables};

/// The same limit as for the metric `rulegen_affinity_full_sets`.
const NEARLY_FULL_PERCENT: u32 = 95;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    if !are_there(node)? {
        return Ok(CheckResult::NotChecked("no rules exist (see rules-present)".to_owned()));
    }
    match node.config().mode {
        ProxyMode::Nftables => sets(node),
        ProxyMode::Iptables => lists(node),
    }
}

/// A list of xt_recent for an endpoint.
struct ClientList {
    /// The comment of its rule, which has the service port's name. Rules of large clusters have
    /// none.
    service: Option<String>,
    endpoint: SocketAddr,
    /// The timeout of session affinity; `None` if no rule reads the list.
    timeout: Option<Duration>,
    /// Number of clients seen within the timeout. The list also keeps older ones.
    count: usize,
}

fn lists(node: &NodeFacts) -> FactResult<CheckResult> {
    let (variant, ages, limit) = (node.variant()?, recent::lists()?, recent::list_limit()?);
    let actual = node.iptables()?.iter().filter(|actual| actual.variant == variant);
    let lists = actual.flat_map(|actual| client_lists(&actual.ruleset, &ages));
    Ok(CheckResult::Found(lists.filter_map(|list| check_list(&list, limit)).collect()))
}

/// `ages` has the time since each client of a list was last seen.
fn client_lists(ruleset: &Ruleset, ages: &BTreeMap<String, Vec<Duration>>) -> Vec<ClientList> {
    let chains = ruleset.tables.get(&Table::Nat).into_iter().flat_map(|chains| chains.values());
    let rules = chains.flat_map(|chain| &chain.rules).filter_map(|rule| match rule {
        Rule::Known(rule) => Some(rule),
        Rule::Foreign { .. } => None,
    });
    let timeouts: BTreeMap<&ChainName, Duration> = rules.clone().filter_map(timeout).collect();
    rules.filter_map(|rule| client_list(rule, &timeouts, ages)).collect()
}

fn recent_match(rule: &RuleSpec) -> Option<&Recent> {
    rule.matches.iter().find_map(|one| match one {
        Match::Recent(recent) => Some(recent),
        _ => None,
    })
}

/// The list that a rule reads, with the maximum age of its clients.
fn timeout(rule: &RuleSpec) -> Option<(&ChainName, Duration)> {
    let recent = recent_match(rule)?;
    match recent.action {
        RecentAction::Check { seconds } => {
            Some((&recent.list, Duration::from_secs(seconds.into())))
        }
        RecentAction::Set => None,
    }
}

fn client_list(
    rule: &RuleSpec,
    timeouts: &BTreeMap<&ChainName, Duration>,
    ages: &BTreeMap<String, Vec<Duration>>,
) -> Option<ClientList> {
    let Some(Target::Dnat(endpoint)) = rule.target else { return None };
    let list = &recent_match(rule)?.list;
    let timeout = timeouts.get(list).copied();
    let is_counted = |age: &&Duration| timeout.is_none_or(|timeout| **age < timeout);
    let count = ages.get(list.as_str())?.iter().filter(is_counted).count();
    let service = rule.matches.iter().find_map(|one| match one {
        Match::Comment(comment) => Some(comment.to_string()),
        _ => None,
    });
    Some(ClientList { service, endpoint, timeout, count })
}

fn check_list(list: &ClientList, limit: usize) -> Option<Finding> {
    let ClientList { service, endpoint, timeout, count } = list;
    if *count < limit.saturating_mul(NEARLY_FULL_PERCENT as usize).div_ceil(100) {
        return None;
    }
    let of = service.as_ref().map(|service| format!(" of Service {service}")).unwrap_or_default();
    let within = timeout.map(|timeout| format!(" that connected within {} s", timeout.as_secs()));
    Some(Finding::warning(
        FindingCode::AffinityListNearlyFull,
        format!(
            "session affinity{of} to endpoint {endpoint} is nearly full: {count} clients{}. For each \
             endpoint, the kernel module xt_recent keeps at most {limit}; then a new client replaces \
             the one that connected longest ago, which may get another endpoint",
            within.unwrap_or_default()
        ),
        "echo 'options xt_recent ip_list_tot=10000' >/etc/modprobe.d/xt_recent.conf and reboot (the \
         value is read when the module is loaded), or use nftables mode",
    ))
}

fn sets(node: &NodeFacts) -> FactResult<CheckResult> {
    let Some(mut kernel) = nf_tables()? else { return Ok(CheckResult::Found(Vec::new())) };
    let mut found = Vec::new();
    for (family, table) in node.tables()?.iter().filter(|(_, table)| table == node.table()) {
        let fills = kernel.fills(*family, table)?;
        found.extend(fills.iter().filter_map(|fill| check(*family, table, fill)));
    }
    Ok(CheckResult::Found(found))
}

fn check(family: IpFamily, table: &Name, fill: &SetFill) -> Option<Finding> {
    let service = affinity_service(&fill.name)?;
    if fill.percent() < NEARLY_FULL_PERCENT {
        return None;
    }
    let (protocol, word) = (service.protocol.api_name(), family.api_name());
    let SetFill { name, count, size } = fill;
    let set = format!("{} {table} {name}", family.nft_name());
    Some(Finding::warning(
        FindingCode::AffinitySetNearlyFull,
        format!(
            "session affinity of Service {service} ({protocol}, {word}) is nearly full: {count} of \
             {size} clients. Without a free entry, new clients have no affinity: each of their \
             connections may get another endpoint"
        ),
        format!(
            "nft flush set {set} removes all clients now, and each may get another endpoint once; \
             reduce spec.sessionAffinityConfig.clientIP.timeoutSeconds of the Service so that later \
             clients expire earlier, or spread the clients over several Services"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_list_of_xt_recent_nearly_full_warns_unless_its_clients_expired() {
        let list = "--name KUBE-SEP-A --mask 255.255.255.255 --rsource";
        let comment = "-m comment --comment default/web:http";
        let check = format!(
            "-A KUBE-SVC-A {comment} -m recent --rcheck --seconds 60 --reap {list} -j KUBE-SEP-A"
        );
        let set = format!(
            "-A KUBE-SEP-A -p tcp {comment} -m recent --set {list} -m tcp -j DNAT --to-destination \
             10.244.1.5:8080"
        );
        let text =
            format!("*nat\n:KUBE-SVC-A - [0:0]\n:KUBE-SEP-A - [0:0]\n{check}\n{set}\nCOMMIT\n");
        let (ruleset, errors) = rulegen_ruleset::iptables::parse(IpFamily::Ipv4, &text);
        assert_eq!(errors, []);
        let found = |fresh, expired| {
            let ages =
                [vec![Duration::from_secs(59); fresh], vec![Duration::from_secs(60); expired]];
            let lists = client_lists(&ruleset, &[("KUBE-SEP-A".to_owned(), ages.concat())].into());
            let [list] = &lists[..] else { panic!("one list") };
            check_list(list, 100)
        };
        assert_eq!(found(94, 6), None);
        let what = found(95, 5).unwrap().what;
        let start = "session affinity of Service default/web:http to endpoint 10.244.1.5:8080 is \
                     nearly full: 95 clients that connected within 60 s. For each endpoint, the \
                     kernel module xt_recent keeps at most 100;";
        assert!(what.starts_with(start), "{what}");
        assert!(client_lists(&ruleset, &BTreeMap::new()).is_empty());
    }

    fn fill(name: &str, count: u32) -> SetFill {
        SetFill { name: name.into(), count, size: 65_535 }
    }

    #[test]
    fn affinity_set_nearly_full_warns_with_its_service() {
        let table = Name::from("rulegen");
        let of =
            |count| check(IpFamily::Ipv6, &table, &fill("affinity/default/web/udp/dns", count));
        assert_eq!(of(62_258), None);
        let finding = of(62_259).unwrap();
        let remedy = "nft flush set ip6 rulegen affinity/default/web/udp/dns removes";
        assert!(finding.remedy.starts_with(remedy), "{finding:?}");
        let found = finding.what;
        let desired = "session affinity of Service default/web:dns (UDP, IPv6) is nearly full: 62259 \
                      of 65535 clients";
        assert!(found.starts_with(desired), "{found}");
        assert_eq!(check(IpFamily::Ipv4, &table, &fill("foreign", 65_535)), None);
    }
}
