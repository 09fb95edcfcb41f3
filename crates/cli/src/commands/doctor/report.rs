//! The findings of all checks as text and JSON.

use std::fmt::Write as _;
use std::io::{self, Write};

use rulegen_doctor::{Check, CheckResult, Checked, Finding, Grade, Report};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::paint::Paint;
use crate::plain::plain;

/// Maximum number of findings per check in text output: a cluster may have thousands of Services
/// without endpoints.
const SHOWN: usize = 20;

/// The exit status. Findings take precedence over checks that failed to run.
pub(super) fn status(report: &Report) -> u8 {
    let any = |grade| report.count(grade) > 0;
    if any(Grade::Warning) || any(Grade::Error) {
        1
    } else if any(Grade::Unknown) {
        2
    } else {
        0
    }
}

pub(super) fn text(report: &Report) -> String {
    let paint = Paint::for_stdout();
    let width = report.checked.iter().map(|checked| checked.check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Checked { check, outcome } in &report.checked {
        // Writing into a String cannot fail.
        let _ = describe(&mut text, &paint, width, check, outcome);
    }
    let counts = Grade::ALL.into_iter().map(|grade| (grade, report.count(grade)));
    let counts: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(grade, count)| format!("{count} {}", grade.word()))
        .collect();
    let summary = format!("checks: {}", counts.join(", "));
    let _ = writeln!(text, "{} (mode {})", paint.bold(&summary), report.mode.word());
    text
}

pub(super) fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let checks: Vec<JsonCheck<'_>> = report.checked.iter().map(JsonCheck::new).collect();
    let summary: Map<String, Value> = Grade::ALL
        .into_iter()
        .filter_map(|grade| {
            let Value::String(name) = json!(grade) else { return None };
            Some((name, json!(report.count(grade))))
        })
        .collect();
    let node = report.node.as_deref();
    let json = JsonReport { mode: report.mode.word(), node, checks, summary };
    serde_json::to_writer_pretty(&mut *out, &json).map_err(io::Error::from)?;
    writeln!(out)
}

/// The field names are stable across versions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonReport<'a> {
    /// `iptables` or `nftables`.
    mode: &'a str,
    /// The node's name, if objects were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    /// In the order of `--list-checks`.
    checks: Vec<JsonCheck<'a>>,
    /// Number of checks per result.
    summary: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonCheck<'a> {
    check: &'a str,
    about: &'a str,
    result: Grade,
    /// Reason of the results `notChecked` and `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    findings: &'a [Finding],
}

impl<'a> JsonCheck<'a> {
    fn new(Checked { check, outcome }: &'a Checked) -> Self {
        let (reason, findings) = match outcome {
            CheckResult::Found(findings) => (None, findings.as_slice()),
            CheckResult::NotChecked(reason) | CheckResult::Unknown(reason) => {
                (Some(reason.as_str()), [].as_slice())
            }
        };
        let (check, about, result) = (check.name, check.about, outcome.grade());
        Self { check, about, result, reason, findings }
    }
}

/// The text of `--list-checks`.
pub(super) fn list(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let line = |check: &Check| format!("{:width$}  {}\n", check.name, check.about);
    checks.iter().map(line).collect()
}

fn describe(
    text: &mut String,
    paint: &Paint,
    width: usize,
    check: &Check,
    outcome: &CheckResult,
) -> std::fmt::Result {
    let grade = outcome.grade();
    let mark = format!("{} {:11}", grade.mark(), grade.word());
    let mark = match grade {
        Grade::Ok | Grade::Note => paint.comes(&mark),
        Grade::Error => paint.goes(&mark),
        Grade::Warning | Grade::Unknown => paint.bold(&mark),
        Grade::NotChecked => mark,
    };
    let mut line = |words: &str| writeln!(text, "{mark} {:width$}  {words}", check.name);
    match outcome {
        CheckResult::NotChecked(reason) | CheckResult::Unknown(reason) => {
            line(&plain_lines(reason))
        }
        CheckResult::Found(findings) if findings.is_empty() => line(check.about),
        CheckResult::Found(findings) => {
            writeln!(text, "{mark} {}", check.name)?;
            describe_findings(text, paint, findings)
        }
    }
}

