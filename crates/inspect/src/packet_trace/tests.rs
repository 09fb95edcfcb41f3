use std::time::Duration;

use rulegen_net::{Frontend, IpFamily, Protocol};
use rulegen_ruleset::nftables::{
    Actual, ChainId, Comment, Data, DataType, Element, Field, HookPosition, Key, Name,
    PacketHeader, Ports, Set, Statement, TableFamily, TraceEvent, TraceStep, TraceVerdict,
    TracedRule, Value, Verdict,
};

use super::*;

const ARMING: &str = "rulegen-trace-1";
const MOMENT: Duration = Duration::from_millis(1);

fn at(table: &str, chain: &str) -> ChainId {
    ChainId { family: TableFamily::Ip, table: Name::from(table), chain: Name::from(chain) }
}

fn frontend(ip: &str, port: u16) -> Key {
    let ip = Value::Address(ip.parse().unwrap());
    Key::from([ip, Value::Protocol(Protocol::Tcp), Value::Port(port)])
}

fn map(data: DataType, elements: Vec<(Key, Verdict, &str)>) -> Set {
    let mut set = Set::map(&[Field::Address, Field::Protocol, Field::Port], data, "a map");
    set.elements = elements
        .into_iter()
        .map(|(key, verdict, service)| {
            let (data, comment) = (Some(Data::Verdict(verdict)), Some(Comment::from(service)));
            (key, Element { data, comment })
        })
        .collect();
    set
}

/// A table with default/web:http at 10.96.0.10:80 and node port 30080. default/none at .11 has no
/// endpoint; default/here at .12 has policy Local and no local endpoint.
fn known() -> TraceContext {
    let goto = |chain: &str| Verdict::Goto(Name::from(chain));
    let services = vec![(frontend("10.96.0.10", 80), goto("endpoints-1"), "default/web:http")];
    let refused = vec![
        (frontend("10.96.0.11", 80), goto("reject-chain"), "default/none"),
        (frontend("10.96.0.12", 80), Verdict::Drop, "default/here"),
    ];
    let mut node_ports = Set::map(&[Field::Protocol, Field::Port], DataType::Verdict, "a map");
    let comment = Some(Comment::from("default/web:http"));
    let data = Some(Data::Verdict(goto("endpoints-1")));
    node_ports.elements.insert(
        Key::from([Value::Protocol(Protocol::Tcp), Value::Port(30_080)]),
        Element { data, comment },
    );
    let sets = [
        ("services", map(DataType::Verdict, services)),
        ("no-endpoints", map(DataType::Verdict, refused)),
        ("node-ports", node_ports),
    ];
    let sets = sets.into_iter().map(|(name, set)| (Name::from(name), Some(set))).collect();
    let actual = Actual { sets, ..Actual::default() };
    let base = |hook, is_nat| HookPosition { hook, priority: 0, is_nat };
    let bases = [
        (at("rulegen", "nat-prerouting"), base("prerouting", true)),
        (at("rulegen", "filter-forward"), base("forward", false)),
        (at("rulegen", "filter-input"), base("input", false)),
        (at("rulegen", "nat-postrouting"), base("postrouting", true)),
        (at("guard", "wall"), base("forward", false)),
    ];
    let vmap = |map: &str| Statement::VerdictMap { key: Vec::new(), map: Name::from(map) };
    let rules = [
        (at("rulegen", "services"), 1, vec![vmap("services")], false),
        (at("rulegen", "no-endpoints"), 2, vec![vmap("no-endpoints")], false),
        (at("rulegen", "reject-chain"), 3, vec![Statement::Reject], true),
        (at("rulegen", "masquerading"), 4, vec![Statement::Masquerade], false),
    ];
    let rules = rules.into_iter().map(|(at, handle, statements, rejects)| {
        let rule = TracedRule { statements, rejects, ..TracedRule::default() };
        ((at, handle), Some(rule))
    });
    TraceContext {
        table: Some(Name::from("rulegen")),
        actual: [(IpFamily::Ipv4, actual)].into(),
        bases: bases.into(),
        rules: rules.collect(),
    }
}

fn header(destination: &str, port: u16) -> PacketHeader {
    PacketHeader {
        source: "10.244.1.9".parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 6,
        ports: Some(Ports { source: 40_000, destination: port }),
        in_interface: Some("cni0".to_owned()),
        out_interface: None,
    }
}

