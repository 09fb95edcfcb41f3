//! Findings as linters and compilers print them: `file:line: severity: message [code]`.

use std::fmt::Write;

use rulegen_lint::{FindingSeverity, LintFinding};

use super::counts::count;
use crate::paint::Paint;
use crate::plain::plain;

/// `hidden` is the number of findings that are not shown, `objects` that of checked objects.
pub(super) fn describe(
    findings: &[LintFinding],
    hidden: usize,
    objects: usize,
    paint: Paint,
) -> String {
    let mut out = String::new();
    for finding in findings {
        // Writing into a String cannot fail.
        let _ = write_finding(&mut out, finding, paint);
    }
    let mut words: Vec<String> =
        [FindingSeverity::Error, FindingSeverity::Warning, FindingSeverity::Note]
            .into_iter()
            .map(|severity| (severity.name(), count(findings, severity)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
            .collect();
    if words.is_empty() {
        words.push("no findings".to_owned());
    }
    let hidden = match hidden {
        0 => String::new(),
        hidden => format!(" ({hidden} less severe not shown, see --severity)"),
    };
    let checked = match objects {
        1 => "1 object checked".to_owned(),
        objects => format!("{objects} objects checked"),
    };
    let _ = writeln!(out, "{}{hidden}; {checked}", words.join(", "));
    out
}

fn write_finding(out: &mut String, finding: &LintFinding, paint: Paint) -> std::fmt::Result {
    let LintFinding { code, severity, source, line, object, field, what, remedy } = finding;
    if let Some(source) = source {
        write!(out, "{}:", plain(&source.file))?;
        if let Some(line) = line {
            write!(out, "{line}:")?;
        }
        write!(out, " ")?;
    }
    let word = match severity {
        FindingSeverity::Error => paint.goes(severity.name()),
        FindingSeverity::Warning => paint.changes(severity.name()),
        FindingSeverity::Note => paint.dim(severity.name()),
    };
    write!(out, "{word}: ")?;
    let object = object.as_ref().map(ToString::to_string).unwrap_or_default();
    // Many sentences name the object.
    if !what.contains(&object) || object.is_empty() {
        for part in [object.as_str(), field.as_deref().unwrap_or_default()] {
            if !part.is_empty() {
                write!(out, "{}: ", plain(part))?;
            }
        }
    }
    writeln!(out, "{} {}", plain(what), paint.bold(&format!("[{}]", code.name())))?;
    writeln!(out, "    {}", paint.dim(&format!("fix: {}", plain(remedy))))
}
