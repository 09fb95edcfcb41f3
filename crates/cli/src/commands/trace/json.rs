//! Traced packets as JSON: one object per line and packet, written when the packet ends.

use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use rulegen_inspect::MasqueradeReason;
use rulegen_inspect::packet_trace::{StepKind, TraceReason, TraceUpdate, TracedPacket, TracedStep};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::PacketHeader;
use serde::Serialize;

/// One packet. Fields may be added, but not renamed or removed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PacketJson<'a> {
    /// Sequence number, from 1.
    packet: u64,
    /// The kernel's trace ID, as `nft monitor trace` shows it.
    trace_id: String,
    /// Time at which the packet was completed, in UTC (RFC 3339).
    time: Timestamp,
    /// `ipv4` or `ipv6`.
    family: IpFamily,
    /// `tcp`, `udp`, `sctp`, or the protocol's number.
    protocol: String,
    /// The source on arrival.
    source: SocketJson,
    /// The destination on arrival.
    destination: SocketJson,
    /// Input interface; null if this host sent it.
    in_interface: Option<&'a str>,
    /// Output interface, if known.
    out_interface: Option<&'a str>,
    /// The service port, as namespace/name:port.
    service: Option<&'a str>,
    /// The translated destination: the endpoint.
    endpoint: Option<SocketJson>,
    /// Whether it was masqueraded.
    masqueraded: bool,
    /// The reason, in words.
    masqueraded_because: Option<&'static str>,
    /// The stable code of the reason.
    masqueraded_code: Option<&'static str>,
    /// Whether it was the first packet of a connection.
    new_connection: bool,
    /// Whether trace events were dropped, so that steps may be missing.
    incomplete: bool,
    /// `left`, `delivered`, `rejected`, `dropped`, `queued`, `stolen` or `lost`.
    end: &'static str,
    /// The reason, in words, if it was not delivered or forwarded.
    why: Option<String>,
    /// The stable code of the reason, if it was not delivered or forwarded.
    why_code: Option<&'static str>,
    steps: Vec<StepJson<'a>>,
}

#[derive(Serialize)]
struct SocketJson {
    address: IpAddr,
    /// Null for protocols without ports.
    port: Option<u16>,
}

/// A rule that matched, or a policy that applied.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepJson<'a> {
    /// The hook in nft's syntax.
    hook: Option<&'static str>,
    /// The table's family. The table may be foreign.
    family: &'static str,
    table: &'a str,
    chain: &'a str,
    /// Only for rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    /// The map whose element decided, if it is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<&'a str>,
    /// The service port of that element.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// The verdict of the rule (`accept`, `drop`, `continue`, `jump CHAIN` and the like), or the
    /// policy.
    verdict: String,
}

pub(super) fn write(out: &mut impl Write, update: &TraceUpdate) -> io::Result<()> {
    let TraceUpdate::Ended(packet) = update else { return Ok(()) };
    line(out, &object(packet))
}

pub(super) fn write_loss(out: &mut impl Write) -> io::Result<()> {
    /// Printed when events were lost: packets before and after it may be incomplete.
    #[derive(Serialize)]
    struct LostEvents {
        lost: bool,
    }
    line(out, &LostEvents { lost: true })
}

fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

fn object(packet: &TracedPacket) -> PacketJson<'_> {
    let header = &packet.header;
    let endpoint = packet.endpoint;
    let outcome = packet.outcome();
    let masquerade_reason = outcome.masquerade_reason;
    PacketJson {
        packet: packet.number,
        trace_id: format!("{:08x}", packet.id),
        time: Timestamp::now(),
        family: header.family(),
        protocol: protocol(header),
        source: SocketJson { address: header.source, port: header.ports.map(|ports| ports.source) },
        destination: SocketJson {
            address: header.destination,
            port: header.ports.map(|ports| ports.destination),
        },
        in_interface: header.in_interface.as_deref(),
        out_interface: packet.last.out_interface.as_deref(),
        service: packet.service.as_ref().map(|service| service.as_str()),
        endpoint: endpoint.map(|to| SocketJson { address: to.ip(), port: Some(to.port()) }),
        masqueraded: outcome.is_masqueraded,
        masqueraded_because: masquerade_reason.map(MasqueradeReason::text),
        masqueraded_code: masquerade_reason.map(MasqueradeReason::code),
        new_connection: packet.is_new,
        incomplete: packet.is_incomplete,
        end: outcome.end.word(),
        why: outcome.reason.as_ref().map(ToString::to_string),
        why_code: outcome.reason.as_ref().map(TraceReason::code),
        steps: packet.steps.iter().map(step).collect(),
    }
}

fn protocol(header: &PacketHeader) -> String {
    let named = header.service_protocol().map(|protocol| protocol.name().to_owned());
    named.unwrap_or_else(|| header.protocol.to_string())
}

fn step(step: &TracedStep) -> StepJson<'_> {
    let (handle, rule, found) = match &step.kind {
        StepKind::Rule { handle, rule, found, .. } => {
            (Some(*handle), rule.as_ref(), found.as_ref())
        }
        StepKind::Policy(_) => (None, None, None),
    };
    StepJson {
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
