//! `rulegen test`: reads test files, prints verdicts, sets the status.

mod generate;
pub(crate) mod inputs;
mod json;
mod junit;
#[cfg(test)]
mod live_notes;
mod report;
mod round;
mod tap;
mod text;
mod watch;

use std::process::ExitCode;

use anyhow::{Context, Result};
use rulegen_packet_tests::schema;

use super::print;
use crate::args::TestArgs;
use crate::problems::print_error;

pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    let done = match args {
        TestArgs { schema: true, .. } => print_schema().map(|()| 0),
        TestArgs { generate: true, .. } => generate::run(args).map(|()| 0),
        TestArgs { watch: true, .. } => watch::run(args).map(|()| 0),
        _ => round::run(args, &round::load_all(args)),
    };
    Ok(ExitCode::from(done.unwrap_or_else(|error| {
        print_error(&error);
        round::WRONG
    })))
}

fn print_schema() -> Result<()> {
    let text = serde_json::to_string_pretty(&schema()).context("cannot write the schema")?;
    print(&format!("{text}\n"))
}
