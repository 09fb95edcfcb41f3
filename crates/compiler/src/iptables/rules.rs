//! Small pieces of rules, in the order in which iptables prints them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::iptables::{
    ChainName, Interface, Mark, Match, Negatable, RejectWith, Rule, RuleSpec, SetMark, Target,
};

use crate::plan::PodTraffic;

/// A rule without any match but a comment.
pub(super) fn commented(comment: impl Into<Arc<str>>) -> RuleSpec {
    RuleSpec { matches: vec![Match::Comment(comment.into())], ..RuleSpec::default() }
}

/// A rule for packets of a protocol to an address and port.
pub(super) fn to_port(
    destination: Option<IpAddr>,
    over: Protocol,
    port: u16,
    comment: impl Into<Arc<str>>,
) -> RuleSpec {
    RuleSpec {
        destination: destination.map(|ip| Negatable::is(IpNet::from(ip))),
        protocol: Some(over),
        matches: vec![
            Match::Comment(comment.into()),
            Match::Transport { protocol: over, destination_port: Some(port) },
        ],
        ..RuleSpec::default()
    }
}

/// Restricts a rule to sources in a network. The whole address space needs no match.
pub(super) fn from_network(mut rule: RuleSpec, source: IpNet) -> RuleSpec {
    rule.source = (source.prefix_len() > 0).then_some(Negatable::is(source));
    rule
}

/// Restricts a rule to traffic of this node's pods, or to all other traffic.
pub(super) fn by_pods(rule: RuleSpec, pods: &PodTraffic, negated: bool) -> RuleSpec {
    let through = |name: String| {
        let value = Interface(name.into());
        Some(Negatable { negated, value })
    };
    match pods {
        PodTraffic::From(network) if !negated => from_network(rule, *network),
        PodTraffic::From(network) => RuleSpec { source: Some(Negatable::is_not(*network)), ..rule },
        PodTraffic::Through(name) => RuleSpec { in_interface: through(name.clone()), ..rule },
        PodTraffic::ThroughPrefix(start) => {
            RuleSpec { in_interface: through(format!("{start}+")), ..rule }
        }
    }
}

/// Appends a match.
pub(super) fn matching(mut rule: RuleSpec, also: Match) -> RuleSpec {
    rule.matches.push(also);
    rule
}

/// Adds the target.
pub(super) fn then(rule: RuleSpec, target: Target) -> Rule {
    Rule::Known(RuleSpec { target: Some(target), ..rule })
}

/// Adds a jump to a chain as the target.
pub(super) fn jump(rule: RuleSpec, chain: impl Into<ChainName>) -> Rule {
    then(rule, Target::Jump(chain.into()))
}

pub(super) fn reject(family: IpFamily) -> Target {
    Target::Reject(match family {
        IpFamily::Ipv4 => RejectWith::IcmpPortUnreachable,
        IpFamily::Ipv6 => RejectWith::Icmp6PortUnreachable,
    })
}

pub(super) fn marked(mark: u32) -> Mark {
    Mark { value: mark, mask: mark }
}

/// Sets the bits of a mark.
pub(super) fn or_mark(mark: u32) -> Target {
    Target::SetMark(SetMark { value: mark, mask: mark })
}

/// Inverts bits of the mark (XOR).
pub(super) fn xor_mark(mark: u32) -> Target {
    Target::SetMark(SetMark { value: mark, mask: 0 })
}