/// Prints the worst finding first. Consecutive findings with the same remedy share one remedy line.
fn describe_findings(text: &mut String, paint: &Paint, findings: &[Finding]) -> std::fmt::Result {
    let mut findings: Vec<&Finding> = findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut shown = findings.iter().take(SHOWN).peekable();
    while let Some(finding) = shown.next() {
        writeln!(text, "    {}", plain(&finding.what))?;
        if shown.peek().is_none_or(|next| next.remedy != finding.remedy) {
            writeln!(text, "    {} {}", paint.bold("remedy:"), plain(&finding.remedy))?;
        }
    }
    match findings.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => {
            writeln!(text, "    and {more} more (use -o json to see all)")
        }
        _ => Ok(()),
    }
}

/// An error message of another program may have several lines.
fn plain_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use rulegen_config::ProxyMode;
    use rulegen_doctor::{CHECKS, FindingCode};

    use super::*;

    fn report(outcomes: Vec<CheckResult>) -> Report {
        let check = CHECKS.iter().find(|check| check.name == "ip-forward").unwrap();
        let checked = outcomes.into_iter().map(|outcome| Checked { check, outcome }).collect();
        Report { mode: ProxyMode::Nftables, node: None, checked }
    }

    fn all() -> Vec<CheckResult> {
        let error =
            |n| Finding::error(FindingCode::Ipv4ForwardingOff, format!("off {n}"), "switch it on");
        vec![
            CheckResult::Found(vec![]),
            CheckResult::Found(vec![
                Finding::note(FindingCode::NoRules, "hm", "see"),
                error(1),
                error(2),
            ]),
            CheckResult::Unknown("no permission".to_owned()),
            CheckResult::NotChecked("give -f".to_owned()),
        ]
    }

    #[test]
    fn doctor_text_has_one_line_per_check_and_each_remedy_once() {
        assert_eq!(
            text(&report(all())),
            "✓ ok          ip-forward  IPv4 forwarding is on, on each interface\n\
             ✗ error       ip-forward\n    off 1\n    off 2\n    \
             remedy: switch it on\n    hm\n    remedy: see\n\
             ? unknown     ip-forward  no permission\n\
             - not checked ip-forward  give -f\n\
             checks: 1 ok, 1 error, 1 unknown, 1 not checked (mode nftables)\n"
        );
    }

    #[test]
    fn doctor_text_escapes_control_characters_in_foreign_names() {
        let title = "chain \x1b]0;owned\x07";
        let found = CheckResult::Found(vec![Finding::note(FindingCode::NoRules, title, title)]);
        let text = text(&report(vec![found, CheckResult::Unknown(format!("{title}\nno more"))]));
        assert!(!text.contains("\x1b]") && !text.contains('\x07'), "{text:?}");
        assert_eq!(text.matches("chain \u{fffd}]0;owned\u{fffd}\n").count(), 3, "{text}");
        assert!(text.contains("\nno more\n"), "{text}");
    }

    #[test]
    fn doctor_json_has_the_same_results_as_text() {
        let mut out = Vec::new();
        assert!(write_json(&report(all()), &mut out).is_ok());
        let read: Value = serde_json::from_slice(&out).unwrap_or_default();
        assert_eq!(read["mode"], "nftables");
        assert_eq!(read["checks"][1]["result"], "error");
        let finding = json!({"code": "ipv4-forwarding-off", "severity": "error", "what": "off 1", "remedy": "switch it on"});
        assert_eq!(read["checks"][1]["findings"][1], finding);
        assert_eq!(read["checks"][3]["result"], "notChecked");
        assert_eq!(read["checks"][3]["reason"], "give -f");
        let summary =
            json!({"ok": 1, "note": 0, "warning": 0, "error": 1, "unknown": 1, "notChecked": 1});
        assert_eq!(read["summary"], summary);
    }

    #[test]
    fn doctor_exit_status_of_findings_takes_precedence_over_unknown() {
        let of = |outcomes: &[usize]| {
            let all = all();
            status(&report(outcomes.iter().map(|at| all[*at].clone()).collect()))
        };
        assert_eq!([of(&[0, 3]), of(&[0, 1, 2]), of(&[0, 2]), of(&[])], [0, 1, 2, 0]);
        let note = CheckResult::Found(vec![Finding::note(FindingCode::NoRules, "hm", "see")]);
        assert_eq!(status(&report(vec![note])), 0);
    }
}
