//! The Services of iptables rules in kube-proxy's layout.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rulegen_compiler::Refusal;
use rulegen_compiler::iptables::{EXTERNAL_SERVICES, MARK_MASQUERADE, NODE_PORTS, SERVICES};
use rulegen_model::TrafficPolicy;
use rulegen_net::{Frontend, FrontendAddress, FrontendKind, IpFamily, ServicePortName};
use rulegen_ruleset::iptables::{
    AddressType, ChainName, Match, Recent, RecentAction, Rule, RuleSpec, Ruleset, Table, Target,
};

use crate::rule_comment::{CommentSubject, RuleComment};

use super::reachable::{ClientScope, ReachableEndpoints};
use super::{Listing, Traffic};

/// Lists the Services of a ruleset, with the names in the comments of its rules.
pub fn of_ruleset(ruleset: &Ruleset) -> Listing {
    let mut listing = Listing::default();
    let mut seen = HashSet::new();
    for entry in entries(ruleset) {
        // Packets reach the first of two rules for a frontend.
        if seen.insert(entry.frontend) {
            let traffic = follow(ruleset, &entry);
            listing.services.entry(entry.name).or_default().insert(entry.frontend, traffic);
        }
    }
    for (chain, internal) in [(SERVICES, true), (EXTERNAL_SERVICES, false)] {
        for rule in rules(ruleset, Table::Filter, chain) {
            refused(ruleset.family, rule, internal, &mut listing);
        }
    }
    listing
}

/// A rule that matches traffic to a frontend.
pub(super) struct Entry<'a> {
    pub(super) frontend: Frontend,
    pub(super) name: Option<ServicePortName>,
    kind: FrontendKind,
    pub(super) chain: &'a ChainName,
}

/// In the order in which packets reach them.
pub(super) fn entries(ruleset: &Ruleset) -> impl Iterator<Item = Entry<'_>> {
    let chains = [SERVICES, NODE_PORTS].into_iter();
    let rules = chains.flat_map(|chain| rules(ruleset, Table::Nat, chain));
    rules.filter_map(|rule| entry(ruleset.family, rule))
}

fn entry(family: IpFamily, rule: &RuleSpec) -> Option<Entry<'_>> {
    let Some(Target::Jump(chain)) = &rule.target else { return None };
    let frontend = frontend(family, rule)?;
    let comment = RuleComment::of(rule);
    let kind = match (frontend.address, comment.and_then(RuleComment::subject)) {
        (FrontendAddress::Node(_), _) => FrontendKind::NodePort,
        (FrontendAddress::Ip(_), Some(CommentSubject::Frontend(kind))) => kind,
        (FrontendAddress::Ip(_), _) if chain.as_str().starts_with("KUBE-FW-") => {
            FrontendKind::LoadBalancerIP
        }
        (FrontendAddress::Ip(_), _) if chain.as_str().starts_with("KUBE-EXT-") => {
            FrontendKind::External
        }
        (FrontendAddress::Ip(_), _) => FrontendKind::ClusterIP,
    };
    Some(Entry {
        frontend,
        name: comment.and_then(|comment| comment.service_port(frontend.protocol)),
        kind,
        chain,
    })
}

fn refused(family: IpFamily, rule: &RuleSpec, internal: bool, listing: &mut Listing) {
    let refusal = match &rule.target {
        Some(Target::Reject(_)) => Refusal::NoEndpoints,
        Some(Target::Drop) => Refusal::NoLocalEndpoints,
        _ => return,
    };
    let Some(frontend) = frontend(family, rule) else { return };
    let kind = match frontend.address {
        FrontendAddress::Node(_) => FrontendKind::NodePort,
        FrontendAddress::Ip(_) if internal => FrontendKind::ClusterIP,
        FrontendAddress::Ip(_) => FrontendKind::External,
    };
    let name = RuleComment::of(rule).and_then(|comment| comment.service_port(frontend.protocol));
    listing.refuse(name, frontend, kind, refusal);
}

/// The address and port that a rule matches; node ports have no address.
fn frontend(family: IpFamily, rule: &RuleSpec) -> Option<Frontend> {
    let address = match &rule.destination {
        None => FrontendAddress::Node(family),
        Some(network) if network.negated => return None,
        Some(network) if network.value.prefix_len() == network.value.max_prefix_len() => {
            FrontendAddress::Ip(network.value.addr())
        }
        Some(_) => return None,
    };
    let (over, port) = rule.matches.iter().find_map(|of| match of {
        Match::Transport { protocol, destination_port: Some(port) } => Some((*protocol, *port)),
        _ => None,
    })?;
    Some(Frontend { address, protocol: over, port })
}

