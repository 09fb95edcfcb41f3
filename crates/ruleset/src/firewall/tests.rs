//! Evaluations of chains, most of them written as iptables-save prints them.

use rulegen_net::{IpFamily, Protocol};

use super::*;
use crate::iptables::{Table, parse};

/// The evaluation of a chain of the table filter, unless a line names another table.
fn evaluated(lines: &[&str], packet: &PartialPacket) -> Evaluation {
    let (table, lines) = match lines.split_first() {
        Some((first, rest)) if first.starts_with('*') => (*first, rest),
        _ => ("*filter", lines),
    };
    let (ruleset, errors) =
        parse(packet.family, &format!("{table}\n{}\nCOMMIT\n", lines.join("\n")));
    assert_eq!(errors, []);
    let bases = of_iptables(&ruleset, "", |_| true);
    let base = bases.first().expect("the chain does nothing");
    evaluate(base, &mut packet.clone(), &Budget::default())
}

/// A packet from a pod to an endpoint, being forwarded.
fn forwarded() -> PartialPacket {
    PartialPacket {
        protocol: Some(Protocol::Tcp.number()),
        destination_port: Some(8080),
        in_interface: Some("cali1".to_owned()),
        out_interface: Some("eth1".to_owned()),
        connection: Connection::New { translated: Some(true), masqueraded: Some(false) },
        mark: PartialMark::of(0),
        ..PartialPacket::unknown(IpFamily::Ipv4)
            .from("10.244.1.5".parse().unwrap(), false)
            .to("10.244.2.6".parse().unwrap(), false)
    }
}

/// The packet that the doctor knows: a translated one to some pod.
fn to_pod() -> PartialPacket {
    PartialPacket {
        connection: Connection::New { translated: Some(true), masqueraded: None },
        ..PartialPacket::unknown(IpFamily::Ipv4).to_network("10.244.0.0/16".parse().unwrap())
    }
}

