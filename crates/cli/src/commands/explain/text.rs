//! An explanation as text: first the outcomes and reasons, then the rules.

use std::fmt::Write;

use rulegen_inspect::explain::{
    End, EndCondition, EndGroup, EndGroups, Explanation, Outcome, PassedRule, Remark,
};
use rulegen_inspect::words;

use crate::args;
use crate::paint::Paint;
use crate::plain::plain;

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
        let Explanation { packet, remarks, .. } = explanation;
        let line = format!("{} → {}, {}", packet.from, packet.destination(), packet.sender);
        writeln!(self.out, "{}\n", self.paint.bold(&line))?;
        self.labelled("frontend", &explanation.frontend_words())?;
        let mut last = None;
        for remark in remarks {
            self.remark(remark, last == Some(remark.about))?;
            last = Some(remark.about);
        }
        writeln!(self.out)?;
        self.ends(explanation)?;
        for (heading, rules) in explanation.rule_parts() {
            self.rules(&heading, rules)?;
        }
        match explanation.has_more_rules() {
            true => {
                writeln!(self.out, "\nThe other outcomes pass similar rules; -o json shows all.")
            }
            false => Ok(()),
        }
    }

    fn unresolved(
        &mut self,
        from: &args::SenderArgument,
        to: &str,
        remark: &Remark,
    ) -> std::fmt::Result {
        let line = self.paint.bold(&format!("{from} → {to}"));
        writeln!(self.out, "{line}\n")?;
        self.labelled("frontend", &format!("none: {remark}"))
    }

    fn remark(&mut self, remark: &Remark, is_more: bool) -> std::fmt::Result {
        let label = if is_more { "" } else { remark.about.label() };
        self.labelled(label, &remark.to_string())?;
        match remark.change() {
            Some(change) => self.labelled("", &words::to_change(&change)),
            None => Ok(()),
        }
    }

    fn labelled(&mut self, label: &str, words: &str) -> std::fmt::Result {
        let label = self.paint.bold(&format!("{label:<9}"));
        writeln!(self.out, "{label} {}", plain(words))
    }

    /// The ends with their causes and conditions. Equal conditions are written once, after the last
    /// end that has them, and those of all ends at the end.
    fn ends(&mut self, explanation: &Explanation) -> std::fmt::Result {
        let EndGroups { groups, of_all } = explanation.end_groups();
        for EndGroup { ends, conditions } in groups {
            ends.iter().try_for_each(|end| self.end(end, &explanation.place(end)))?;
            conditions.iter().try_for_each(|condition| self.condition("", condition))?;
        }
        of_all.iter().try_for_each(|condition| self.condition(words::OF_ALL, condition))
    }

    fn condition(&mut self, of: &str, condition: &EndCondition) -> std::fmt::Result {
        let text = format!("{of:>9}  {}", plain(&condition.to_string()));
        writeln!(self.out, "{}", self.paint.dim(&text))
    }

    fn end(&mut self, end: &End, place: &str) -> std::fmt::Result {
        let outcome = match end.outcome {
            Outcome::Endpoint { .. } => self.paint.comes(&end.to_string()),
            Outcome::Passes { .. } => format!("{end}{}", plain(place)),
            _ => self.paint.goes(&end.to_string()),
        };
        writeln!(self.out, "{:>9}  {outcome}", end.chance())?;
        match end.because() {
            Some(cause) => writeln!(self.out, "{:>9}  {}", "", plain(&cause)),
            None => Ok(()),
        }
    }

    fn rules(&mut self, heading: &str, rules: &[PassedRule]) -> std::fmt::Result {
        writeln!(self.out, "\n{}", self.paint.bold(&format!("{heading}:")))?;
        rules.iter().try_for_each(|rule| self.rule(rule))
    }

    fn rule(&mut self, rule: &PassedRule) -> std::fmt::Result {
        let place = match rule.table {
            Some(table) => format!("{table} {}", plain(&rule.chain)),
            None => plain(&rule.chain).into_owned(),
        };
        match &rule.role {
            Some(role) => writeln!(self.out, "  {place}: {}", role.words())?,
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
