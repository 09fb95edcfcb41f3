//! The text of a foreign rule: what is understood in the words of iptables-save, and everything
//! else as bytes.

use std::fmt::Write;

use rulegen_net::{IpFamily, Protocol};

use super::extension::ActualExtension;
use super::info::{array, u16_at, u32_at};
use crate::iptables::chain_name::ChainName;
use crate::iptables::rule::{Match, NATIVE_EXPRESSION, RuleSpec, Target};

/// NFT_META_OIFNAME and NFT_GOTO.
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const GOTO: u32 = (-4_i32).cast_unsigned();

/// The parts of a rule in words, in addition to those of a [`RuleSpec`].
#[derive(Debug, Default)]
pub(super) struct ForeignRule {
    out_interfaces: String,
    protocol: String,
    matches: Vec<String>,
    /// The match with the ports of TCP or UDP. iptables merges all of them.
    ports: Option<usize>,
    /// Words after the matches.
    targets: Vec<String>,
    target: Option<ChainName>,
}

/// The port that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortSide {
    Source,
    Destination,
}

impl ForeignRule {
    /// The whole rule, and the chain or target that it leads to.
    pub(super) fn text(self, spec: &RuleSpec) -> (String, Option<ChainName>) {
        let RuleSpec { source, destination, in_interface, protocol, .. } = spec;
        let addresses = RuleSpec {
            source: *source,
            destination: *destination,
            in_interface: in_interface.clone(),
            ..RuleSpec::default()
        };
        let protocol = RuleSpec { protocol: *protocol, ..RuleSpec::default() };
        let mut text = format!("{addresses}{}{protocol}{}", self.out_interfaces, self.protocol);
        self.matches.iter().for_each(|one| text.push_str(one));
        let mut target = self.target;
        if let Some(known) = &spec.target {
            text.push_str(&known.to_string());
            target = target.or_else(|| known_target(known));
        }
        self.targets.iter().for_each(|one| text.push_str(one));
        (text.trim_start().to_owned(), target)
    }

    pub(super) fn out_interface(&mut self, negated: bool, name: &str) -> Option<()> {
        self.out_interfaces.is_empty().then_some(())?;
        self.out_interfaces = format!("{} -o {name}", not(negated));
        Some(())
    }

    pub(super) fn has_protocol(&self) -> bool {
        !self.protocol.is_empty()
    }