fn words(evaluation: &Evaluation) -> String {
    match evaluation.verdict() {
        CertainVerdict::Accepts => "accepts".to_owned(),
        CertainVerdict::Drops(hit) => format!("drops {hit}"),
        CertainVerdict::Rejects(hit) => format!("rejects {hit}"),
        CertainVerdict::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn firewall_condition_matches_partly_known_packet() {
    // Condition, for the packet of which all is known, for the one to some pod.
    for (condition, all_known, to_some_pod) in [
        ("-s 10.244.1.0/24", "drops", "unknown"),
        ("! -s 10.244.1.0/24", "accepts", "unknown"),
        ("-d 10.0.0.0/8", "drops", "drops"),
        ("-d 10.244.0.0/16", "drops", "drops"),
        ("-d 10.244.2.0/24", "drops", "unknown"),
        ("-d 192.168.0.0/16", "accepts", "accepts"),
        ("! -d 192.168.0.0/16", "drops", "drops"),
        ("-i cali1", "drops", "unknown"),
        ("-i cali+", "drops", "unknown"),
        ("! -i eth0", "drops", "unknown"),
        ("-o eth1", "drops", "unknown"),
        ("-o eth0", "accepts", "unknown"),
        ("-i cali1 -o docker0", "accepts", "unknown"),
        ("-p tcp", "drops", "unknown"),
        ("-p icmp", "accepts", "unknown"),
        ("-p 6", "drops", "unknown"),
        ("-p tcp -m tcp --dport 8080", "drops", "unknown"),
        ("-p tcp -m tcp --dport 80", "accepts", "unknown"),
        ("-p tcp -m tcp --dport 8000:9000", "drops", "unknown"),
        ("-p tcp -m tcp ! --dport 8000:9000", "accepts", "unknown"),
        ("-p tcp -m tcp --sport 1024:65535", "unknown", "unknown"),
        ("-p tcp -m multiport --dports 22,8000:9000", "drops", "unknown"),
        ("-p tcp -m multiport --dports 22,80", "accepts", "unknown"),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "drops", "unknown"),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", "accepts", "unknown"),
        ("-m conntrack --ctstate NEW", "drops", "drops"),
        ("-m conntrack --ctstate RELATED,ESTABLISHED", "accepts", "accepts"),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED", "drops", "drops"),
        ("-m conntrack --ctstate DNAT", "drops", "drops"),
        ("-m conntrack ! --ctstate DNAT", "accepts", "accepts"),
        ("-m conntrack --ctstate SNAT", "accepts", "unknown"),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "accepts", "accepts"),
        ("-m state --state NEW", "drops", "drops"),
        ("-m mark --mark 0x1/0x1", "accepts", "unknown"),
        ("-m mark ! --mark 0x1/0x1", "drops", "unknown"),
        ("-m addrtype --dst-type LOCAL", "accepts", "unknown"),
        ("-m addrtype ! --dst-type LOCAL", "drops", "unknown"),
        ("-m addrtype --dst-type BROADCAST", "unknown", "unknown"),
        ("-m iprange --dst-range 10.244.2.5-10.244.2.9", "drops", "unknown"),
        ("-m set --match-set blocked src", "unknown", "unknown"),
        ("-m limit --limit 5/sec", "unknown", "unknown"),
        ("-m limit --limit 5/sec -d 192.168.0.0/16", "accepts", "accepts"),
        ("-m comment --comment \"-d 10.0.0.0/8 -j ACCEPT\" -o eth0", "accepts", "unknown"),
        ("-m physdev --physdev-is-bridged", "unknown", "unknown"),
    ] {
        for (packet, wanted) in [(forwarded(), all_known), (to_pod(), to_some_pod)] {
            let rule = format!("-A FORWARD {condition} -j DROP");
            let evaluation = evaluated(&[":FORWARD ACCEPT [0:0]", &rule], &packet);
            let verdict = words(&evaluation);
            assert!(verdict.starts_with(wanted), "{condition}: {verdict}, not {wanted}");
        }
    }
}

#[test]
fn firewall_chain_is_evaluated_through_jumps_returns_and_policies() {
    let chains = [":A - [0:0]", ":B - [0:0]"];
    for (policy, rules, wanted) in [
        ("ACCEPT", &["-A FORWARD -i eth9 -j DROP"][..], "accepts"),
        ("DROP", &[], "drops FORWARD: policy drop"),
        ("DROP", &["-A FORWARD -j ACCEPT"], "accepts"),
        ("DROP", &["-A FORWARD -i eth9 -j ACCEPT"], "drops FORWARD: policy drop"),
        ("DROP", &["-A FORWARD -m limit --limit 5/sec -j ACCEPT"], "unknown"),
        (
            "ACCEPT",
            &["-A FORWARD -j REJECT --reject-with icmp-host-prohibited"],
            "rejects FORWARD: -j",
        ),
        ("ACCEPT", &["-A FORWARD -j A", "-A A -j B", "-A B -j DROP"], "drops B: -j DROP"),
        ("ACCEPT", &["-A FORWARD -j A", "-A A -j RETURN", "-A A -j DROP"], "accepts"),
        ("ACCEPT", &["-A FORWARD -j A", "-A A -j ACCEPT", "-A FORWARD -j DROP"], "accepts"),
        ("DROP", &["-A FORWARD -g A", "-A FORWARD -j ACCEPT"], "drops FORWARD: policy drop"),
        (
            "DROP",
            &["-A FORWARD -j A", "-A A -g B", "-A A -j DROP", "-A FORWARD -j ACCEPT"],
            "accepts",
        ),
        (
            "ACCEPT",
            &["-A FORWARD -i cali1 -g A", "-A A -m limit --limit 5/sec -j RETURN", "-A A -j DROP"],
            "unknown",
        ),
        (
            "ACCEPT",
            &["-A FORWARD -m limit --limit 5/sec -j A", "-A A -j DROP", "-A FORWARD -j DROP"],
            "drops A: -j DROP",
        ),
        (
            "ACCEPT",
            &["-A FORWARD -m limit --limit 5/sec -j DROP", "-A FORWARD -j REJECT"],
            "unknown",
        ),
        ("ACCEPT", &["-A FORWARD -j NFQUEUE --queue-num 0"], "unknown"),
        ("ACCEPT", &["-A FORWARD -j LOG --log-prefix \"-j DROP \""], "accepts"),
        (
            "ACCEPT",
            &["-A FORWARD -j MARK --set-mark 1", "-A FORWARD -m mark --mark 0x1 -j DROP"],
            "unknown",
        ),
        (
            "ACCEPT",
            &["-A FORWARD -j CONNMARK --restore-mark", "-A FORWARD -m mark --mark 0x1 -j DROP"],
            "unknown",
        ),
        (
            "ACCEPT",
            &["-A FORWARD -i eth9 -j MARK --set-mark 1", "-A FORWARD -m mark --mark 0x1 -j DROP"],
            "accepts",
        ),
    ] {
        let first = format!(":FORWARD {policy} [0:0]");
        let lines = [&[first.as_str()], &chains[..], rules].concat();
        let evaluation = evaluated(&lines, &forwarded());
        let verdict = words(&evaluation);
        assert!(verdict.starts_with(wanted), "{policy} {rules:?}: {verdict}, not {wanted}");
    }
}

