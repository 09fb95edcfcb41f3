//! Checks whether a session affinity set is nearly full; in iptables mode, whether the list of
//! clients that xt_recent keeps for an endpoint is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::error::Result;
use rulegen_compiler::nftables::affinity_service;
use rulegen_config::ProxyMode;
use rulegen_kernel::nftables::SetFill;
use rulegen_net::IpFamily;
use rulegen_os::recent::{list_limit, list_sizes};
use rulegen_ruleset::iptables::{Match, Rule, RuleSpec, Ruleset, Table, Target};

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome};
use crate::node_facts::{NodeFacts, nf_tables};

/// The same limit as for the metric `rulegen_affinity_full_sets`.
const NEARLY_FULL_PERCENT: u32 = 95;

pub(crate) fn run(node: &NodeFacts) -> Result<Outcome> {
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
    count: usize,
}

fn lists(node: &NodeFacts) -> Result<Outcome> {
    let (variant, sizes) = (node.variant()?, list_sizes()?);
    let held = node.iptables()?.iter().filter(|held| held.variant == variant);
    let lists = held.flat_map(|held| client_lists(&held.ruleset, &sizes));
    let limit = list_limit();
    Ok(Outcome::Found(lists.filter_map(|list| check_list(&list, limit)).collect()))
}

fn client_lists(ruleset: &Ruleset, sizes: &BTreeMap<String, usize>) -> Vec<ClientList> {
    let chains = ruleset.tables.get(&Table::Nat).into_iter().flat_map(|chains| chains.values());
    chains.flat_map(|chain| &chain.rules).filter_map(|rule| client_list(rule, sizes)).collect()
}

fn client_list(rule: &Rule, sizes: &BTreeMap<String, usize>) -> Option<ClientList> {
    let Rule::Known(RuleSpec { matches, target: Some(Target::Dnat(endpoint)), .. }) = rule else {
        return None;
    };
    let list = matches.iter().find_map(|one| match one {
        Match::Recent(recent) => Some(recent.list.as_str()),
        _ => None,
    });
    let service = matches.iter().find_map(|one| match one {
        Match::Comment(comment) => Some(comment.to_string()),
        _ => None,
    });
    Some(ClientList { service, endpoint: *endpoint, count: *sizes.get(list?)? })
}

fn check_list(list: &ClientList, limit: usize) -> Option<Finding> {
    let ClientList { service, endpoint, count } = list;
    if *count < limit.saturating_mul(NEARLY_FULL_PERCENT as usize).div_ceil(100) {
        return None;
    }
    let of = service.as_ref().map(|service| format!(" of Service {service}")).unwrap_or_default();
    Some(Finding::warning(
        FindingCode::AffinityListNearlyFull,
        format!(
            "session affinity{of} to endpoint {endpoint} is nearly full: the kernel module xt_recent \
             keeps {count} of at most {limit} clients. When it is full, each new client replaces \
             another one, which may then get another endpoint"
        ),
        "echo 'options xt_recent ip_list_tot=10000' >/etc/modprobe.d/xt_recent.conf and reboot (the \
         value is read when the module is loaded), or use nftables mode",
    ))
}

fn sets(node: &NodeFacts) -> Result<Outcome> {
    let Some(mut kernel) = nf_tables()? else { return Ok(Outcome::Found(Vec::new())) };
    let mut found = Vec::new();
    for (family, table) in node.tables()?.iter().filter(|(_, table)| table == node.table()) {
        let fills = kernel.fills(*family, table)?;
        found.extend(fills.iter().filter_map(|fill| check(*family, fill)));
    }
    Ok(Outcome::Found(found))
}

fn check(family: IpFamily, fill: &SetFill) -> Option<Finding> {
    let service = affinity_service(&fill.name)?;
    if fill.percent() < NEARLY_FULL_PERCENT {
        return None;
    }
    let (protocol, family) = (service.protocol.api_name(), family.api_name());
    let SetFill { count, size, .. } = fill;
    Some(Finding::warning(
        FindingCode::AffinitySetNearlyFull,
        format!(
            "session affinity of Service {service} ({protocol}, {family}) is nearly full: {count} of \
             {size} clients. Without a free entry, new clients have no affinity: each of their \
             connections may get another endpoint"
        ),
        "reduce spec.sessionAffinityConfig.clientIP.timeoutSeconds of the Service so that entries \
         expire earlier, or spread the clients over several Services",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_list_of_xt_recent_nearly_full_warns_with_its_service_and_endpoint() {
        let rule = "-A KUBE-SEP-A -p tcp -m comment --comment default/web:http -m recent --set --name \
                    KUBE-SEP-A --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination \
                    10.244.1.5:8080";
        let text = format!("*nat\n:KUBE-SEP-A - [0:0]\n{rule}\nCOMMIT\n");
        let (ruleset, _) = rulegen_ruleset::iptables::parse(IpFamily::Ipv4, &text);
        let found = |count| {
            let lists = client_lists(&ruleset, &[("KUBE-SEP-A".to_owned(), count)].into());
            let [list] = &lists[..] else { panic!("one list") };
            check_list(list, 100)
        };
        assert_eq!(found(94), None);
        let what = found(95).unwrap().what;
        let start = "session affinity of Service default/web:http to endpoint 10.244.1.5:8080 is";
        assert!(what.starts_with(start) && what.contains("95 of at most 100 clients"), "{what}");
        assert!(client_lists(&ruleset, &BTreeMap::new()).is_empty());
    }

    fn fill(name: &str, count: u32) -> SetFill {
        SetFill { name: name.into(), count, size: 65_535 }
    }

    #[test]
    fn affinity_set_nearly_full_warns_with_its_service() {
        let of = |count| check(IpFamily::Ipv6, &fill("affinity/default/web/udp/dns", count));
        assert_eq!(of(62_258), None);
        let found = of(62_259).unwrap().what;
        let wanted = "session affinity of Service default/web:dns (UDP, IPv6) is nearly full: 62259 \
                      of 65535 clients";
        assert!(found.starts_with(wanted), "{found}");
        assert_eq!(check(IpFamily::Ipv4, &fill("foreign", 65_535)), None);
    }
}
