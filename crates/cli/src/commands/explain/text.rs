//! An explanation as text: first the outcomes and reasons, then the rules.

use std::fmt::Write;

use rulegen_inspect::explain::{
    End, EndCondition, Explanation, Outcome, PassedRule, ReachedFrontend, Remark, RemarkSubject,
    Sender,
};
use rulegen_inspect::words::{self, Code};
use rulegen_net::FrontendKind;

use crate::args;
use crate::paint::Paint;
use crate::plain::plain;

/// Rules are shown for at most this many ends; if there are more, only for the first.
const SHOWN: usize = 8;

pub(in crate::commands) fn describe(explanation: &Explanation, paint: Paint) -> String {
    let mut text = Text { paint, out: String::new() };
    // Writing into a String cannot fail.
    let _ = text.all(explanation);
    text.out
}

/// The answer for a Service without an address.
pub(super) fn describe_unresolved(
    from: &args::SenderArgument,
    to: &str,
    remark: &Remark,
) -> String {
    let mut text = Text { paint: Paint::for_stdout(), out: String::new() };
    // Writing into a String cannot fail.
    let _ = text.unresolved(from, to, remark);
    text.out
}

struct Text {
    paint: Paint,
    out: String,
}

impl Text {
    fn all(&mut self, explanation: &Explanation) -> std::fmt::Result {
        let Explanation { packet, frontend, remarks, rules, ends, behind, unknown } = explanation;
        let sender = match &packet.sender {
            Sender::Interface(name) => format!("in through {name}"),
            Sender::UnknownInterface => "received by this node".to_owned(),
            Sender::ThisNode => "sent by this node".to_owned(),
        };
        let (from, to) = (packet.from, packet.destination());
        let line = self.paint.bold(&format!("{from} → {to}, {sender}"));
        writeln!(self.out, "{line}\n")?;
        match packet.no_port {
            None => self.frontend(frontend.as_ref())?,
            Some(_) => {
                self.labelled("frontend", "none: a packet without a port does not match a Service")?
            }
        }
        let mut last = None;
        for remark in remarks {
            self.remark(remark, last == Some(remark.about))?;
            last = Some(remark.about);
        }
        writeln!(self.out)?;
        self.ends(ends, &to)?;
        let is_routed = ends.iter().any(|end| end.outcome != Outcome::Unreachable);
        let first = match ends.len() {
            _ if !is_routed => "Rules that it would pass if it were routed:",
            2.. => "Rules that it passes first in any case:",
            _ => "Rules that it passes:",
        };
        self.rules(first, rules)?;
        let shown = if ends.len() > SHOWN { 1 } else { ends.len() };
        for end in ends.iter().filter(|end| !end.rules.is_empty()).take(shown) {
            self.rules(&format!("Rules on the way {}:", way(end.outcome)), &end.rules)?;
        }
        if shown < ends.len() {
            writeln!(self.out, "\nThe other outcomes pass similar rules; -o json shows all.")?;
        }
        self.rules("Rules that it passes then in any case:", behind)?;
        self.rules("Not understood, and assumed to let it pass:", unknown)
    }

    fn unresolved(
        &mut self,
        from: &args::SenderArgument,
        to: &str,
        remark: &Remark,
    ) -> std::fmt::Result {
        let line = self.paint.bold(&format!("{from} → {to}"));
        writeln!(self.out, "{line}\n")?;
        self.labelled("frontend", &format!("none: {}", remark.text))
    }

    fn frontend(&mut self, frontend: Option<&ReachedFrontend>) -> std::fmt::Result {
        let words = match frontend {
            None => "none: no Service has this address and port".to_owned(),
            Some(ReachedFrontend { service, kind, address, .. }) => match kind {
                FrontendKind::NodePort => format!("node port {} of {service}", address.port()),
                kind => format!("{} {address} of {service}", kind.words()),
            },
        };
        self.labelled("frontend", &words)
    }

    fn remark(&mut self, remark: &Remark, is_more: bool) -> std::fmt::Result {
        let label = match remark.about {
            _ if is_more => "",
            RemarkSubject::Input => "input",
            RemarkSubject::Policy => "policy",
            RemarkSubject::Choice => "choice",
            RemarkSubject::Source => "source",
            RemarkSubject::NoEndpoints | RemarkSubject::Refusal => "refused",
            RemarkSubject::NoService => "passes",
        };
        self.labelled(label, &remark.text)?;
        match &remark.change {
            Some(change) => self.labelled("", &format!("to change that: {change}")),
            None => Ok(()),
        }
    }