    pub(super) fn protocol(&mut self, negated: bool, number: u8) {
        let known = PROTOCOLS.iter().find(|(of, _)| *of == number);
        let name = known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned());
        self.protocol = format!("{} -p {name}", not(negated));
    }

    pub(super) fn has_ports(&self) -> bool {
        self.ports.is_some()
    }

    pub(super) fn add_match(&mut self, one: &Match) {
        if matches!(one, Match::Transport { .. }) {
            self.ports = Some(self.matches.len());
        }
        self.matches.push(one.to_string());
    }

    pub(super) fn ports(
        &mut self,
        protocol: Protocol,
        side: PortSide,
        negated: bool,
        first: u16,
        last: u16,
    ) {
        let words = port_words(side, negated, first, last);
        self.of_transport(protocol, &words);
    }

    pub(super) fn tcp_flags(&mut self, negated: bool, mask: u8, set: u8) {
        let words =
            format!("{} --tcp-flags {} {}", not(negated), flag_names(mask), flag_names(set));
        self.of_transport(Protocol::Tcp, &words);
    }

    fn of_transport(&mut self, protocol: Protocol, words: &str) {
        let at = *self.ports.get_or_insert(self.matches.len());
        match self.matches.get_mut(at) {
            Some(one) => one.push_str(words),
            None => self.matches.push(format!(" -m {}{words}", protocol.name())),
        }
    }

    pub(super) fn wrapped_match(&mut self, actual: ActualExtension<'_>) {
        let words = match_words(actual).unwrap_or_else(|| bytes(actual));
        self.matches.push(format!(" -m {words}"));
    }

    pub(super) fn wrapped_target(&mut self, family: IpFamily, actual: ActualExtension<'_>) {
        let words = target_words(family, actual).unwrap_or_else(|| bytes(actual));
        self.lead(actual.name.into(), &format!(" -j {words}"));
    }

    pub(super) fn limit(&mut self, rate: u64, unit: u64, burst: u32) -> Option<()> {
        /// XT_LIMIT_BURST, which iptables-save does not print.
        const DEFAULT_BURST: u32 = 5;
        const UNITS: [(u64, &str); 4] =
            [(1, "sec"), (60, "min"), (60 * 60, "hour"), (24 * 60 * 60, "day")];
        let (_, unit) = UNITS.iter().find(|(seconds, _)| *seconds == unit)?;
        let mut words = format!(" -m limit --limit {rate}/{unit}");
        if burst != DEFAULT_BURST {
            words += &format!(" --limit-burst {burst}");
        }
        self.matches.push(words);
        Some(())
    }

    pub(super) fn netlink_log(&mut self, data: &[u8]) {
        self.lead("NFLOG".into(), &format!(" -j NFLOG {}", hexadecimal(data)));
    }

    pub(super) fn goto(&mut self, chain: ChainName) {
        let words = format!(" -g {chain}");
        self.lead(chain, &words);
    }

    /// A target behind another one.
    pub(super) fn further_target(&mut self, target: &Target) {
        self.targets.push(target.to_string());
    }

    fn lead(&mut self, target: ChainName, words: &str) {
        self.targets.push(words.to_owned());
        self.target.get_or_insert(target);
    }

    /// An expression that is not understood. One that may decide about the packet is a target,
    /// the rest are conditions.
    pub(super) fn expression(&mut self, name: &str, data: &[u8]) {
        const CONDITIONS: [&str; 25] = [
            "payload",
            "meta",
            "bitwise",
            "cmp",
            "range",
            "ct",
            "lookup",
            "fib",
            "rt",
            "socket",
            "osf",
            "hash",
            "numgen",
            "limit",
            "quota",
            "connlimit",
            "last",
            "byteorder",
            "exthdr",
            "dynset",
            "log",
            "objref",
            "xfrm",
            "tunnel",
            "match",
        ];
        // NFTA_LOOKUP_DREG: a verdict map has the register 0.
        const TO: u16 = 3;
        let is_verdict_map = name == "lookup" && super::attribute::be32(data, TO) == Some(0);
        let words = format!("{NATIVE_EXPRESSION}{name} {}]", hexadecimal(data));
        match CONDITIONS.contains(&name) && !is_verdict_map {
            true => self.matches.push(format!(" {words}")),
            false => self.targets.push(format!(" -j {words}")),
        }
    }
}

/// The words of `-j` after the blank.
fn known_target(target: &Target) -> Option<ChainName> {
    target.to_string().split_whitespace().nth(1).map(ChainName::from)
}

fn not(negated: bool) -> &'static str {
    if negated { " !" } else { "" }
}

/// Names of protocols in iptables-save that Services cannot use.
const PROTOCOLS: [(u8, &str); 13] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (112, "vrrp"),
    (115, "l2tp"),
    (132, "sctp"),
    (136, "udplite"),
];

fn port_words(side: PortSide, negated: bool, first: u16, last: u16) -> String {
    let option = match side {
        PortSide::Source => "--sport",
        PortSide::Destination => "--dport",
    };
    let range = if first == last { first.to_string() } else { format!("{first}:{last}") };
    format!("{} {option} {range}", not(negated))
}

/// Names of the flags of TCP, in the order of iptables-save.
fn flag_names(flags: u8) -> String {
    const NAMES: [(u8, &str); 6] =
        [(1, "FIN"), (2, "SYN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG")];
    if flags == 0 {
        return "NONE".to_owned();
    }
    let names = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    if flags & 0xc0 != 0 {
        names.push(format!("{:#x}", flags & 0xc0));
    }
    names.join(",")
}