#[test]
fn firewall_notrack_is_certain_only_if_packet_gets_there_in_any_case() {
    let before = PartialPacket {
        connection: Connection::Before,
        ..forwarded().to("10.96.0.10".parse().unwrap(), false)
    };
    let raw = ["*raw", ":PREROUTING ACCEPT [0:0]"];
    for (rules, untracks, is_sure) in [
        (&["-A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 8080 -j NOTRACK"][..], true, true),
        (&["-A PREROUTING -d 10.96.0.10/32 -j CT --notrack"], true, true),
        (&["-A PREROUTING -d 10.96.0.10/32 -j CT --zone 1"], false, false),
        (&["-A PREROUTING -d 10.96.0.11/32 -j NOTRACK"], false, false),
        (&["-A PREROUTING -m limit --limit 5/sec -j CT --notrack"], true, false),
        (&["-A PREROUTING -j ACCEPT", "-A PREROUTING -j NOTRACK"], false, false),
        (
            &["-A PREROUTING -m limit --limit 5/sec -j ACCEPT", "-A PREROUTING -j NOTRACK"],
            true,
            false,
        ),
        (&["-A PREROUTING -m limit --limit 5/sec -j LOG", "-A PREROUTING -j NOTRACK"], true, true),
        // Conntrack has not seen the packet here.
        (&["-A PREROUTING -m conntrack --ctstate NEW -j NOTRACK"], false, false),
        (&["-A PREROUTING -m conntrack --ctstate INVALID -j NOTRACK"], true, true),
        (&["-A PREROUTING -m conntrack --ctstate DNAT -j NOTRACK"], false, false),
    ] {
        let evaluation = evaluated(&[&raw[..], rules].concat(), &before);
        let found = (!evaluation.untracks.is_empty(), evaluation.surely_untracks);
        assert_eq!(found, (untracks, is_sure), "{rules:?}: {evaluation:?}");
        assert_eq!(evaluation.verdict(), CertainVerdict::Accepts, "{rules:?}");
    }
}

#[test]
fn firewall_nat_chain_translates_tracked_packets_only() {
    let nat = ["*nat", ":PREROUTING ACCEPT [0:0]"];
    let rule = "-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80";
    let lines = [&nat[..], &[rule]].concat();
    assert_eq!(evaluated(&lines, &forwarded()).translates.len(), 1);
    let elsewhere = PartialPacket { destination_port: Some(81), ..forwarded() };
    assert!(evaluated(&lines, &elsewhere).has_no_effect());
    let untracked = PartialPacket { connection: Connection::Untracked, ..forwarded() };
    assert!(evaluated(&lines, &untracked).has_no_effect());
}