    fn labelled(&mut self, label: &str, words: &str) -> std::fmt::Result {
        let label = self.paint.bold(&format!("{label:<9}"));
        writeln!(self.out, "{label} {}", plain(words))
    }

    /// The ends with their causes and conditions. Equal conditions are written once, after the last
    /// end that has them, and those of all ends at the end.
    fn ends(&mut self, ends: &[End], to: &str) -> std::fmt::Result {
        let is_of_all =
            |condition: &&EndCondition| ends.iter().all(|end| end.conditions.contains(condition));
        let groups: Vec<&[End]> =
            ends.chunk_by(|end, next| end.conditions == next.conditions).collect();
        for group in &groups {
            group.iter().try_for_each(|end| self.end(end, to))?;
            let own = group.first().into_iter().flat_map(|end| &end.conditions);
            let own = own.filter(|condition| groups.len() == 1 || !is_of_all(condition));
            own.map(|condition| ("", condition)).try_for_each(|of| self.condition(of))?;
        }
        let first = ends.first().filter(|_| groups.len() > 1);
        let of_all = first.into_iter().flat_map(|end| &end.conditions).filter(is_of_all);
        of_all.map(|condition| ("all", condition)).try_for_each(|of| self.condition(of))
    }

    fn condition(&mut self, (of, condition): (&str, &EndCondition)) -> std::fmt::Result {
        let text = format!("{of:>9}  unless {}", plain(&condition.text));
        writeln!(self.out, "{}", self.paint.dim(&text))
    }

    fn end(&mut self, end: &End, to: &str) -> std::fmt::Result {
        let outcome = match end.outcome {
            Outcome::Endpoint { .. } => self.paint.comes(&format!("{}", Ending(end))),
            Outcome::Passes { .. } => {
                let place = match end.interface.as_deref() {
                    Some("lo") => format!("to {to} at this node"),
                    Some(interface) => format!("to {to} through {}", plain(interface)),
                    None => format!("to {to}"),
                };
                format!("{} {place}", Ending(end))
            }
            _ => self.paint.goes(&format!("{}", Ending(end))),
        };
        writeln!(self.out, "{:>9}  {outcome}", chance(end))?;
        match &end.cause {
            // A remark says it.
            Some(cause) if cause.code == Code::NotTracked => Ok(()),
            Some(cause) => {
                let way =
                    cause.endpoint.map_or_else(String::new, |to| format!("on the way to {to}: "));
                let text = format!("{:>9}  because {way}{}", "", plain(&cause.text));
                writeln!(self.out, "{text}")
            }
            None => Ok(()),
        }
    }

    fn rules(&mut self, heading: &str, rules: &[PassedRule]) -> std::fmt::Result {
        if rules.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "\n{}", self.paint.bold(heading))?;
        rules.iter().try_for_each(|rule| self.rule(rule))
    }

    fn rule(&mut self, rule: &PassedRule) -> std::fmt::Result {
        let place = match rule.table {
            Some(table) => format!("{table} {}", plain(&rule.chain)),
            None => plain(&rule.chain).into_owned(),
        };
        match rule.means {
            Some(means) => writeln!(self.out, "  {place}: {means}")?,
            None => writeln!(self.out, "  {place}")?,
        }
        writeln!(self.out, "{}", self.paint.dim(&format!("      {}", plain(&rule.rule))))?;
        match &rule.element {
            Some(element) => {
                writeln!(self.out, "{}", self.paint.dim(&format!("      finds {}", plain(element))))
            }
            None => Ok(()),
        }
    }
}

struct Ending<'a>(&'a End);

impl std::fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.outcome {
            Outcome::Endpoint { endpoint, masqueraded: true } => {
                write!(f, "{endpoint}, masqueraded")
            }
            Outcome::Endpoint { endpoint, masqueraded: false } => write!(f, "{endpoint}"),
            _ => f.write_str(self.0.outcome_words().unwrap_or_default()),
        }
    }
}

fn way(outcome: Outcome) -> String {
    match outcome {
        Outcome::Endpoint { endpoint, .. } => format!("to {endpoint}"),
        Outcome::Passes { .. } => "to where it was sent".to_owned(),
        Outcome::Rejected => "to where it is rejected".to_owned(),
        Outcome::Dropped => "to where it is dropped".to_owned(),
        Outcome::Unreachable => "to where it is not routed".to_owned(),
    }
}

/// As a fraction if it is `1 in n`, else in percent.
fn chance(end: &End) -> String {
    match end.probability.one_in {
        Some(1) => words::certainty(!end.conditions.is_empty()).to_owned(),
        Some(n) => format!("1 in {n}"),
        None => format!("{:.6} %", end.probability.value * 100.0),
    }
}
