//! What changes in a file, by Service.

use rulegen::types::Rules;
use rulegen::{diff, parse_iptables};
use rulegen_inspect::diff::{DiffReport, diff_nft_text};

use super::render::RulesFile;
use crate::commands::diff::text;
use crate::paint::Paint;

/// The changes from the stored text to the rules, by Service.
pub(super) fn describe(stored: Option<&str>, file: &RulesFile, paint: Paint) -> String {
    let Some(stored) = stored else { return "the file does not exist\n".to_owned() };
    match report(stored, file) {
        Ok(report) if !report.is_empty() => {
            let mut out = Vec::new();
            // Writing into a Vec cannot fail.
            let _ = text::write(&mut out, &report, &paint);
            String::from_utf8_lossy(&out).into_owned()
        }
        Ok(_) => "the text differs, the rules are the same\n".to_owned(),
        Err(wrong) => format!("{wrong}\n"),
    }
}

fn report(stored: &str, file: &RulesFile) -> Result<DiffReport, String> {
    match file.rules.as_slice() {
        [rules @ Rules::Iptables(ruleset)] => {
            let stored = parse_iptables(ruleset.family, stored).map_err(|errors| {
                let lines = errors.iter().map(|error| format!("not iptables-save's: {error}"));
                lines.collect::<Vec<_>>().join("\n")
            })?;
            diff(&stored, rules).map_err(|error| error.to_string())
        }
        _ => Ok(diff_nft_text(stored, &file.text)),
    }
}