fn rules<'a>(
    ruleset: &'a Ruleset,
    table: Table,
    chain: &str,
) -> impl Iterator<Item = &'a RuleSpec> + use<'a> {
    let rules = ruleset.chain(table, &chain.into()).into_iter().flat_map(|chain| &chain.rules);
    rules.filter_map(|rule| match rule {
        Rule::Known(rule) => Some(rule),
        Rule::Foreign { .. } => None,
    })
}

fn follow(ruleset: &Ruleset, entry: &Entry<'_>) -> Traffic {
    let mut reached = ReachableEndpoints::default();
    let is_firewalled = entry.chain.as_str().starts_with("KUBE-FW-");
    let mut ranges = Vec::new();
    walk(ruleset, entry.chain, |chain, rule, whose| {
        if is_firewalled && chain == entry.chain {
            return source_range(ruleset.family, rule, &mut ranges);
        }
        take(rule, whose, &mut reached)
    });
    let internal = match entry.chain.as_str() {
        name if name.starts_with("KUBE-SVC-") => Some(TrafficPolicy::Cluster),
        name if name.starts_with("KUBE-SVL-") => Some(TrafficPolicy::Local),
        _ => None,
    };
    let mut traffic = reached.into_traffic(entry.kind, internal);
    traffic.source_ranges = is_firewalled.then(|| IpNet::aggregate(&ranges));
    traffic
}

/// Follows all paths from a chain. `step` returns the client scope of a jump that should be
/// followed.
pub(super) fn walk<'a>(
    ruleset: &'a Ruleset,
    from: &'a ChainName,
    mut step: impl FnMut(&'a ChainName, &'a Rule, ClientScope) -> Option<ClientScope>,
) {
    let mut seen: HashSet<(&ChainName, ClientScope)> = HashSet::new();
    let mut waiting = vec![(from, ClientScope::All)];
    while let Some((name, whose)) = waiting.pop() {
        if !seen.insert((name, whose)) {
            continue;
        }
        let chain = ruleset.chain(Table::Nat, name);
        for rule in chain.into_iter().flat_map(|chain| &chain.rules) {
            if let (Some(target), Some(whose)) = (rule.target_chain(), step(name, rule, whose)) {
                waiting.push((target, whose));
            }
        }
    }
}

/// The effect of a rule between a frontend and its endpoints.
fn take(rule: &Rule, whose: ClientScope, reached: &mut ReachableEndpoints) -> Option<ClientScope> {
    let Rule::Known(rule) = rule else { return Some(whose) };
    let whose = if is_of_node(rule) { ClientScope::Node } else { whose };
    for of in &rule.matches {
        if let Match::Recent(Recent { action: RecentAction::Check { seconds }, .. }) = of {
            // An endpoint that only known clients reach.
            reached.keeps(*seconds);
            return None;
        }
    }
    match &rule.target {
        Some(Target::Dnat(endpoint)) => reached.endpoint(whose, *endpoint),
        Some(Target::Jump(chain)) if chain.as_str() != MARK_MASQUERADE => return Some(whose),
        Some(Target::Jump(_)) if whose == ClientScope::All && is_always(rule) => {
            reached.masquerades()
        }
        _ => {}
    }
    None
}

/// Records a source range, for the chain that checks the source. The chain leads to the same chains
/// for all clients.
fn source_range(family: IpFamily, rule: &Rule, ranges: &mut Vec<IpNet>) -> Option<ClientScope> {
    if let Rule::Known(RuleSpec { source, target: Some(Target::Jump(_)), .. }) = rule {
        match source {
            Some(source) if source.negated => {}
            Some(source) => ranges.push(source.value),
            None => ranges.extend(all_addresses(family)),
        }
    }
    Some(ClientScope::All)
}

fn all_addresses(family: IpFamily) -> Option<IpNet> {
    let network = match family {
        IpFamily::Ipv4 => IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpFamily::Ipv6 => IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    network.ok()
}

fn is_of_node(rule: &RuleSpec) -> bool {
    let is_given = |negated: Option<bool>| negated == Some(false);
    is_given(rule.source.as_ref().map(|source| source.negated))
        || is_given(rule.in_interface.as_ref().map(|interface| interface.negated))
        || rule.matches.contains(&Match::SourceType(AddressType::Local))
}

fn is_always(rule: &RuleSpec) -> bool {
    rule.source.is_none()
        && rule.destination.is_none()
        && rule.in_interface.is_none()
        && rule.matches.iter().all(|of| matches!(of, Match::Comment(_)))
}
