//! Traced packets as text, one line per step.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use rulegen_inspect::packet_trace::{StepKind, TraceUpdate, TracedPacket, TracedStep};
use rulegen_ruleset::nftables::TraceVerdict;

use crate::paint::Paint;
use crate::plain::plain;

pub(super) fn write(out: &mut impl Write, paint: &Paint, update: &TraceUpdate) -> io::Result<()> {
    match update {
        TraceUpdate::Began(packet) => {
            writeln!(out, "{}", paint.bold(&plain(&beginning(packet, Timestamp::now()))))
        }
        TraceUpdate::Step(number, step) => match line(step) {
            Some(line) => writeln!(out, "{number}   {}", plain(&line)),
            None => Ok(()),
        },
        TraceUpdate::Endpoint(number, endpoint) => {
            writeln!(out, "{number}   {:<12} new destination {endpoint}", "")
        }
        TraceUpdate::Ended(packet) => {
            let outcome = packet.outcome();
            let text = format!("{} {outcome}", packet.number);
            let text = plain(&text);
            let has_arrived = outcome.end.has_arrived();
            writeln!(out, "{}", if has_arrived { paint.comes(&text) } else { paint.goes(&text) })
        }
    }
}

pub(super) fn write_loss(out: &mut impl Write, paint: &Paint) -> io::Result<()> {
    let text = "trace events were dropped: too many packets; narrow --to or --from";
    writeln!(out, "{}", paint.goes(text))
}

fn beginning(packet: &TracedPacket, now: Timestamp) -> String {
    let TracedPacket { number, header, service, .. } = packet;
    let mut text = format!("{number} {} {header}", now.strftime("%H:%M:%S%.3fZ"));
    // Writing into a String cannot fail.
    if let Some(service) = service {
        let _ = write!(text, " ({})", service.as_str());
    }
    let _ = match &header.in_interface {
        Some(interface) => write!(text, " in {interface}"),
        None => write!(text, " from this host"),
    };
    text
}

/// `None` for a policy that accepts.
fn line(step: &TracedStep) -> Option<String> {
    let hook = step.hook.unwrap_or("?");
    let chain = if step.is_ours { step.at.chain.to_string() } else { step.at.to_string() };
    let what = match &step.kind {
        StepKind::Policy(TraceVerdict::Accept) => return None,
        StepKind::Policy(verdict) => format!("policy {verdict}"),
        StepKind::Rule { .. } => rule(step),
    };
    Some(format!("{hook:<12} {chain}: {what}"))
}

fn rule(step: &TracedStep) -> String {
    let StepKind::Rule { handle, rule, verdict, found } = &step.kind else { return String::new() };
    let mut text = match rule {
        Some(rule) => rule.text.clone(),
        None => "a rule that was deleted meanwhile".to_owned(),
    };
    if let Some(comment) = rule.as_ref().and_then(|rule| rule.comment.as_ref()) {
        let _ = write!(text, " comment {comment}");
    }
    if !step.is_ours {
        let _ = write!(text, " # handle {handle}");
    }
    // A known rule contains its verdict.
    let is_plain = rule.as_ref().is_some_and(|rule| !rule.statements.is_empty());
    if let Some(found) = found {
        let _ = write!(text, " → {verdict} for {}", found.service.as_str());
    } else if !is_plain && *verdict != TraceVerdict::Continue {
        let _ = write!(text, " → {verdict}");
    }
    text
}
