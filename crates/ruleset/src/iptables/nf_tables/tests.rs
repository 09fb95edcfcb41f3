//! Rules against the bytes that iptables-nft-restore 1.8.9 sends for them.
//!
//! The files have two lines a rule: its text, then the protocol of NFTA_RULE_COMPAT and the content
//! of NFTA_RULE_EXPRESSIONS in hexadecimal, with `{n}` for n zero bytes. Captured with
//! `strace -e trace=sendmsg -e write=3 iptables-nft-restore`.

use proptest::prelude::*;

use super::*;
use crate::Negatable;
use crate::iptables::{
    AddressType, ConntrackState, Interface, Mark, Match, Recent, RecentAction, RejectWith, Rule,
    RuleSpec, SetMark, Table, Target, parse,
};
use rulegen_net::{IpFamily, Protocol};

struct Sample {
    text: &'static str,
    protocol: u8,
    expressions: Vec<u8>,
}

fn samples(file: &'static str) -> Vec<Sample> {
    let lines: Vec<&str> = file.lines().collect();
    let sample = |lines: &[&'static str]| {
        let (protocol, bytes) = lines[1].split_once(' ').unwrap();
        let protocol = protocol.parse().unwrap();
        Sample { text: lines[0], protocol, expressions: unhex(bytes) }
    };
    lines.chunks(2).map(sample).collect()
}

fn unhex(mut text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix('{') {
            let (zeros, rest) = rest.split_once('}').unwrap();
            bytes.resize(bytes.len() + zeros.parse::<usize>().unwrap(), 0);
            text = rest;
        } else {
            bytes.push(u8::from_str_radix(&text[..2], 16).unwrap());
            text = &text[2..];
        }
    }
    bytes
}

fn parsed(family: IpFamily, text: &str) -> Rule {
    let (ruleset, errors) = parse(family, &format!("*nat\n-A X {text}\nCOMMIT\n"));
    assert_eq!(errors, [], "{text}");
    ruleset.chain(Table::Nat, &"X".into()).unwrap().rules[0].clone()
}

const OURS: [(IpFamily, &str); 2] = [
    (IpFamily::Ipv4, include_str!("tests/ours.ipv4.txt")),
    (IpFamily::Ipv6, include_str!("tests/ours.ipv6.txt")),
];

