//! Packets as data: an object a line for each, once it ended.

use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use rulegen_inspect::packet_trace::{StepKind, TraceUpdate, TracedPacket, TracedStep};
use rulegen_inspect::words::MasqueradeReason;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::PacketHeader;
use serde::Serialize;

/// One packet. Fields may be added; none is renamed or taken away.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Packet<'a> {
    /// Its turn, from 1.
    packet: u64,
    /// The kernel's number for it, as `nft monitor trace` shows it.
    trace_id: String,
    /// When its end was known, in UTC (RFC 3339).
    time: Timestamp,
    /// ipv4 or ipv6.
    family: IpFamily,
    /// tcp, udp, sctp, or the protocol's number.
    protocol: String,
    /// Whom it was from, and to, when it came.
    source: Socket,
    destination: Socket,
    /// Where it came in; null from this host.
    in_interface: Option<&'a str>,
    /// Where it leaves, as far as that was decided.
    out_interface: Option<&'a str>,
    /// The service port, as namespace/name:port.
    service: Option<&'a str>,
    /// What its destination was replaced by: the endpoint.
    endpoint: Option<Socket>,
    /// Whether its source was replaced by an address of this node.
    masqueraded: bool,
    /// Why, in words.
    masqueraded_because: Option<&'static str>,
    /// The code for the reason, which is stable.
    masqueraded_code: Option<&'static str>,
    /// Whether it began a connection.
    new_connection: bool,
    /// Whether trace events were dropped, so that steps may be missing.
    incomplete: bool,
    /// left, delivered, rejected, dropped, queued, stolen or lost.
    end: &'static str,
    /// Why, in words, if it did not get where it was to.
    why: Option<String>,
    /// The code for a Service's reason to refuse it, which is stable.
    why_code: Option<&'static str>,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Socket {
    address: IpAddr,
    /// Null where the protocol has none.
    port: Option<u16>,
}

/// A rule that it met, or a policy that counted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    /// By nft's name for it.
    hook: Option<&'static str>,
    /// The table, whoever made it.
    family: &'static str,
    table: &'a str,
    chain: &'a str,
    /// Of rules only.
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    /// The map of ours that decided, and the service port that its element is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// What followed: accept, drop, continue, jump CHAIN and the like; of a policy the policy.
    verdict: String,
}

pub(super) fn write(out: &mut impl Write, told: &TraceUpdate) -> io::Result<()> {
    let TraceUpdate::Ended(packet) = told else { return Ok(()) };
    line(out, &object(packet))
}

pub(super) fn write_loss(out: &mut impl Write) -> io::Result<()> {
    /// Stands between packets: of those around it steps may be missing.
    #[derive(Serialize)]
    struct Loss {
        lost: bool,
    }
    line(out, &Loss { lost: true })
}

fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

fn object(packet: &TracedPacket) -> Packet<'_> {
    let header = &packet.header;
    let endpoint = packet.endpoint;
    Packet {
        packet: packet.number,
        trace_id: format!("{:08x}", packet.id),
        time: Timestamp::now(),
        family: header.family(),
        protocol: protocol(header),
        source: Socket { address: header.source, port: header.ports.map(|ports| ports.source) },
        destination: Socket {
            address: header.destination,
            port: header.ports.map(|ports| ports.destination),
        },
        in_interface: header.in_interface.as_deref(),
        out_interface: packet.last.out_interface.as_deref(),
        service: packet.service.as_ref().map(|service| service.as_str()),
        endpoint: endpoint.map(|to| Socket { address: to.ip(), port: Some(to.port()) }),
        masqueraded: packet.masqueraded,
        masqueraded_because: packet.why_masqueraded().map(MasqueradeReason::text),
        masqueraded_code: packet.why_masqueraded().map(MasqueradeReason::code),
        new_connection: packet.is_new,
        incomplete: packet.is_incomplete,
        end: packet.end().word(),
        why: packet.why(),
        why_code: packet.why_code(),
        steps: packet.steps.iter().map(step).collect(),
    }
}

fn protocol(header: &PacketHeader) -> String {
    let named = header.service_protocol().map(|protocol| protocol.name().to_owned());
    named.unwrap_or_else(|| header.protocol.to_string())
}

fn step(step: &TracedStep) -> Step<'_> {
    let (handle, rule, found) = match &step.kind {
        StepKind::Rule { handle, rule, found, .. } => {
            (Some(*handle), rule.as_ref(), found.as_ref())
        }
        StepKind::Policy(_) => (None, None, None),
    };
    Step {
        hook: step.hook,
        family: step.at.family.word(),
        table: step.at.table.as_str(),
        chain: step.at.chain.as_str(),
        handle,
        rule: rule.map(|rule| rule.text.as_str()),
        comment: rule.and_then(|rule| Some(rule.comment.as_ref()?.as_str())),
        map: found.map(|found| found.map.as_str()),
        service: found.map(|found| found.service.as_str()),
        verdict: step.verdict().to_string(),
    }
}
