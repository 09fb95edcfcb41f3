//! `rulegen trace`: traces real packets through the rules.

mod json;
mod ruleset_cache;
mod text;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rulegen_inspect::packet_trace::{PacketTracker, TraceContext, TraceUpdate, frontends};
use rulegen_kernel::nftables::{Received, TraceListener, TraceSession};
use rulegen_net::{Frontend, IpFamily, Protocol};
use rulegen_os::signals::StopSignals;
use rulegen_ruleset::nftables::{TraceEvent, TraceFilter, TraceTarget};
use ruleset_cache::RulesetCache;

use crate::WrongUsage;
use crate::args::{TraceArgs, TraceDestination, TraceForm};
use crate::paint::Paint;
use crate::problems::say;

pub(crate) fn run(args: &TraceArgs) -> Result<ExitCode> {
    // Before the trace table is created: a signal must not end the program before it is removed.
    let signals = StopSignals::hold().context("cannot block signals")?;
    let mut rules = RulesetCache::open(&args.nftables_table)?;
    let filter = filter(args, rules.known())?;
    let listener = TraceListener::open()?;
    let armed = TraceSession::arm(&filter)?;
    rules.after_own_commit()?;
    announce(args, &armed);
    let mut session = Session {
        args,
        rules,
        listener,
        signals,
        tracker: PacketTracker::new(armed.table().clone()),
        paint: Paint::for_stdout(),
        begun: Instant::now(),
        ended: 0,
    };
    match session.follow() {
        // The reader exited, for example `head`.
        Err(error) if is_broken_pipe(&error) => {}
        done => done?,
    }
    drop(armed);
    Ok(ExitCode::SUCCESS)
}

/// The packets to trace. Names of Services are resolved in our own tables.
fn filter(args: &TraceArgs, known: &TraceContext) -> Result<TraceFilter> {
    let mut to = Vec::new();
    for one in &args.to {
        match one {
            TraceDestination::Network(network) => to.push(TraceTarget::Network(network.trunc())),
            TraceDestination::Socket(socket, protocol) => {
                let protocols = protocol.map_or(Protocol::ALL.to_vec(), |protocol| vec![protocol]);
                to.extend(protocols.into_iter().map(|protocol| {
                    let frontend = Frontend::at_ip(socket.ip(), protocol, socket.port());
                    TraceTarget::Frontend(frontend)
                }));
            }
            TraceDestination::Service(service) => {
                let frontends = frontends(service, known);
                let frontends = frontends.context("see `rulegen list`")?;
                to.extend(frontends.into_iter().map(TraceTarget::Frontend));
            }
        }
    }
    let filter = TraceFilter { from: args.from, to, every_packet: args.every_packet };
    if [IpFamily::Ipv4, IpFamily::Ipv6].iter().all(|family| filter.rules(*family).is_empty()) {
        return Err(WrongUsage("--from and --to have different IP families".to_owned()).into());
    }
    Ok(filter)
}

fn announce(args: &TraceArgs, armed: &TraceSession) {
    let which = if args.every_packet { "all packets" } else { "the first packet per connection" };
    say(&format!("tracing {which} with table {}; stop with Ctrl-C", armed.table()));
    if !armed.is_owned() {
        say(
            "warning: this kernel does not remove the trace table on exit (needs Linux 5.12): after \
             kill -9, remove it with `nft delete table`",
        );
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<io::Error>();
    source.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Session<'a> {
    args: &'a TraceArgs,
    rules: RulesetCache,
    listener: TraceListener,
    signals: StopSignals,
    tracker: PacketTracker,
    paint: Paint,
    begun: Instant,
    /// Number of packets that ended.
    ended: u64,
}

/// Timeout without a deadline.
const LONG: Duration = Duration::from_secs(3600);

impl Session<'_> {
    fn follow(&mut self) -> Result<()> {
        while !self.is_over() {
            match self.listener.next(self.timeout(), &self.signals, io::stdout().as_fd())? {
                Received::Events(events) => self.take(events)?,
                Received::Lost => {
                    self.tracker.lose(self.begun.elapsed());
                    self.write_loss()?;
                }
                Received::Timeout => {}
                Received::Stop => break,
            }
            let idle = self.tracker.rest(self.begun.elapsed());
            self.write(idle)?;
        }
        let rest = self.tracker.finish();
        self.write(rest)
    }

    fn is_over(&self) -> bool {
        let is_timeout = self.args.time.is_some_and(|time| self.begun.elapsed() >= time);
        is_timeout || self.args.count.is_some_and(|count| self.ended >= count)
    }

    /// Time until the next packet is completed or the trace ends.
    fn timeout(&self) -> Duration {
        let next = [self.tracker.deadline(), self.args.time].into_iter().flatten().min();
        next.map_or(LONG, |next| next.saturating_sub(self.begun.elapsed()))
    }

    fn take(&mut self, events: Vec<TraceEvent>) -> Result<()> {
        for event in events {
            self.rules.learn(&event)?;
            let updates = self.tracker.take(self.rules.known(), event, self.begun.elapsed());
            self.write(updates)?;
        }
        Ok(())
    }

    fn write(&mut self, updates: Vec<TraceUpdate>) -> Result<()> {
        let mut out = io::stdout().lock();
        for update in updates {
            let is_end = matches!(update, TraceUpdate::Ended(_));
            if self.args.count.is_none_or(|count| update.number() <= count) {
                match self.args.output {
                    TraceForm::Text => text::write(&mut out, &self.paint, &update)?,
                    TraceForm::Json => json::write(&mut out, &update)?,
                }
                self.ended += u64::from(is_end);
            }
        }
        Ok(out.flush()?)
    }

    fn write_loss(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.args.output {
            TraceForm::Text => text::write_loss(&mut out, &self.paint)?,
            TraceForm::Json => json::write_loss(&mut out)?,
        }
        Ok(())
    }
}
