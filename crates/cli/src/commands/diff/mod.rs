//! `rulegen diff`: shows what apply would change, by Service, then by object.

mod iptables;
mod nftables;
mod report;
mod services;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use rulegen_config::ProxyMode;

use super::print_with;
use crate::args::{DiffArgs, DiffForm};
use crate::input;
use crate::inputs::hint_at_held_mode;
use crate::paint::Paint;
use crate::problems::print_error;
use report::Report;

/// Exit status as in kubectl diff and diff(1): 0 no changes, 1 changes, 2 error.
pub(crate) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let found = compare(args).unwrap_or_else(|error| {
        print_error(&error);
        2
    });
    Ok(ExitCode::from(found))
}

fn compare(args: &DiffArgs) -> Result<u8> {
    let input = input::load(&args.input, &args.proxy, &args.ignored, "nothing is compared")?;
    hint_at_held_mode(&args.proxy, &input.config);
    let report = match input.config.mode {
        ProxyMode::Iptables => iptables::compare(args, &input)?,
        ProxyMode::Nftables => nftables::compare(args, &input)?,
    };
    print(args.output, &report)?;
    Ok(match input.has_warnings && args.input.strict {
        true => 2,
        false => u8::from(!report.is_empty()),
    })
}

fn print(form: Option<DiffForm>, report: &Report) -> Result<()> {
    match form {
        Some(DiffForm::Json) => print_with(|out| {
            serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
            writeln!(out)
        }),
        None => print_with(|out| text::write(out, report, &Paint::for_stdout())),
    }
}
