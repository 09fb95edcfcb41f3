//! The plan for a person to read.

use std::io::{self, Write};

use super::report::{Action, FrontendChange, ObjectChange, Report, ServiceChange};
use crate::paint::Paint;

/// Nothing where nothing changes, as diff(1).
pub(super) fn write(out: &mut impl Write, report: &Report, paint: &Paint) -> io::Result<()> {
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

fn summary(report: &Report) -> String {
    let counts = report.summary;
    let plural = if counts.add == 1 { "" } else { "s" };
    let shared = match report.shared.len() {
        0 => String::new(),
        1 => "; 1 shared object changes".to_owned(),
        n => format!("; {n} shared objects change"),
    };
    format!(
        "Plan: {} service{plural} to add, {} to change, {} to remove{shared}.",
        counts.add, counts.change, counts.remove
    )
}

fn write_service(out: &mut impl Write, service: &ServiceChange, paint: &Paint) -> io::Result<()> {
    let port = service.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
    let heading = format!(
        "{} {}/{}{port} {}",
        sign(service.action),
        service.namespace,
        service.name,
        service.protocol
    );
    writeln!(out, "{}", paint.bold(&painted(paint, service.action, &heading)))?;
    for frontend in &service.frontends {
        write_frontend(out, frontend, paint)?;
    }
    write_objects(out, &service.objects, paint)
}

fn write_frontend(out: &mut impl Write, change: &FrontendChange, paint: &Paint) -> io::Result<()> {
    let heading = format!("  {} {} {}", sign(change.action), change.kind, change.frontend);
    writeln!(out, "{}", painted(paint, change.action, &heading))?;
    for line in &change.removed {
        writeln!(out, "{}", paint.goes(&format!("    - {line}")))?;
    }
    for line in &change.added {
        writeln!(out, "{}", paint.comes(&format!("    + {line}")))?;
    }
    Ok(())
}

fn write_objects(out: &mut impl Write, objects: &[ObjectChange], paint: &Paint) -> io::Result<()> {
    for object in objects {
        writeln!(out, "  {}: {}", object.object, object.change)?;
        for line in &object.removed {
            writeln!(out, "{}", paint.goes(&format!("    - {line}")))?;
        }
        for line in &object.added {
            writeln!(out, "{}", paint.comes(&format!("    + {line}")))?;
        }
    }
    Ok(())
}

fn sign(action: Action) -> char {
    match action {
        Action::Add => '+',
        Action::Change => '~',
        Action::Remove => '-',
    }
}

fn painted(paint: &Paint, action: Action, text: &str) -> String {
    match action {
        Action::Add => paint.comes(text),
        Action::Change => paint.changes(text),
        Action::Remove => paint.goes(text),
    }
}
