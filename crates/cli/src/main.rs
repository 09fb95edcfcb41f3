//! The `rulegen` program: arguments, and one file per command.

mod args;
mod build_info;
mod commands;
mod configuration;
mod families;
mod input;
mod inputs;
mod log;
mod mode;
mod paint;
mod plain;
mod plural;
mod problems;
mod question;
mod shown;
mod wrong_usage;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, command_line, with_hint};
use wrong_usage::WrongUsage;

/// glibc grows the heap of a second thread by a page at a time: 18,000 calls of mprotect while
/// it reads 10,000 Services, a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rulegen_os::resolver::use_built_in_sources();
    let cli = Cli::try_parse_from(command_line()).unwrap_or_else(|error| with_hint(error).exit());
    log::start(cli.logging(), cli.is_agent());
    let command = cli.into_command().unwrap_or_else(|error| error.exit());
    problems::print(&configuration::ignored_flags(&command));
    let done = match command {
        Command::Apply(args) if args.dry_run => commands::dry_run::run(&args),
        Command::Apply(args) => commands::apply::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Test(args) => commands::test::run(&args),
        Command::Lint(args) => commands::lint::run(&args),
        Command::Golden(args) => commands::golden::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Trace(args) => commands::trace::run(&args),
        Command::Agent(args) => commands::agent::run(&args),
        Command::Cleanup(args) => commands::cleanup::run(&args),
        Command::Version(args) => commands::version::run(&args),
        Command::Completion { shell } => commands::completion::run(shell),
        Command::Man { folder } => commands::man::run(&folder),
    };
    let status = done.unwrap_or_else(|error| {
        problems::print_error(&error);
        ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
    });
    log::flush();
    status
}
