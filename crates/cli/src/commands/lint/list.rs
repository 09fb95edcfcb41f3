//! `rulegen lint --list`: all codes.

use std::fmt::Write;

use rulegen_lint::rule;
use rulegen_model::ProblemCode;

pub(super) fn describe() -> String {
    let mut out = String::new();
    for code in ProblemCode::ALL {
        let rule = rule(*code);
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{} ({})", code.name(), rule.severity.name());
        let _ = writeln!(out, "    {}\n    fix: {}", rule.about, rule.remedy);
    }
    out
}
