//! Rules of iptables. Options that are not understood become unknown conditions.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_net::{IpFamily, Protocol};

use super::field::{PacketField, conntrack};
use super::mark::MarkChange;
use super::rule::{
    Action, FilterChains, FilterCondition, FilterRule, FirewallBaseChain, FirewallChainKind,
    NetfilterHook,
};
use crate::iptables::{
    ChainName, ConntrackState, Interface, Match, Negatable, Policy, RecentAction, Rule, RuleSpec,
    Ruleset, Table, Target, words,
};

/// The base chains of a ruleset in the tables that `is_wanted` selects. Empty chains that accept are
/// left out. `suffix` follows the name of the table, such as ` of iptables-legacy`.
pub fn of_iptables(
    ruleset: &Ruleset,
    suffix: &str,
    is_wanted: impl Fn(Table) -> bool,
) -> Vec<FirewallBaseChain> {
    let mut found = Vec::new();
    for (table, chains) in ruleset.tables.iter().filter(|(table, _)| is_wanted(**table)) {
        let is_idle = |chain: &crate::iptables::Chain| {
            chain.rules.is_empty() && chain.policy != Some(Policy::Drop)
        };
        let built_in = chains.iter().filter(|(name, chain)| name.is_built_in() && !is_idle(chain));
        let built_in: Vec<_> = built_in.collect();
        if built_in.is_empty() {
            continue;
        }
        let is_chain = |name: &ChainName| chains.contains_key(name);
        let rules = chains.iter().map(|(name, chain)| {
            let rules = chain.rules.iter();
            let rules = rules.map(|rule| rule_of_iptables(ruleset.family, rule, is_chain));
            (Arc::from(name.as_str()), rules.collect())
        });
        let rules: Arc<FilterChains> = Arc::new(rules.collect());
        for (name, chain) in built_in {
            let Some((hook, priority)) = hook_and_priority(*table, name.as_str()) else { continue };
            found.push(FirewallBaseChain {
                table: format!("{} {table}{suffix}", ruleset.family.nft_name()),
                chain: name.as_str().into(),
                hook,
                kind: if *table == Table::Nat {
                    FirewallChainKind::Nat
                } else {
                    FirewallChainKind::Filter
                },
                priority,
                drops_rest: chain.policy == Some(Policy::Drop),
                sees_all: true,
                chains: Some(rules.clone()),
            });
        }
    }
    found
}

/// A built-in chain whose rules are not known.
pub fn chain_of_iptables(table: String, name: &str, of: Table) -> Option<FirewallBaseChain> {
    let (hook, priority) = hook_and_priority(of, name)?;
    let kind = if of == Table::Nat { FirewallChainKind::Nat } else { FirewallChainKind::Filter };
    let chain = name.into();
    let (drops_rest, sees_all) = (false, true);
    Some(FirewallBaseChain {
        table,
        chain,
        hook,
        kind,
        priority,
        drops_rest,
        sees_all,
        chains: None,
    })
}

/// The hook and priority of a built-in chain (NF_IP_PRI_* of linux/netfilter_ipv4.h); `None` if the
/// table does not have it.
pub(crate) fn hook_and_priority(table: Table, chain: &str) -> Option<(NetfilterHook, i32)> {
    let hook = match chain {
        "PREROUTING" => NetfilterHook::Prerouting,
        "INPUT" => NetfilterHook::Input,
        "FORWARD" => NetfilterHook::Forward,
        "OUTPUT" => NetfilterHook::Output,
        "POSTROUTING" => NetfilterHook::Postrouting,
        _ => return None,
    };
    let is_there = Ruleset::built_in_chains(table).contains_key(&ChainName::from(chain));
    let priority = match (table, hook) {
        (Table::Raw, _) => -300,
        (Table::Mangle, _) => -150,
        (Table::Filter, _) => 0,
        (Table::Security, _) => 50,
        (Table::Nat, NetfilterHook::Prerouting | NetfilterHook::Output) => -100,
        (Table::Nat, _) => 100,
    };
    is_there.then_some((hook, priority))
}

/// A rule. `is_chain` tells a chain from a target.
pub fn rule_of_iptables(
    family: IpFamily,
    rule: &Rule,
    is_chain: impl Fn(&ChainName) -> bool,
) -> FilterRule {
    match rule {
        Rule::Known(spec) => FilterRule { text: Some(text(rule)), ..known(family, spec, is_chain) },
        Rule::Foreign { text: words, .. } => {
            FilterRule { text: Some(text(rule)), ..foreign(family, words, is_chain) }
        }
    }
}

fn text(rule: &Rule) -> Arc<str> {
    rule.to_string().trim_start().into()
}