#[test]
fn encode_writes_the_bytes_of_iptables_nft() {
    for (family, file) in OURS {
        for Sample { text, protocol, expressions } in samples(file) {
            let Rule::Known(spec) = parsed(family, text) else { panic!("{text}") };
            let encoded = encode(family, &spec).unwrap();
            assert_eq!(encoded.protocol, protocol, "{text}");
            assert_eq!(hex(&encoded.expressions), hex(&expressions), "{text}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn decode_reads_the_bytes_of_iptables_nft() {
    for (family, file) in OURS {
        for Sample { text, expressions, .. } in samples(file) {
            assert_eq!(decode(family, &expressions), parsed(family, text), "{text}");
        }
    }
}

#[test]
fn decode_prints_frequent_foreign_rules_as_iptables_save() {
    let files = [
        (IpFamily::Ipv4, include_str!("tests/foreign.ipv4.txt")),
        (IpFamily::Ipv6, include_str!("tests/foreign.ipv6.txt")),
    ];
    for (family, file) in files {
        for Sample { text, expressions, .. } in samples(file) {
            let read = decode(family, &expressions);
            assert!(matches!(read, Rule::Foreign { .. }), "{text}: {read:?}");
            assert_eq!(read, parsed(family, text), "{text}");
        }
    }
}

#[test]
fn decode_shows_bytes_of_what_it_does_not_understand() {
    let texts = samples(include_str!("tests/bytes.ipv4.txt")).into_iter().map(|sample| {
        let Rule::Foreign { text, .. } = decode(IpFamily::Ipv4, &sample.expressions) else {
            panic!("{}", sample.text)
        };
        text.to_string()
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(texts, EXPECTED_BYTES);
}

const EXPECTED_BYTES: [&str; 6] = [
    "-m limit --limit 5/min -j LOG revision 0 0x040061206220",
    "[nft payload 0x0800010000000001080002000000000108000300000000060800040000000002] \
     [nft bitwise 0x0800010000000001080002000000000108000300000000020c000480060001001fff00000c0005800600\
     010000000000] [nft cmp 0x080001000000000108000200000000010c0003800600010000000000] -j ACCEPT",
    "[nft payload 0x08000100000000010800020000000001080003000000000c0800040000000004] \
     [nft bitwise 0x0800010000000001080002000000000108000300000000040c00048008000100000000ff0c0005800800\
     010000000000] [nft cmp 0x080001000000000108000200000000000c0003800800010000000000] -j ACCEPT",
    "-m ttl revision 0 0x0001 -j NFLOG 0x0600010000050000",
    "-p tcp -m tcp --dport 80 -m owner revision 1 0x0000000000000000000000000000000001 -j ACCEPT",
    "-p icmp -m icmp revision 0 0x0800ff -j ACCEPT",
];

/// Older versions of iptables-nft, and newer ones, use other expressions for the same rules.
#[test]
fn decode_reads_other_encodings_of_iptables_nft() {
    let transport = |protocol, port| Match::Transport { protocol, destination_port: Some(port) };
    let wrapped = |one: &Match| {
        let extension = super::extension::of_match(one).unwrap();
        expression("match", extension.name, extension.revision, &extension.info)
    };
    let mark = Match::Mark(Negatable::is_not(Mark { value: 0x4000, mask: 0x4000 }));
    for one in [transport(Protocol::Tcp, 80), transport(Protocol::Udp, 53), mark] {
        let read = decode(IpFamily::Ipv4, &wrapped(&one));
        assert_eq!(read, Rule::Known(RuleSpec { matches: vec![one], ..RuleSpec::default() }));
    }
}

fn expression(kind: &str, name: &str, revision: u32, info: &[u8]) -> Vec<u8> {
    let mut list = super::attribute::Attributes::default();
    list.nest(1, |element| {
        element.text(1, kind);
        element.nest(2, |data| {
            data.text(1, name);
            data.be32(2, revision);
            data.bytes(3, info);
        });
    });
    list.0
}

/// struct xt_ct_target_info_v1, as iptables 1.8.9 writes it. The texts are those of iptables-save.
#[test]
fn decode_prints_connection_tracking_target_notrack_zone_helper_as_iptables_save() {
    for (info, text) in [
        ("0300{70}", "-j NOTRACK"),
        ("0100{70}", "-j CT --notrack"),
        ("00000500{68}", "-j CT --zone 5"),
        ("1400{70}", "-j CT --zone-orig mark"),
        ("08000700{68}", "-j CT --zone-reply 7"),
        ("0000{10}667470{57}", "-j CT --helper ftp"),
        // Events, and a timeout policy.
        ("0000{2}05{67}", "-j CT revision 2 0x0000000005"),
        ("0000{26}61{43}", "-j CT revision 2 0x0000{26}61"),
        ("0100{2}05{67}", "-j CT --notrack CT revision 2 0x0100000005"),
    ] {
        let Rule::Foreign { text: read, .. } =
            decode(IpFamily::Ipv4, &expression("target", "CT", 2, &unhex(info)))
        else {
            panic!("{text}")
        };
        assert_eq!(read.to_string(), text.replace("{26}", &"00".repeat(26)));
    }
}

/// For kernels before 4.18, iptables uses structures for one IP family, or without the base port.
#[test]
fn decode_reads_dnat_of_older_kernels() {
    let of_ipv4 = unhex("01000000030000000a0203040a0203041f901f90{4}");
    let of_ipv6 = unhex("03000000fd{14}09fd{14}091f901f90");
    for (family, revision, info, to) in [
        (IpFamily::Ipv4, 0, of_ipv4, "10.2.3.4:8080"),
        (IpFamily::Ipv6, 1, of_ipv6, "[fd00::9]:8080"),
    ] {
        let target = Some(Target::Dnat(to.parse().unwrap()));
        let known = Rule::Known(RuleSpec { target, ..RuleSpec::default() });
        assert_eq!(decode(family, &expression("target", "DNAT", revision, &info)), known);
        for at in 0..info.len() {
            let mut other = info.clone();
            other[at] ^= 0x10;
            let read = decode(family, &expression("target", "DNAT", revision, &other));
            assert_ne!(read, known, "byte {at}");
        }
    }
}

/// What no iptables writes is foreign, on one line, and never taken for another rule.
#[test]
fn decode_keeps_malformed_expressions_foreign() {
    let comment = [b"text".as_slice(), &[0; 252]].concat();
    let dnat = [1; 44];
    let one = |kind: u16, value: &[u8]| {
        let mut list = super::attribute::Attributes::default();
        list.bytes(kind, value);
        list.0
    };
    let immediate = |chain: &[u8]| {
        let verdict = [one(1, &(-3_i32).to_be_bytes()), one(2, chain)].concat();
        let data = [one(1, &[0; 4]), one(2, &one(2, &verdict))].concat();
        one(1, &[one(1, b"immediate\0"), one(2, &data)].concat())
    };
    let cases: [(&str, Vec<u8>); 17] = [
        ("a byte", vec![0]),
        ("a header only", vec![8, 0, 1, 0]),
        ("length of zero", vec![0, 0, 1, 0]),
        ("length below the header's", vec![3, 0, 1, 0]),
        ("length beyond the end", vec![0xff, 0xff, 1, 0, 0, 0, 0, 0]),
        ("expression without a name", one(1, &one(2, &[]))),
        ("expression without data", one(1, &one(1, b"match\0"))),
        ("name that is not UTF-8", one(1, &one(1, b"\xff\0"))),
        ("unknown expression", one(1, &one(1, b"counted\0"))),
        ("comment that is short", expression("match", "comment", 0, &comment[..255])),
        ("comment of another revision", expression("match", "comment", 1, &comment)),
        ("comment with a new line", {
            expression("match", "comment", 0, &[b"a\nb".as_slice(), &[0; 253]].concat())
        }),
        ("match with a new line in its name", expression("match", "comment\n-A X", 0, &comment)),
        ("match without a structure", expression("match", "conntrack", 3, &[])),
        ("DNAT that is short", expression("target", "DNAT", 2, &dnat[..dnat.len() - 1])),
        ("DNAT of an unknown revision", expression("target", "DNAT", u32::MAX, &dnat)),
        ("jump to a chain with a new line", immediate(b"KUBE-A\n-A X\0")),
    ];
    for (what, bytes) in cases {
        for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
            let Rule::Foreign { text, .. } = decode(family, &bytes) else { panic!("{what}") };
            assert!(!text.contains(char::is_control), "{what}: {text}");
        }
    }
    let jump = Rule::Known(RuleSpec {
        target: Some(Target::Jump("KUBE-A".into())),
        ..RuleSpec::default()
    });
    assert_eq!(decode(IpFamily::Ipv4, &immediate(b"KUBE-A\0")), jump);
}

/// A message that ends early is never taken for a rule with fewer conditions.
#[test]
fn decode_notices_missing_bytes() {
    for (family, file) in OURS {
        for Sample { text, expressions, .. } in samples(file) {
            let starts: Vec<usize> =
                attributes(&expressions, 0).into_iter().map(|(at, ..)| at - 4).collect();
            for length in (1..expressions.len()).filter(|length| !starts.contains(length)) {
                let read = decode(family, &expressions[..length]);
                assert!(matches!(read, Rule::Foreign { .. }), "{text}: {length}: {read:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn decode_reads_what_encode_writes((family, spec) in specs()) {
        let encoded = encode(family, &spec).unwrap();
        prop_assert_eq!(decode(family, &encoded.expressions), Rule::Known(spec));
    }

    /// A rule in which another program changed a bit is never taken for the rule that it was.
    #[test]
    fn decode_notices_a_changed_bit(
        (family, spec) in specs(),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut expressions = encode(family, &spec).unwrap().expressions;
        let places = values(&expressions);
        if !places.is_empty() {
            let at = places[at.index(places.len())];
            expressions[at] ^= 1_u8 << bit;
            prop_assert_ne!(decode(family, &expressions), Rule::Known(spec), "byte {}", at);
        }
    }

    #[test]
    fn decode_accepts_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode(IpFamily::Ipv4, &bytes);
    }
}

/// The places of all bytes with a meaning: the values of attributes without those of counters, and
/// without the field of `statistic` that belongs to its other mode.
fn values(expressions: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    for (start, _, element) in attributes(expressions, 0) {
        let parts = attributes(element, start);
        let (_, _, name) = parts[0];
        if name == b"counter\0" {
            continue;
        }
        places.extend(parts[0].0..parts[0].0 + name.len());
        let (at, _, data) = parts[1];
        let is_extension = matches!(name, b"match\0" | b"target\0");
        leaves(data, at, is_extension, &mut places);
        if is_extension && data.windows(10).any(|part| part == b"statistic\0") {
            let info = attributes(data, at)[2].0;
            places.retain(|place| !(info + 12..info + 16).contains(place));
        }
    }
    places
}

/// The places of values that hold no attributes.
fn leaves(nested: &[u8], start: usize, is_flat: bool, places: &mut Vec<usize>) {
    for (at, is_nested, value) in attributes(nested, start) {
        if is_nested && !is_flat {
            leaves(value, at, false, places);
        } else {
            places.extend(at..at + value.len());
        }
    }
}

/// The attributes with the places of their values, and whether they are nested.
fn attributes(nested: &[u8], start: usize) -> Vec<(usize, bool, &[u8])> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 4 <= nested.len() {
        let length = usize::from(u16::from_ne_bytes([nested[at], nested[at + 1]]));
        found.push((start + at + 4, nested[at + 3] & 0x80 != 0, &nested[at + 4..at + length]));
        at += length.next_multiple_of(4);
    }
    found
}

fn specs() -> impl Strategy<Value = (IpFamily, RuleSpec)> {
    prop::sample::select(vec![IpFamily::Ipv4, IpFamily::Ipv6])
        .prop_flat_map(|family| spec(family).prop_map(move |spec| (family, spec)))
}

fn spec(family: IpFamily) -> impl Strategy<Value = RuleSpec> {
    let network = move || prop::option::of((any::<bool>(), network(family)).prop_map(negatable));
    let interface = prop::option::of(
        (any::<bool>(), "[a-z0-9.]{1,14}\\+?")
            .prop_map(|(negated, name)| Negatable { negated, value: Interface(name.into()) }),
    );
    let protocol = prop::option::of(prop::sample::select(Protocol::ALL.to_vec()));
    (network(), network(), interface, protocol).prop_flat_map(
        move |(source, destination, in_interface, protocol)| {
            let matches = prop::collection::vec(one_match(family), 0..4);
            let transport = transport(protocol);
            (matches, transport, prop::option::of(target(family))).prop_map(
                move |(mut matches, transport, target)| {
                    matches.extend(transport);
                    let in_interface = in_interface.clone();
                    RuleSpec { source, destination, in_interface, protocol, matches, target }
                },
            )
        },
    )
}

fn negatable<T>((negated, value): (bool, T)) -> Negatable<T> {
    Negatable { negated, value }
}

fn network(family: IpFamily) -> BoxedStrategy<ipnet::IpNet> {
    let network = |address, prefix| ipnet::IpNet::new(address, prefix).unwrap().trunc();
    match family {
        IpFamily::Ipv4 => (any::<std::net::Ipv4Addr>(), 0..=32_u8)
            .prop_map(move |(address, prefix)| network(address.into(), prefix))
            .boxed(),
        IpFamily::Ipv6 => (any::<std::net::Ipv6Addr>(), 0..=128_u8)
            .prop_map(move |(address, prefix)| network(address.into(), prefix))
            .boxed(),
    }
}

fn address(family: IpFamily) -> impl Strategy<Value = std::net::IpAddr> {
    network(family).prop_map(|network| network.addr())
}

fn transport(protocol: Option<Protocol>) -> BoxedStrategy<Option<Match>> {
    match protocol {
        None => Just(None).boxed(),
        Some(protocol) => prop::option::of(prop::option::of(any::<u16>()))
            .prop_map(move |port| {
                port.map(|destination_port| Match::Transport { protocol, destination_port })
            })
            .boxed(),
    }
}

fn one_match(family: IpFamily) -> impl Strategy<Value = Match> {
    let states: Vec<ConntrackState> = ConntrackState::ALL.iter().map(|(state, _)| *state).collect();
    prop_oneof![
        "[ -~]{0,255}".prop_map(|text| Match::Comment(text.into())),
        (any::<bool>(), prop::sample::subsequence(states, 1..7))
            .prop_map(|states| Match::Conntrack(negatable(states))),
        (any::<bool>(), any::<(u32, u32)>()).prop_map(|(negated, (value, mask))| {
            Match::Mark(Negatable { negated, value: Mark { value, mask } })
        }),
        Just(Match::SourceType(AddressType::Local)),
        Just(Match::DestinationType(AddressType::Local)),
        ("[A-Z0-9-]{1,28}", prop::option::of(any::<u32>()), address(family)).prop_map(
            |(list, seconds, mask)| {
                let check = |seconds| RecentAction::Check { seconds };
                let action = seconds.map_or(RecentAction::Set, check);
                Match::Recent(Recent { list: list.into(), action, mask })
            }
        ),
        (1..=1_u32 << 31).prop_map(Match::Random),
    ]
}

fn target(family: IpFamily) -> impl Strategy<Value = Target> {
    let reject = match family {
        IpFamily::Ipv4 => RejectWith::IcmpPortUnreachable,
        IpFamily::Ipv6 => RejectWith::Icmp6PortUnreachable,
    };
    prop_oneof![
        "[A-Z0-9-]{1,28}".prop_map(|chain| Target::Jump(chain.into())),
        Just(Target::Accept),
        Just(Target::Drop),
        Just(Target::Return),
        Just(Target::Reject(reject)),
        any::<(u32, u32)>().prop_map(|(value, mask)| Target::SetMark(SetMark { value, mask })),
        any::<bool>().prop_map(|random_fully| Target::Masquerade { random_fully }),
        (address(family), any::<u16>()).prop_map(|(ip, port)| Target::Dnat((ip, port).into())),
    ]
}
