//! `rulegen trace`: real packets on their way through the rules.

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
use ruleset_cache::Detected;

use crate::WrongUsage;
use crate::args::{To, TraceArgs, TraceForm};
use crate::paint::Paint;
use crate::problems::say;

pub(crate) fn run(args: &TraceArgs) -> Result<ExitCode> {
    // Before anything is armed, for what comes later must not end the program where it is.
    let signals = StopSignals::hold().context("signals cannot be held back")?;
    let mut sight = Detected::open(&args.nftables_table)?;
    let filter = filter(args, sight.known())?;
    let listener = TraceListener::open()?;
    let armed = TraceSession::arm(&filter)?;
    sight.after_own_commit()?;
    say_what(args, &armed);
    let mut session = Session {
        args,
        sight,
        listener,
        signals,
        follower: PacketTracker::new(armed.table().clone()),
        paint: Paint::for_stdout(),
        begun: Instant::now(),
        ended: 0,
    };
    match session.follow() {
        // A reader that went away, as `head` does, wants no more.
        Err(error) if is_broken_pipe(&error) => {}
        done => done?,
    }
    drop(armed);
    Ok(ExitCode::SUCCESS)
}

/// What is to be traced, by names resolved in our own tables.
fn filter(args: &TraceArgs, known: &TraceContext) -> Result<TraceFilter> {
    let mut to = Vec::new();
    for one in &args.to {
        match one {
            To::Network(network) => to.push(TraceTarget::Network(network.trunc())),
            To::Socket(socket, protocol) => {
                let protocols = protocol.map_or(Protocol::ALL.to_vec(), |protocol| vec![protocol]);
                to.extend(protocols.into_iter().map(|protocol| {
                    let frontend = Frontend::at_ip(socket.ip(), protocol, socket.port());
                    TraceTarget::Frontend(frontend)
                }));
            }
            To::Service(service) => {
                let frontends = frontends(service, known);
                let frontends = frontends.context("`rulegen list` shows what there is")?;
                to.extend(frontends.into_iter().map(TraceTarget::Frontend));
            }
        }
    }
    let filter = TraceFilter { from: args.from, to, every_packet: args.every_packet };
    if [IpFamily::Ipv4, IpFamily::Ipv6].iter().all(|family| filter.rules(*family).is_empty()) {
        return Err(WrongUsage("--from and --to are of different families".to_owned()).into());
    }
    Ok(filter)
}

fn say_what(args: &TraceArgs, armed: &TraceSession) {
    let which = if args.every_packet { "all packets" } else { "packets that begin connections" };
    say(&format!("tracing {which} by table {}; Ctrl-C ends it", armed.table()));
    if !armed.is_owned() {
        say(
            "warning: this kernel does not take the table away itself (it takes Linux 5.12): after \
             kill -9 `nft delete table` has to",
        );
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<io::Error>();
    source.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Session<'a> {
    args: &'a TraceArgs,
    sight: Detected,
    listener: TraceListener,
    signals: StopSignals,
    follower: PacketTracker,
    paint: Paint,
    begun: Instant,
    /// So many packets ended.
    ended: u64,
}

/// Without anything to wait for.
const LONG: Duration = Duration::from_secs(3600);

impl Session<'_> {
    fn follow(&mut self) -> Result<()> {
        while !self.is_over() {
            match self.listener.next(self.patience(), &self.signals, io::stdout().as_fd())? {
                Received::Events(events) => self.take(events)?,
                Received::Lost => {
                    self.follower.lose(self.begun.elapsed());
                    self.tell_loss()?;
                }
                Received::Timeout => {}
                Received::Stop => break,
            }
            let rested = self.follower.rest(self.begun.elapsed());
            self.tell(rested)?;
        }
        let rest = self.follower.finish();
        self.tell(rest)
    }

    fn is_over(&self) -> bool {
        let is_time = self.args.time.is_some_and(|time| self.begun.elapsed() >= time);
        is_time || self.args.count.is_some_and(|count| self.ended >= count)
    }

    /// Until the next packet is to end, or all.
    fn patience(&self) -> Duration {
        let next = [self.follower.deadline(), self.args.time].into_iter().flatten().min();
        next.map_or(LONG, |next| next.saturating_sub(self.begun.elapsed()))
    }

    fn take(&mut self, events: Vec<TraceEvent>) -> Result<()> {
        for event in events {
            self.sight.learn(&event)?;
            let told = self.follower.take(self.sight.known(), event, self.begun.elapsed());
            self.tell(told)?;
        }
        Ok(())
    }

    fn tell(&mut self, told: Vec<TraceUpdate>) -> Result<()> {
        let mut out = io::stdout().lock();
        for told in told {
            let is_end = matches!(told, TraceUpdate::Ended(_));
            if self.args.count.is_none_or(|count| told.number() <= count) {
                match self.args.output {
                    TraceForm::Text => text::write(&mut out, &self.paint, &told)?,
                    TraceForm::Json => json::write(&mut out, &told)?,
                }
                self.ended += u64::from(is_end);
            }
        }
        Ok(out.flush()?)
    }

    fn tell_loss(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.args.output {
            TraceForm::Text => text::write_loss(&mut out, &self.paint)?,
            TraceForm::Json => json::write_loss(&mut out)?,
        }
        Ok(())
    }
}