fn known(family: IpFamily, spec: &RuleSpec, is_chain: impl Fn(&ChainName) -> bool) -> FilterRule {
    let RuleSpec { source, destination, in_interface, protocol, matches, target } = spec;
    let mut conditions = Vec::new();
    let networks =
        [(PacketField::source(family), source), (PacketField::destination(family), destination)];
    for (field, network) in networks {
        conditions.extend(network.map(|network| of_network(field, network.value, network.negated)));
    }
    let interface = in_interface.as_ref();
    conditions.extend(interface.map(|Negatable { negated, value }| {
        of_interface(PacketField::InInterface, value, *negated)
    }));
    conditions.extend(protocol.map(|protocol| of_protocol(protocol.number(), false)));
    conditions.extend(matches.iter().flat_map(of_match));
    let mut rule = FilterRule { conditions, ..FilterRule::default() };
    match target {
        None => {}
        Some(Target::Jump(chain)) if is_chain(chain) => {
            rule.action = Action::Jump(chain.as_str().into());
        }
        // A target without options.
        Some(Target::Jump(target)) => {
            (rule.action, rule.marks) = target_of_extension(target.as_str());
            rule.untracks = target.as_str() == "NOTRACK";
        }
        Some(Target::Accept) => rule.action = Action::Accept,
        Some(Target::Drop) => rule.action = Action::Drop,
        Some(Target::Return) => rule.action = Action::Return,
        Some(Target::Reject(_)) => rule.action = Action::Reject,
        Some(Target::SetMark(set)) => rule.marks = Some(MarkChange::to(!set.mask, set.value)),
        Some(Target::Masquerade { .. } | Target::Dnat(_)) => rule.action = Action::Translate,
    }
    rule
}

fn of_network(field: PacketField, network: IpNet, negated: bool) -> FilterCondition {
    let bits = network.prefix_len();
    match network.network() {
        IpAddr::V4(address) => FilterCondition::prefix(field, &address.octets(), bits, negated),
        IpAddr::V6(address) => FilterCondition::prefix(field, &address.octets(), bits, negated),
    }
}

fn of_interface(field: PacketField, interface: &Interface, negated: bool) -> FilterCondition {
    let name = interface.0.as_bytes();
    match name.strip_suffix(b"+") {
        Some(start) => {
            let bits = u8::try_from(start.len().saturating_mul(8)).unwrap_or(u8::MAX);
            FilterCondition::prefix(field, start, bits, negated)
        }
        None => FilterCondition::is(field, name, negated),
    }
}

fn of_protocol(number: u8, negated: bool) -> FilterCondition {
    FilterCondition::is(PacketField::Protocol, &[number], negated)
}

fn of_match(one: &Match) -> Vec<FilterCondition> {
    match one {
        Match::Comment(_) => vec![],
        Match::Transport { protocol, destination_port } => {
            let port = destination_port.map(|port| {
                FilterCondition::is(PacketField::DESTINATION_PORT, &port.to_be_bytes(), false)
            });
            [of_protocol(protocol.number(), false)].into_iter().chain(port).collect()
        }
        Match::Conntrack(states) => vec![of_states(&states.value, states.negated)],
        Match::Mark(mark) => vec![of_mark(mark.value.value, mark.value.mask, mark.negated)],
        Match::SourceType(_) => vec![FilterCondition::is(PacketField::SourceIsLocal, &[1], false)],
        Match::DestinationType(_) => {
            vec![FilterCondition::is(PacketField::DestinationIsLocal, &[1], false)]
        }
        Match::Recent(recent) if recent.action == RecentAction::Set => vec![],
        Match::Recent(_) => vec![FilterCondition::Unknown("-m recent".into())],
        Match::Random(_) => vec![FilterCondition::Unknown("-m statistic".into())],
    }
}

fn of_mark(value: u32, mask: u32, negated: bool) -> FilterCondition {
    let wide = |number: u32| u128::from(number) << 96;
    let range = (wide(value), wide(value));
    FilterCondition::Is {
        field: PacketField::Mark,
        mask: wide(mask),
        ranges: [range].into(),
        negated,
    }
}

fn of_states(states: &[ConntrackState], negated: bool) -> FilterCondition {
    let (mut state, mut status) = (0, 0);
    for one in states {
        match one {
            ConntrackState::Invalid => state |= conntrack::INVALID,
            ConntrackState::New => state |= conntrack::NEW,
            ConntrackState::Related => state |= conntrack::RELATED,
            ConntrackState::Established => state |= conntrack::ESTABLISHED,
            ConntrackState::Untracked => state |= conntrack::UNTRACKED,
            ConntrackState::Snat => status |= conntrack::SNAT,
            ConntrackState::Dnat => status |= conntrack::DNAT,
        }
    }
    let fields = [(PacketField::ConnectionState, state), (PacketField::NatStatus, status)];
    let used = fields.into_iter().filter(|(_, bits)| *bits != 0);
    let conditions =
        used.map(|(field, bits)| FilterCondition::has_bits(field, bits, false)).collect();
    FilterCondition::Any { conditions, negated }
}

