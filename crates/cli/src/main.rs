//! The `rulegen` program: arguments in, one file a command.

mod args;
mod commands;
mod configuration;
mod families;
mod found;
mod input;
mod paint;
mod plain;
mod problems;
mod question;
mod shown;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, LoggingFormat};

/// glibc grows the heap of a second thread by a page at a time: 18,000 calls of mprotect while
/// it reads 10,000 Services, a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.logging());
    let done = match cli.into_command() {
        Command::Apply(args) if args.dry_run => commands::dry_run::run(&args),
        Command::Apply(args) => commands::apply::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Trace(args) => commands::trace::run(&args),
        Command::Agent(args) => commands::agent::run(&args),
        Command::Cleanup(args) => commands::cleanup::run(&args),
        Command::Completion { shell } => commands::completion::run(shell),
    };
    done.unwrap_or_else(|error| {
        problems::print_error(&error);
        ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
    })
}

/// The command line cannot be meant as it is.
#[derive(Debug)]
struct WrongUsage(String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// Klog's levels, as far as they make sense here: 0 and 1 tell what went wrong, 2 what is done,
/// 4 and more every step.
fn start_log((verbosity, format): (u8, LoggingFormat)) {
    let level = match verbosity {
        // The client of the API server tells of each attempt; the agent does, once.
        0 | 1 => "warn,kube_client=off,kube_runtime=off",
        2 | 3 => "info,kube_client=off,kube_runtime=off",
        4 | 5 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("RULEGEN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        // It would be told on standard error, and panic there: a disk that is full shall not end
        // the agent.
        .log_internal_errors(false);
    match format {
        LoggingFormat::Text => log.init(),
        LoggingFormat::Json => log.json().flatten_event(true).init(),
    }
}
