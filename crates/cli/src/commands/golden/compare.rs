//! What changes in a file, by Service.

use rulegen_inspect::diff::{DiffReport, diff_iptables, diff_nftables};
use rulegen_inspect::listing::{Listing, of_plan};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ParseError, parse};
use rulegen_ruleset::nftables::{Actual, parse_tables};

use super::render::{FileRules, RulesFile};
use crate::commands::diff::text;
use crate::paint::Paint;

/// Maximum number of lines about one file. A change of a setting can change all rules.
const LINES: usize = 100;

/// The changes from the stored text to the rules, by Service.
pub(super) fn describe(stored: Option<&str>, file: &RulesFile, paint: Paint) -> String {
    let Some(stored) = stored else { return "the file does not exist\n".to_owned() };
    match report(stored, file) {
        Ok(report) if !report.is_empty() => {
            let mut out = Vec::new();
            // Writing into a Vec cannot fail.
            let _ = text::write(&mut out, &report, &paint);
            shortened(&String::from_utf8_lossy(&out))
        }
        Ok(_) => "the text differs, the rules are the same\n".to_owned(),
        Err(wrong) => format!("{wrong}\n"),
    }
}

fn report(stored: &str, file: &RulesFile) -> Result<DiffReport, String> {
    let known = |family: IpFamily| -> Listing {
        file.plans.iter().find(|plan| plan.family == family).map(of_plan).unwrap_or_default()
    };
    match &file.rules {
        FileRules::Iptables(ruleset) => {
            let (stored, errors) = parse(ruleset.family, stored);
            match errors.first() {
                Some(error) => Err(not_ours("iptables-save", error, errors.len())),
                None => Ok(diff_iptables(&[(&stored, ruleset)], known)),
            }
        }
        FileRules::Nftables(tables) => {
            let stored = parse_tables(stored)
                .map_err(|error| format!("was not written by rulegen golden: {error}"))?;
            let actual = tables.iter().map(|table| {
                let mut stored = stored.iter();
                let stored = stored.find(|of| (of.family, &of.name) == (table.family, &table.name));
                stored.cloned().map(Actual::from)
            });
            let actual: Vec<Option<Actual>> = actual.collect();
            let both: Vec<_> = actual.iter().map(Option::as_ref).zip(tables).collect();
            Ok(diff_nftables(&both, known))
        }
    }
}

fn not_ours(format: &str, first: &ParseError, errors: usize) -> String {
    let more = if errors > 1 { format!(" and {} more", errors - 1) } else { String::new() };
    format!("is not in the format of {format}: {first}{more}")
}

/// At most so many lines, and the last one, which has the numbers.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some((last, first)) = lines.split_last() else { return String::new() };
    let Some(shown) = first.get(..LINES) else { return text.to_owned() };
    let more = first.len() - shown.len();
    format!(
        "{}\n… {more} more lines: to see all, write the files and compare them with git diff\n{last}\n",
        shown.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_diff_of_many_lines_is_shortened_and_keeps_the_summary() {
        let lines = |n: usize| (0..n).map(|n| format!("{n}\n")).collect::<String>() + "Plan: x.\n";
        assert_eq!(shortened(&lines(LINES - 1)), lines(LINES - 1));
        let text = shortened(&lines(1000));
        assert_eq!(text.lines().count(), LINES + 2);
        assert!(text.contains("… 900 more lines") && text.ends_with("\nPlan: x.\n"), "{text}");
    }
}