/// Name, revision and bytes without the zeros at the end. All structures of a revision have the
/// same length.
fn bytes(actual: ActualExtension<'_>) -> String {
    let used = actual.info.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let info = hexadecimal(actual.info.get(..used).unwrap_or_default());
    format!("{} revision {} {info}", actual.name, actual.revision)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = "0x".to_owned();
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Frequent matches whose meaning matters for a verdict.
fn match_words(actual: ActualExtension<'_>) -> Option<String> {
    match (actual.name, actual.revision) {
        ("multiport", 1) => multiport(actual.info),
        ("tcp", 0) => tcp(actual.info),
        ("udp", 0) => udp(actual.info),
        ("conntrack", 3) => state(actual.info),
        ("addrtype", 1) => address_types(actual.info),
        _ => None,
    }
}

/// struct xt_multiport_v1.
fn multiport(info: &[u8]) -> Option<String> {
    const LENGTH: usize = 48;
    const PORTS: usize = 15;
    let [kind, count] = array(info, 0)?;
    let (count, inverted) = (usize::from(count), *info.get(47)?);
    let option = match kind {
        0 => "--sports",
        1 => "--dports",
        2 => "--ports",
        _ => return None,
    };
    if info.len() != LENGTH || count > PORTS || inverted > 1 {
        return None;
    }
    let mut words = format!("multiport{} {option} ", not(inverted == 1));
    let mut separator = "";
    for at in 0..count {
        words.push_str(separator);
        words.push_str(&u16_at(info, 2 + 2 * at)?.to_string());
        let is_start = *info.get(32 + at)? != 0;
        separator = if is_start { ":" } else { "," };
    }
    Some(words)
}

/// The source and destination ports of xt_tcp and xt_udp, unless they are any port.
fn xt_ports(info: &[u8], inverted: u8) -> Option<String> {
    let mut words = String::new();
    for (side, at, bit) in [(PortSide::Source, 0, 1), (PortSide::Destination, 4, 2)] {
        let (first, last) = (u16_at(info, at)?, u16_at(info, at + 2)?);
        let negated = inverted & bit != 0;
        if (first, last) != (0, u16::MAX) || negated {
            words.push_str(&port_words(side, negated, first, last));
        }
    }
    Some(words)
}

/// struct xt_tcp.
fn tcp(info: &[u8]) -> Option<String> {
    let [option, mask, set, inverted] = array(info, 8)?;
    if option != 0 || inverted > 7 {
        return None;
    }
    let mut words = format!("tcp{}", xt_ports(info, inverted)?);
    if mask != 0 || inverted & 4 != 0 {
        let not = not(inverted & 4 != 0);
        words += &format!("{not} --tcp-flags {} {}", flag_names(mask), flag_names(set));
    }
    Some(words)
}

/// struct xt_udp.
fn udp(info: &[u8]) -> Option<String> {
    let inverted = *info.get(8)?;
    (inverted <= 3).then_some(())?;
    Some(format!("udp{}", xt_ports(info, inverted)?))
}

/// The match `state`, which iptables writes as `conntrack` with the flag XT_CONNTRACK_STATE_ALIAS.
fn state(info: &[u8]) -> Option<String> {
    const FLAGS: usize = 146;
    const STATE: u16 = 1;
    const ALIAS: u16 = 1 << 13;
    const NAMES: [(u16, &str); 5] =
        [(1, "INVALID"), (8, "NEW"), (4, "RELATED"), (2, "ESTABLISHED"), (1 << 8, "UNTRACKED")];
    let (flags, inverted, bits) =
        (u16_at(info, FLAGS)?, u16_at(info, FLAGS + 2)?, u16_at(info, FLAGS + 4)?);
    let others = info.get(..FLAGS)?.iter().chain(info.get(FLAGS + 6..)?);
    let all = NAMES.iter().fold(0, |all, (bit, _)| all | bit);
    let is_only_states = flags == STATE | ALIAS
        && inverted & !(STATE | ALIAS) == 0
        && bits & !all == 0
        && others.copied().all(|byte| byte == 0);
    is_only_states.then_some(())?;
    let names = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name);
    let names: Vec<&str> = names.collect();
    Some(format!("state{} --state {}", not(inverted & STATE != 0), names.join(",")))
}