/// Reads a rule that rulegen does not make.
fn foreign(family: IpFamily, text: &str, is_chain: impl Fn(&ChainName) -> bool) -> FilterRule {
    let mut reader =
        OptionReader { family, words: words(text).collect(), at: 0, module: String::new() };
    let mut rule = FilterRule::default();
    while let Some(option) = reader.next() {
        let negated = option == "!";
        let option = if negated { reader.next().unwrap_or_default() } else { option };
        match option.as_str() {
            "-j" | "--jump" | "-g" | "--goto" => {
                let name = reader.next().unwrap_or_default();
                let is_goto = matches!(option.as_str(), "-g" | "--goto");
                reader.target(&mut rule, &name, is_goto, &is_chain);
            }
            _ => rule.conditions.extend(reader.condition(&option, negated)),
        }
    }
    rule
}

/// Reads the options of a rule one after the other.
struct OptionReader {
    family: IpFamily,
    /// Words, and whether they were quoted.
    words: Vec<(String, bool)>,
    at: usize,
    /// The current match.
    module: String,
}

impl OptionReader {
    fn next(&mut self) -> Option<String> {
        let (word, _) = self.words.get(self.at)?;
        self.at += 1;
        Some(word.clone())
    }

    /// The words up to the next option.
    fn values(&mut self) -> Vec<String> {
        let is_value = |(word, quoted): &&(String, bool)| {
            *quoted || !(word.starts_with('-') && word.len() > 1 || word == "!")
        };
        let rest = self.words.get(self.at..).unwrap_or_default();
        let values: Vec<String> =
            rest.iter().take_while(is_value).map(|(w, _)| w.clone()).collect();
        self.at += values.len();
        values
    }

    /// The condition of an option; `None` if it has none.
    fn condition(&mut self, option: &str, negated: bool) -> Option<FilterCondition> {
        if matches!(option, "-m" | "--match") {
            self.module = self.next().unwrap_or_default();
            // Options of other matches are not understood either, but a match may have none.
            return match self.module.as_str() {
                "tcp" | "udp" | "sctp" | "udplite" | "icmp" | "icmp6" | "comment" | "conntrack"
                | "state" | "multiport" | "mark" | "addrtype" | "iprange" => None,
                other => Some(FilterCondition::Unknown(format!("-m {other}").into())),
            };
        }
        let values = self.values();
        let value = values.first().map(String::as_str).unwrap_or_default();
        if option == "--comment" {
            return None;
        }
        let known = self.known_condition(option, value, &values, negated);
        Some(known.unwrap_or_else(|| {
            let not = if negated { "! " } else { "" };
            FilterCondition::Unknown(
                format!("{not}{option} {}", values.join(" ")).trim_end().into(),
            )
        }))
    }

    fn known_condition(
        &self,
        option: &str,
        value: &str,
        values: &[String],
        negated: bool,
    ) -> Option<FilterCondition> {
        let (source, destination) =
            (PacketField::source(self.family), PacketField::destination(self.family));
        let interface = |field| Some(of_interface(field, &Interface(value.into()), negated));
        let network = |field| Some(of_network(field, network(value)?, negated));
        Some(match (self.module.as_str(), option) {
            (_, "-s") => network(source)?,
            (_, "-d") => network(destination)?,
            (_, "-i") => interface(PacketField::InInterface)?,
            (_, "-o") => interface(PacketField::OutInterface)?,
            (_, "-p") => of_protocol(protocol(value)?, negated),
            (_, "--dport") => ports(PacketField::DESTINATION_PORT, value, negated)?,
            (_, "--sport") => ports(PacketField::SOURCE_PORT, value, negated)?,
            ("multiport", "--dports") => ports(PacketField::DESTINATION_PORT, value, negated)?,
            ("multiport", "--sports") => ports(PacketField::SOURCE_PORT, value, negated)?,
            ("conntrack", "--ctstate") | ("state", "--state") => {
                of_states(&states(value)?, negated)
            }
            ("mark", "--mark") => {
                let (value, mask) = mark(value)?;
                of_mark(value, mask, negated)
            }
            ("addrtype", "--src-type") if value == "LOCAL" => {
                FilterCondition::is(PacketField::SourceIsLocal, &[1], negated)
            }
            ("addrtype", "--dst-type") if value == "LOCAL" => {
                FilterCondition::is(PacketField::DestinationIsLocal, &[1], negated)
            }
            ("iprange", "--src-range") => addresses(source, value, negated)?,
            ("iprange", "--dst-range") => addresses(destination, value, negated)?,
            ("tcp", "--tcp-flags") => {
                let [mask, set] = values else { return None };
                let (mask, set) = (tcp_flags(mask)?, tcp_flags(set)?);
                let wide = |flags: u8| u128::from(flags) << 120;
                let ranges = [(wide(set), wide(set))].into();
                FilterCondition::Is {
                    field: PacketField::TCP_FLAGS,
                    mask: wide(mask),
                    ranges,
                    negated,
                }
            }
            _ => return None,
        })
    }