fn event(packet: u32, at: ChainId, step: TraceStep, header: Option<PacketHeader>) -> TraceEvent {
    TraceEvent { packet, at, step, mark: 0, header }
}

fn rule(handle: u64, verdict: TraceVerdict) -> TraceStep {
    TraceStep::Rule { handle, verdict }
}

fn armed(packet: u32, header: PacketHeader) -> TraceEvent {
    let step = rule(1, TraceVerdict::Continue);
    event(packet, at(ARMING, "prerouting"), step, Some(header))
}

fn follower() -> PacketTracker {
    PacketTracker::new(Name::from(ARMING))
}

fn take(follower: &mut PacketTracker, events: Vec<TraceEvent>) -> Vec<TraceUpdate> {
    let known = known();
    events.into_iter().flat_map(|event| follower.take(&known, event, MOMENT)).collect()
}

/// All packets of these events, completed by the idle timeout.
fn ended(mut follower: PacketTracker, events: Vec<TraceEvent>) -> Vec<TracedPacket> {
    let mut updates = take(&mut follower, events);
    updates.extend(follower.rest(Duration::from_secs(1)));
    assert_eq!(follower.deadline(), None);
    let end = |updates| match updates {
        TraceUpdate::Ended(packet) => Some(*packet),
        _ => None,
    };
    updates.into_iter().filter_map(end).collect()
}

fn accept() -> TraceStep {
    TraceStep::Policy(TraceVerdict::Accept)
}

#[test]
fn trace_packet_with_dnat_is_followed_to_new_trace_id() {
    let goto = TraceVerdict::Goto(Name::from("endpoints-1"));
    let then = |destination: &str| PacketHeader {
        out_interface: Some("cali1".to_owned()),
        ..header(destination, 8080)
    };
    let events = vec![
        armed(7, header("10.96.0.10", 80)),
        event(7, at("rulegen", "nat-prerouting"), accept(), Some(header("10.96.0.10", 80))),
        event(7, at("rulegen", "services"), rule(1, goto), None),
        event(8, at("rulegen", "filter-forward"), accept(), Some(then("10.244.1.5"))),
        event(8, at("rulegen", "nat-postrouting"), accept(), Some(then("10.244.1.5"))),
        event(8, at("rulegen", "masquerading"), rule(4, TraceVerdict::Accept), None),
    ];
    let [packet] = &ended(follower(), events)[..] else { panic!() };
    assert_eq!(packet.service.as_ref().map(Comment::as_str), Some("default/web:http"));
    assert_eq!(packet.endpoint, Some("10.244.1.5:8080".parse().unwrap()));
    assert!(packet.masqueraded && packet.is_new);
    let outcome = packet.outcome();
    assert_eq!(outcome.end, TracedEnd::Left(Some("cali1".to_owned())));
    assert_eq!((&outcome.reason, outcome.is_masqueraded), (&None, true));
    let web = Comment::from("default/web:http");
    let endpoint = "10.244.1.5:8080".parse().unwrap();
    assert_eq!(outcome.translation, Some(Translation::ToEndpoint(endpoint, &web)));
    assert_eq!(
        outcome.to_string(),
        "left through cali1 to 10.244.1.5:8080, an endpoint of default/web:http, masqueraded"
    );
    let by_others = TracedPacket { service: None, ..packet.clone() };
    assert_eq!(by_others.outcome().translation, Some(Translation::ByOthers(endpoint)));
}

#[test]
fn trace_node_port_packet_gets_its_service_from_the_rule() {
    let mut known = known();
    let vmap = Statement::VerdictMap { key: Vec::new(), map: Name::from("node-ports") };
    let of_node_ports = TracedRule { statements: vec![vmap], ..TracedRule::default() };
    known.rules.insert((at("rulegen", "services"), 9), Some(of_node_ports));
    let to = header("192.168.50.1", 30_080);
    let mut follower = follower();
    let began = follower.take(&known, armed(7, to.clone()), MOMENT);
    assert!(matches!(&began[..], [TraceUpdate::Began(packet)] if packet.service.is_none()));
    let goto = rule(9, TraceVerdict::Goto(Name::from("endpoints-1")));
    let event = event(7, at("rulegen", "services"), goto, Some(to));
    let updates = follower.take(&known, event, MOMENT);
    let [TraceUpdate::Step(1, step)] = &updates[..] else { panic!("{updates:?}") };
    let StepKind::Rule { found: Some(found), .. } = &step.kind else { panic!("{step:?}") };
    assert_eq!(found.service.as_str(), "default/web:http");
}