#[test]
fn firewall_evaluation_of_nested_and_looping_chains_ends() {
    // Each chain goes to the next one twice.
    let chain = |n: u32| format!(":C{n} - [0:0]\n-A C{n} -j C{}\n-A C{n} -j C{}", n + 1, n + 1);
    let nested: Vec<String> = (0..40).map(chain).collect();
    let start = ":FORWARD ACCEPT [0:0]\n:C40 - [0:0]\n-A FORWARD -j C0\n-A C40 -p tcp -j RETURN";
    let lines: Vec<&str> = [start].into_iter().chain(nested.iter().map(String::as_str)).collect();
    assert_eq!(evaluated(&lines, &forwarded()).verdict(), CertainVerdict::Unknown);
    let looping = [":FORWARD ACCEPT [0:0]", ":A - [0:0]", "-A FORWARD -j A", "-A A -j A"];
    assert_eq!(evaluated(&looping, &forwarded()).verdict(), CertainVerdict::Unknown);
}

#[test]
fn firewall_rule_is_written_in_words_of_nft() {
    let condition = |condition| FilterRule {
        conditions: vec![condition],
        action: Action::Drop,
        ..FilterRule::default()
    };
    let source = PacketField::source(IpFamily::Ipv4);
    for (of, wanted) in [
        (FilterCondition::prefix(source, &[10, 0, 0, 0], 8, true), "ip saddr != 10.0.0.0/8 drop"),
        (FilterCondition::is(source, &[10, 0, 0, 1], false), "ip saddr 10.0.0.1 drop"),
        (FilterCondition::is(PacketField::InInterface, b"eth0", false), "iifname \"eth0\" drop"),
        (
            FilterCondition::prefix(PacketField::OutInterface, b"cali", 32, false),
            "oifname \"cali*\" drop",
        ),
        (
            FilterCondition::is(PacketField::DESTINATION_PORT, &80_u16.to_be_bytes(), false),
            "th dport 80 drop",
        ),
        (
            FilterCondition::has_bits(PacketField::ConnectionStatus, conntrack::DNAT, false),
            "ct status dnat drop",
        ),
        (
            FilterCondition::has_bits(PacketField::ConnectionState, 6, false),
            "ct state established,related drop",
        ),
        (FilterCondition::Unknown("meta skuid 0".into()), "meta skuid 0 drop"),
    ] {
        assert_eq!(condition(of).to_string(), wanted);
    }
    let goes = FilterRule { action: Action::Goto("x".into()), ..FilterRule::default() };
    assert_eq!(goes.to_string(), "goto x");
}

#[test]
fn firewall_base_chains_of_iptables_have_hook_and_priority() {
    let lines = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n-A PREROUTING -j TRACE\nCOMMIT\n\
                 *filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n*nat\n:POSTROUTING ACCEPT [0:0]\n\
                 -A POSTROUTING -j MASQUERADE\nCOMMIT\n";
    let (ruleset, _) = parse(IpFamily::Ipv6, lines);
    let bases = of_iptables(&ruleset, " of iptables-legacy", |table| table != Table::Mangle);
    let found = bases
        .iter()
        .map(|base| (base.table.as_str(), &*base.chain, base.hook, base.priority, base.drops_rest));
    let found: Vec<_> = found.collect();
    assert_eq!(
        found,
        [
            ("ip6 raw of iptables-legacy", "PREROUTING", NetfilterHook::Prerouting, -300, false),
            ("ip6 raw of iptables-legacy", "OUTPUT", NetfilterHook::Output, -300, true),
            ("ip6 nat of iptables-legacy", "POSTROUTING", NetfilterHook::Postrouting, 100, false),
        ]
    );
}
