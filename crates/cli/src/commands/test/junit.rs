//! Verdicts as JUnit XML: one `testsuite` per file, one `testcase` per case and mode.

use std::fmt::Write;

use rulegen_packet_tests::{CaseReport, CaseVerdict};

use super::report::{FileReport, TestSummary, details, message, summary};

pub(super) fn describe(reports: &[FileReport]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a String cannot fail.
    let _ = write_all(&mut out, reports);
    out
}

fn write_all(out: &mut String, reports: &[FileReport]) -> std::fmt::Result {
    writeln!(out, "<testsuites name=\"rulegen test\"{}>", counts(&summary(reports)))?;
    for report in reports {
        let counts = counts(&summary([report]));
        writeln!(out, "  <testsuite name=\"{}\"{counts}>", escaped(&report.file))?;
        for case in &report.cases {
            write_case(out, report, case)?;
        }
        if !report.problems.is_empty() {
            let lines = report.problem_lines();
            let file = escaped(&report.file);
            writeln!(out, "    <testcase name=\"{file}\" classname=\"{file}\">")?;
            let (first, all) = (lines.first().map(String::as_str), lines.join("\n"));
            write_part(out, "error", first.unwrap_or_default(), &all)?;
            writeln!(out, "    </testcase>")?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn counts(of: &TestSummary) -> String {
    let TestSummary { passed, conditional, failed, errors, ignored } = of;
    let tests = passed + conditional + failed + errors + ignored;
    let skipped = if *ignored > 0 { format!(" skipped=\"{ignored}\"") } else { String::new() };
    format!(" tests=\"{tests}\" failures=\"{failed}\" errors=\"{errors}\"{skipped}")
}

fn write_case(out: &mut String, report: &FileReport, case: &CaseReport) -> std::fmt::Result {
    let (name, file) = (escaped(&case.name), escaped(&report.file));
    let open = format!("    <testcase name=\"{name}\" classname=\"{file}.{}\"", case.mode.word());
    let properties = properties(case);
    if matches!(case.verdict, CaseVerdict::Passed) && properties.is_empty() {
        return writeln!(out, "{open}/>");
    }
    writeln!(out, "{open}>")?;
    if !properties.is_empty() {
        writeln!(out, "      <properties>")?;
        for (name, value) in properties {
            let value = escaped(&value);
            writeln!(out, "        <property name=\"{name}\" value=\"{value}\"/>")?;
        }
        writeln!(out, "      </properties>")?;
    }
    match &case.verdict {
        CaseVerdict::Passed | CaseVerdict::Conditional(_) => {}
        CaseVerdict::Ignored(reason) => {
            writeln!(out, "      <skipped message=\"{}\"/>", escaped(reason))?;
        }
        verdict @ CaseVerdict::Failed(_) => {
            write_part(out, "failure", &message(verdict), &details(verdict))?;
        }
        verdict @ CaseVerdict::Wrong(_) => {
            write_part(out, "error", &message(verdict), &details(verdict))?;
        }
    }
    writeln!(out, "    </testcase>")
}

/// The conditions and notes of a case.
fn properties(case: &CaseReport) -> Vec<(&'static str, String)> {
    let conditions = match &case.verdict {
        CaseVerdict::Conditional(conditions) => conditions.as_slice(),
        _ => &[],
    };
    let conditions = conditions.iter().map(|of| ("unless", of.reason.to_string()));
    conditions.chain(case.notes.iter().map(|of| ("note", of.to_string()))).collect()
}

fn write_part(out: &mut String, element: &str, message: &str, text: &str) -> std::fmt::Result {
    let (message, text) = (escaped(message), escaped(text.trim_end()));
    writeln!(out, "      <{element} message=\"{message}\">{text}</{element}>")
}

/// Text for an element or attribute. XML 1.0 cannot hold most control characters in any form.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push(char::REPLACEMENT_CHARACTER)
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn junit_text_is_escaped_and_has_no_control_characters() {
        assert_eq!(
            escaped("a<b> & \"c\"\n\u{1b}[0m"),
            "a&lt;b&gt; &amp; &quot;c&quot;\n\u{fffd}[0m"
        );
    }
}