    fn target(
        &mut self,
        rule: &mut FilterRule,
        name: &str,
        is_goto: bool,
        is_chain: impl Fn(&ChainName) -> bool,
    ) {
        let options = self.words.get(self.at..).unwrap_or_default();
        let has = |wanted: &str| options.iter().any(|(word, _)| word == wanted);
        let (untracks, restores) = (has("--notrack"), has("--restore-mark"));
        let mut after = options.iter().map(|(word, _)| word).skip_while(|of| *of != "--set-xmark");
        let set = after.nth(1).filter(|_| name == "MARK").and_then(|text| mark(text));
        self.at = self.words.len();
        if is_chain(&ChainName::from(name)) {
            let to = name.into();
            rule.action = if is_goto { Action::Goto(to) } else { Action::Jump(to) };
            return;
        }
        let (action, marks) = target_of_extension(name);
        rule.action = action;
        rule.marks = match set {
            Some((value, mask)) => Some(MarkChange::to(!mask, value)),
            None if name == "CONNMARK" && restores => Some(MarkChange::UNKNOWN),
            None => marks,
        };
        rule.untracks = name == "NOTRACK" || name == "CT" && untracks;
    }
}

/// What a target of iptables does, and how it changes the mark. `MARK`, `CONNMARK`, `CT` and `NOTRACK`
/// need their options.
pub fn target_of_extension(name: &str) -> (Action, Option<MarkChange>) {
    let action = match name {
        "ACCEPT" => Action::Accept,
        "DROP" => Action::Drop,
        "REJECT" => Action::Reject,
        "RETURN" => Action::Return,
        "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" | "SAME" => Action::Translate,
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "CLASSIFY" | "DSCP" | "TOS" | "TTL" | "HL"
        | "TCPMSS" | "CHECKSUM" | "SECMARK" | "CONNSECMARK" | "AUDIT" | "SET" | "TEE"
        | "RATEEST" | "IDLETIMER" | "LED" | "ECN" | "TCPOPTSTRIP" | "MARK" | "HMARK"
        | "CONNMARK" | "CT" | "NOTRACK" => Action::Continue,
        other => Action::Anything(format!("-j {other}").into()),
    };
    (action, matches!(name, "MARK" | "HMARK").then_some(MarkChange::UNKNOWN))
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: IpAddr| address.into()))
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "udplite" => 136,
        name => match Protocol::from_name(name) {
            Some(protocol) => protocol.number(),
            None => name.parse().ok()?,
        },
    })
}

/// A list of ports and ranges, such as `22,80:90`.
fn ports(field: PacketField, list: &str, negated: bool) -> Option<FilterCondition> {
    let wide = |port: u16| u128::from(port) << 112;
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for part in list.split(',') {
        let (low, high) = part.split_once(':').unwrap_or((part, part));
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        if low <= high {
            ranges.push((wide(low), wide(high)));
        }
    }
    ranges.sort_unstable();
    // Overlapping ranges would break the order of their ends.
    ranges.is_sorted_by(|(_, end), (start, _)| end < start).then(|| FilterCondition::Is {
        field,
        mask: u128::MAX,
        ranges: ranges.into(),
        negated,
    })
}

fn addresses(field: PacketField, range: &str, negated: bool) -> Option<FilterCondition> {
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let octets = |text: &str| match text.parse().ok()? {
        IpAddr::V4(address) => Some(address.octets().to_vec()),
        IpAddr::V6(address) => Some(address.octets().to_vec()),
    };
    Some(FilterCondition::between(field, &octets(low)?, &octets(high)?, negated))
}

fn states(list: &str) -> Option<Vec<ConntrackState>> {
    let state = |name: &str| ConntrackState::ALL.iter().find(|(_, known)| *known == name);
    list.split(',').map(|name| state(name).map(|(state, _)| *state)).collect()
}

fn mark(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn tcp_flags(list: &str) -> Option<u8> {
    list.split(',').try_fold(0, |flags, name| {
        Some(
            flags
                | match name {
                    "FIN" => 0x01,
                    "SYN" => 0x02,
                    "RST" => 0x04,
                    "PSH" => 0x08,
                    "ACK" => 0x10,
                    "URG" => 0x20,
                    "ALL" => 0x3f,
                    "NONE" => 0,
                    _ => return None,
                },
        )
    })
}