#[test]
fn trace_rejected_or_dropped_packet_ends_at_once_with_reason() {
    let refused = |ip: &str, then: Vec<TraceEvent>| {
        let to = header(ip, 80);
        let base = at("rulegen", "filter-forward");
        let mut events = vec![armed(7, to.clone()), event(7, base, accept(), Some(to))];
        events.extend(then);
        let mut follower = follower();
        let updates = take(&mut follower, events);
        let Some(TraceUpdate::Ended(packet)) = updates.last() else { panic!("{updates:?}") };
        (
            packet.outcome().end.word(),
            packet.outcome().reason.map(|why| why.code()).unwrap_or_default(),
            packet.outcome().reason.map(|why| why.to_string()).unwrap_or_default(),
        )
    };
    let chain = |chain: &str, step| event(7, at("rulegen", chain), step, None);
    let goto = rule(2, TraceVerdict::Goto(Name::from("reject-chain")));
    let reject = chain("reject-chain", rule(3, TraceVerdict::Drop));
    assert_eq!(
        refused("10.96.0.11", vec![chain("no-endpoints", goto), reject]),
        ("rejected", "no-endpoints", "default/none has no ready endpoint".to_owned())
    );
    let dropped = chain("no-endpoints", rule(2, TraceVerdict::Drop));
    let (end, code, why) = refused("10.96.0.12", vec![dropped]);
    assert_eq!(code, "no-local-endpoints");
    assert!(end == "dropped" && why.starts_with("default/here has endpoints"), "{end}: {why}");
    let foreign = event(7, at("guard", "wall"), rule(5, TraceVerdict::Drop), None);
    let (end, code, why) = refused("10.96.0.10", vec![foreign]);
    assert_eq!(code, "refused-by-others");
    assert!(end == "dropped" && why.starts_with("by rule 5 of ip guard wall"), "{end}: {why}");
    let policy = TraceStep::Policy(TraceVerdict::Drop);
    let policy = event(7, at("guard", "wall"), policy, None);
    assert_eq!(
        refused("10.96.0.10", vec![policy]),
        ("dropped", "refused-by-others", "by the policy of ip guard wall".to_owned())
    );
}

#[test]
fn trace_code_of_closed_port_unused_cluster_ip_source_range_and_unknown_end() {
    let comment = || Some(Comment::from("the reason"));
    let rule_of =
        |rejects| Some(TracedRule { rejects, comment: comment(), ..TracedRule::default() });
    let mut known = known();
    for (chain, handle, rejects) in
        [("closed-cluster-ips", 11, true), ("closed-cluster-ips", 12, false), ("ranges", 13, false)]
    {
        known.rules.insert((at("rulegen", chain), handle), rule_of(rejects));
    }
    let code = |then: Option<(&str, u64)>| {
        let to = header("10.96.0.10", 81);
        let mut follower = follower();
        let mut updates = follower.take(&known, armed(7, to.clone()), MOMENT);
        let base = event(7, at("rulegen", "nat-prerouting"), accept(), Some(to));
        updates.extend(follower.take(&known, base, MOMENT));
        if let Some((chain, handle)) = then {
            let drop = event(7, at("rulegen", chain), rule(handle, TraceVerdict::Drop), None);
            updates.extend(follower.take(&known, drop, MOMENT));
        }
        updates.extend(follower.finish());
        let Some(TraceUpdate::Ended(packet)) = updates.last() else { panic!("{updates:?}") };
        packet.outcome().reason.map(|why| why.code())
    };
    assert_eq!(code(Some(("closed-cluster-ips", 11))), Some("no-such-port"));
    assert_eq!(code(Some(("closed-cluster-ips", 12))), Some("no-such-cluster-ip"));
    assert_eq!(code(Some(("ranges", 13))), Some("source-range"));
    // A rule that was deleted before it was read.
    assert_eq!(code(Some(("ranges", 14))), Some("unknown-rule"));
    assert_eq!(code(None), Some("no-further-event"));
}

