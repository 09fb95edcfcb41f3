//! The report as text.

use std::io::{self, Write};

use rulegen_inspect::diff::{DiffAction, DiffReport, FrontendChange, ObjectChange, ServiceDiff};

use crate::paint::Paint;
use crate::plain::plain;

/// Writes nothing if there are no changes, like diff(1).
pub(crate) fn write(out: &mut impl Write, report: &DiffReport, paint: &Paint) -> io::Result<()> {
    if report.is_empty() {
        return Ok(());
    }
    for service in &report.services {
        write_service(out, service, paint)?;
        writeln!(out)?;
    }
    if !report.shared.is_empty() {
        writeln!(out, "{}", paint.bold("shared"))?;
        write_objects(out, &report.shared, paint)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", paint.bold(&summary(report)))
}

fn summary(report: &DiffReport) -> String {
    let counts = report.summary;
    let plural = if counts.add == 1 { "" } else { "s" };
    let shared = match report.shared.len() {
        0 => String::new(),
        1 => "; 1 shared chain, set or rule to change".to_owned(),
        n => format!("; {n} shared chains, sets and rules to change"),
    };
    format!(
        "Plan: {} service{plural} to add, {} to change, {} to remove{shared}.",
        counts.add, counts.change, counts.remove
    )
}

fn write_service(out: &mut impl Write, service: &ServiceDiff, paint: &Paint) -> io::Result<()> {
    let port = service.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
    let heading = format!(
        "{} {}/{}{port} {}",
        sign(service.action),
        service.namespace,
        service.name,
        service.protocol
    );
    let heading = painted(paint, service.action, &plain(&heading));
    writeln!(out, "{}", paint.bold(&heading))?;
    for frontend in &service.frontends {
        write_frontend(out, frontend, paint)?;
    }
    write_objects(out, &service.objects, paint)
}

fn write_frontend(out: &mut impl Write, change: &FrontendChange, paint: &Paint) -> io::Result<()> {
    let heading = format!("  {} {} {}", sign(change.action), change.kind, change.frontend);
    writeln!(out, "{}", painted(paint, change.action, &heading))?;
    write_lines(out, &change.removed, &change.added, paint)
}

fn write_objects(out: &mut impl Write, objects: &[ObjectChange], paint: &Paint) -> io::Result<()> {
    for object in objects {
        writeln!(out, "  {}: {}", plain(&object.object), object.change)?;
        write_lines(out, &object.removed, &object.added, paint)?;
    }
    Ok(())
}

/// Removed lines may be written by other programs, so they are escaped.
fn write_lines(
    out: &mut impl Write,
    removed: &[String],
    added: &[String],
    paint: &Paint,
) -> io::Result<()> {
    for line in removed {
        writeln!(out, "{}", paint.goes(&format!("    - {}", plain(line))))?;
    }
    for line in added {
        writeln!(out, "{}", paint.comes(&format!("    + {}", plain(line))))?;
    }
    Ok(())
}

fn sign(action: DiffAction) -> char {
    match action {
        DiffAction::Add => '+',
        DiffAction::Change => '~',
        DiffAction::Remove => '-',
    }
}

fn painted(paint: &Paint, action: DiffAction, text: &str) -> String {
    match action {
        DiffAction::Add => paint.comes(text),
        DiffAction::Change => paint.changes(text),
        DiffAction::Remove => paint.goes(text),
    }
}

#[cfg(test)]
mod tests {
    use rulegen_inspect::diff::Summary;

    use super::*;

    #[test]
    fn diff_text_escapes_control_characters() {
        const TITLE: &str = "\x1b]0;owned\x07";
        let lines = || vec![format!("ip saddr 192.0.2.1 comment \"{TITLE}\"")];
        let object = || ObjectChange {
            object: format!("chain ip rulegen {TITLE}"),
            change: "changed",
            removed: lines(),
            added: lines(),
        };
        let frontend = FrontendChange {
            kind: "clusterIP",
            frontend: "10.96.0.10:80/TCP".to_owned(),
            action: DiffAction::Change,
            removed: lines(),
            added: lines(),
            refused_code: None,
        };
        let service = ServiceDiff {
            namespace: TITLE.into(),
            name: TITLE.into(),
            port: Some(TITLE.into()),
            protocol: "TCP".to_owned(),
            action: DiffAction::Change,
            frontends: vec![frontend],
            objects: vec![object()],
        };
        let (services, shared) = (vec![service], vec![object()]);
        let report = DiffReport { mode: "nftables", services, shared, summary: Summary::default() };
        let mut out = Vec::new();
        assert!(write(&mut out, &report, &Paint::for_stdout()).is_ok());
        let text = String::from_utf8_lossy(&out);
        assert!(!text.contains("\x1b]") && !text.contains('\x07'), "{text:?}");
        assert_eq!(text.matches("\u{fffd}]0;owned\u{fffd}").count(), 11, "{text}");
    }
}