/// struct xt_addrtype_info_v1.
fn address_types(info: &[u8]) -> Option<String> {
    const NAMES: [&str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    let (source, destination, flags) = (u16_at(info, 0)?, u16_at(info, 2)?, u32_at(info, 4)?);
    let mut words = "addrtype".to_owned();
    for (option, bits, inverted) in
        [("--src-type", source, flags & 1), ("--dst-type", destination, flags & 2)]
    {
        if bits != 0 {
            let names = NAMES.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
            let names: Vec<&str> = names.map(|(_, name)| *name).collect();
            words += &format!("{} {option} {}", not(inverted != 0), names.join(","));
        }
    }
    // The options that limit the interface.
    (flags <= 3 && (source | destination) >> NAMES.len() == 0).then_some(words)
}

/// Frequent targets, and those whose options matter for a verdict.
fn target_words(family: IpFamily, actual: ActualExtension<'_>) -> Option<String> {
    match (actual.name, actual.revision) {
        ("REJECT", 0) => {
            let names: &[&str] = match family {
                IpFamily::Ipv4 => &REJECTIONS,
                IpFamily::Ipv6 => &REJECTIONS_OF_IPV6,
            };
            let code = usize::try_from(u32_at(actual.info, 0)?).ok()?;
            Some(format!("REJECT --reject-with {}", names.get(code)?))
        }
        ("CT", revision) => {
            let words = connection_tracking(actual.info).filter(|_| matches!(revision, 1 | 2));
            // XT_CT_NOTRACK. It decides about the packet, whatever the other options are.
            let is_untracked = u16_at(actual.info, 0)? & 1 != 0;
            words.or_else(|| is_untracked.then(|| format!("CT --notrack {}", bytes(actual))))
        }
        // XT_CONNMARK_RESTORE in struct xt_connmark_tginfo1 and 2.
        ("CONNMARK", 1 | 2) if *actual.info.get(12)? == 2 => {
            Some(format!("CONNMARK --restore-mark {}", bytes(actual)))
        }
        _ => None,
    }
}

/// struct xt_ct_target_info_v1, in the order of iptables-save. `None` if it has options without words
/// here: a timeout policy, or events.
fn connection_tracking(info: &[u8]) -> Option<String> {
    // XT_CT_*.
    const NOTRACK: u16 = 1;
    const NOTRACK_ALIAS: u16 = 2;
    const ZONE_DIR_ORIG: u16 = 4;
    const ZONE_DIR_REPL: u16 = 8;
    const ZONE_MARK: u16 = 16;
    const ALL: u16 = NOTRACK | NOTRACK_ALIAS | ZONE_DIR_ORIG | ZONE_DIR_REPL | ZONE_MARK;
    let (flags, zone) = (u16_at(info, 0)?, u16_at(info, 2)?);
    let (helper, rest) = (info.get(12..28)?, info.get(28..60)?);
    let events = info.get(4..12)?;
    if flags & !ALL != 0 || rest.first() != Some(&0) || events.iter().any(|byte| *byte != 0) {
        return None;
    }
    if flags & NOTRACK_ALIAS != 0 {
        return Some("NOTRACK".to_owned());
    }
    let mut words = "CT".to_owned();
    if flags & NOTRACK != 0 {
        words += " --notrack";
    }
    let helper: Vec<u8> = helper.iter().copied().take_while(|byte| *byte != 0).collect();
    let helper = String::from_utf8(helper).ok()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match helper.chars().all(is_name) {
        true if helper.is_empty() => {}
        true => words += &format!(" --helper {helper}"),
        false => return None,
    }
    let option = match (flags & ZONE_DIR_ORIG != 0, flags & ZONE_DIR_REPL != 0) {
        (true, false) => "--zone-orig",
        (false, true) => "--zone-reply",
        _ => "--zone",
    };
    match (flags & ZONE_MARK != 0, zone) {
        (true, _) => words += &format!(" {option} mark"),
        (false, 0) => {}
        (false, zone) => words += &format!(" {option} {zone}"),
    }
    Some(words)
}

/// enum ipt_reject_with.
const REJECTIONS: [&str; 9] = [
    "icmp-net-unreachable",
    "icmp-host-unreachable",
    "icmp-proto-unreachable",
    "icmp-port-unreachable",
    "echo-reply",
    "icmp-net-prohibited",
    "icmp-host-prohibited",
    "tcp-reset",
    "icmp-admin-prohibited",
];

/// enum ip6t_reject_with.
const REJECTIONS_OF_IPV6: [&str; 9] = [
    "icmp6-no-route",
    "icmp6-adm-prohibited",
    "icmp6-not-neighbour",
    "icmp6-addr-unreachable",
    "icmp6-port-unreachable",
    "echo-reply",
    "tcp-reset",
    "icmp6-policy-fail",
    "icmp6-reject-route",
];