#[test]
fn trace_ignores_packets_traced_by_other_programs() {
    let to = header("10.96.0.10", 80);
    let base = at("rulegen", "filter-forward");
    let theirs = event(9, at("rulegen-trace-2", "prerouting"), accept(), Some(to.clone()));
    // The packet passes our chain too, but none of its rules matches.
    let ours = event(9, at(ARMING, "prerouting"), TraceStep::Return, Some(to.clone()));
    let then = event(9, base, accept(), Some(to));
    assert!(take(&mut follower(), vec![theirs, ours, then]).is_empty());
}

#[test]
fn trace_id_that_is_reused_is_another_packet() {
    let to = header("10.96.0.10", 80);
    let base = || at("rulegen", "filter-input");
    let events = vec![
        armed(7, to.clone()),
        event(7, base(), accept(), Some(to.clone())),
        armed(7, to.clone()),
        event(7, base(), accept(), Some(to)),
    ];
    let packets = ended(follower(), events);
    let ends: Vec<_> = packets.iter().map(|packet| (packet.number, packet.outcome().end)).collect();
    assert_eq!(ends, [(1, TracedEnd::Delivered), (2, TracedEnd::Delivered)]);
}

/// The kernel derives the trace ID from the packet's memory address. Consecutive packets of a
/// connection get the same memory, and after DNAT the same trace ID as the previous one.
#[test]
fn trace_id_that_is_reused_after_dnat_is_another_packet() {
    let (to, then) = (header("10.96.0.10", 80), header("10.244.1.5", 8080));
    let packet = |id| {
        [
            armed(id, to.clone()),
            event(id, at("rulegen", "nat-prerouting"), accept(), Some(to.clone())),
            event(9, at("rulegen", "filter-forward"), accept(), Some(then.clone())),
            event(9, at("rulegen", "nat-postrouting"), accept(), Some(then.clone())),
        ]
    };
    let packets = ended(follower(), [packet(7), packet(8)].concat());
    let steps: Vec<_> = packets.iter().map(|packet| (packet.number, packet.steps.len())).collect();
    assert_eq!(steps, [(1, 3), (2, 3)]);
}

#[test]
fn trace_packet_ends_after_idle_timeout() {
    let known = known();
    let mut follower = follower();
    follower.take(&known, armed(7, header("10.96.0.10", 80)), MOMENT);
    let deadline = follower.deadline().unwrap();
    assert!(follower.rest(deadline.saturating_sub(MOMENT)).is_empty());
    assert!(matches!(&follower.rest(deadline)[..], [TraceUpdate::Ended(_)]));
}

#[test]
fn trace_packet_is_incomplete_if_events_were_lost() {
    let known = known();
    let mut follower = follower();
    let end = |follower: &mut PacketTracker, id, at: Duration| {
        follower.take(&known, armed(id, header("10.96.0.10", 80)), at);
        let updates = follower.rest(at.saturating_add(Duration::from_millis(150)));
        let [TraceUpdate::Ended(packet)] = &updates[..] else { panic!("{updates:?}") };
        packet.is_incomplete
    };
    assert!(!end(&mut follower, 1, MOMENT));
    follower.lose(Duration::from_millis(200));
    assert!(end(&mut follower, 2, Duration::from_millis(201)));
    assert!(!end(&mut follower, 3, Duration::from_secs(1)));
}

#[test]
fn trace_service_name_selects_its_frontends() {
    let known = known();
    let frontends = |text: &str| frontends(&text.parse().unwrap(), &known);
    let cluster_ip = Frontend::at_ip("10.96.0.10".parse().unwrap(), Protocol::Tcp, 80);
    let node_port = Frontend::node_port(IpFamily::Ipv4, Protocol::Tcp, 30_080);
    assert_eq!(frontends("default/web"), Ok([cluster_ip, node_port].into()));
    assert_eq!(frontends("default/web:http"), Ok([cluster_ip, node_port].into()));
    assert_eq!(frontends("default/web:80"), Ok([cluster_ip].into()));
    assert_eq!(frontends("default/web:https").unwrap_err().ports, ["http"]);
    assert!(frontends("other/web").unwrap_err().ports.is_empty());
    assert!(frontends("default/web:http/udp").is_err());
}
