//! The log, on standard error.
//!
//! Commands write to it directly. The agent must not wait for its reader, and writes through
//! a queue.

mod queue;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::args::LoggingFormat;
use queue::LogQueue;

/// How this process writes log lines.
struct Log {
    format: LoggingFormat,
    /// For the agent only.
    queue: Option<LogQueue>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Time to write the rest of the queue on exit.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts logging. The verbosity has klog's levels: 0 and 1 for warnings and errors, 2 for info,
/// 4 for debug, 6 for trace.
pub(crate) fn start((verbosity, format): (u8, LoggingFormat), is_queued: bool) {
    let level = match verbosity {
        0 | 1 => Level::WARN,
        2 | 3 => Level::INFO,
        4 | 5 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let mut default = Targets::new().with_default(level);
    if level <= Level::INFO {
        // The API client logs each attempt; the agent logs failures itself.
        let off = ["kube_client", "kube_runtime"].map(|target| (target, LevelFilter::OFF));
        default = default.with_targets(off);
    }
    let requested = std::env::var("RULEGEN_LOG").ok().map(|text| text.parse());
    let (filter, invalid) = match requested {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default, Some(error)),
        None => (default, None),
    };
    let queue = is_queued.then(|| LogQueue::start(io::stderr()));
    let queue = queue.and_then(Result::ok);
    let log = LOG.get_or_init(|| Log { format, queue });
    let lines = fmt::layer()
        .with_writer(|| log.writer())
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // Errors of the log itself would be printed to standard error, which panics if the disk is
        // full. That must not end the agent.
        .log_internal_errors(false);
    let lines = match format {
        LoggingFormat::Text => lines.boxed(),
        LoggingFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    if let Some(error) = invalid {
        tracing::warn!(%error, "RULEGEN_LOG is not a valid filter, using the default");
    }
}

impl Log {
    fn writer(&self) -> Box<dyn Write> {
        match &self.queue {
            Some(queue) => Box::new(queue.clone()),
            None => Box::new(io::stderr()),
        }
    }
}

/// Whether all lines must be JSON.
pub(crate) fn is_json() -> bool {
    LOG.get().is_some_and(|log| matches!(log.format, LoggingFormat::Json))
}

/// Writes a line that is not a log event.
pub(crate) fn say(message: &str) {
    match LOG.get().and_then(|log| log.queue.as_ref()) {
        Some(queue) => queue.push(format!("{message}\n").as_bytes()),
        // A failure cannot be reported if standard error is closed.
        None => drop(writeln!(io::stderr(), "{message}")),
    }
}

/// Number of dropped log lines.
pub(crate) fn lost() -> u64 {
    LOG.get().and_then(|log| log.queue.as_ref()).map_or(0, LogQueue::lost)
}

/// Waits until all lines are written, for a bounded time.
pub(crate) fn flush() {
    if let Some(queue) = LOG.get().and_then(|log| log.queue.as_ref()) {
        queue.flush(PATIENCE);
    }
}
