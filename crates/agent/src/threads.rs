//! Threads that wait for kernel events and send them to the reconciler.

use std::thread;
use std::time::Duration;

use rulegen_compiler::iptables::concerns;
use rulegen_kernel::addresses::AddressWatcher;
use rulegen_kernel::iptables::{self, Variant};
use rulegen_kernel::nftables::{self, Event, Watcher};
use rulegen_net::IpFamily;
use rulegen_os::printable::program_name;
use rulegen_ruleset::nftables::Name;

use crate::error::{Error, Result};
use crate::input::ReconcilerInput;
use crate::queue::Sink;

/// Starts a thread that ends with the process.
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(|source| Error::Thread { name: name.to_owned(), source })?;
    Ok(())
}

/// Sends each commit, with its changes to these tables unless it is our own. No commit after the return is missed.
///
/// # Errors
/// The event subscription failed.
pub(crate) fn watch_rules(tables: &[(IpFamily, Name)], own_port: u32, sink: Sink) -> Result<()> {
    let tables = tables.to_vec();
    let open = move || Ok(Watcher::open(&tables, Watcher::ROOM)?.ignoring(own_port));
    // The reconciler only counts its own commits.
    let is_own = move |event: &Event| matches!(event, Event::Commit(commit) if commit.writer.port == own_port);
    tell_events(open, |watcher| watcher.next(None), is_own, sink)
}

/// Sends each commit that may affect the iptables tables. Also sends an empty event list each
/// second as a timer.
///
/// # Errors
/// The event subscription failed.
pub(crate) fn watch_iptables(variant: Variant, sink: Sink) -> Result<()> {
    let open = move || iptables::Watcher::open(variant, concerns);
    tell_events(open, |watcher| watcher.next(Duration::from_secs(1)), |_| false, sink)
}

fn tell_events<W: Send + 'static>(
    open: impl Fn() -> Result<W, nftables::DataplaneError> + Send + 'static,
    next: impl Fn(&mut W) -> Result<Vec<Event>, nftables::DataplaneError> + Send + 'static,
    is_for_later: impl Fn(&Event) -> bool + Send + 'static,
    sink: Sink,
) -> Result<()> {
    let mut watcher = open()?;
    start("rules", move || {
        loop {
            let events = match next(&mut watcher) {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(%error, "lost ruleset event subscription, will retry");
                    thread::sleep(Duration::from_secs(1));
                    if let Ok(reopened) = open() {
                        watcher = reopened;
                    }
                    vec![Event::Lost]
                }
            };
            let events: Vec<Event> = events.into_iter().map(with_printable_name).collect();
            let weight = events.len();
            let is_later = !events.is_empty() && events.iter().all(&is_for_later);
            let input = ReconcilerInput::Rules(events);
            let sent = match is_later {
                true => sink.try_send_later(input, weight),
                false => sink.try_send(input, weight),
            };
            let sent = match sent {
                // The kernel does not wait. Events that do not fit are replaced by one `Lost`
                // event.
                Ok(false) => sink.send_blocking(ReconcilerInput::Rules(vec![Event::Lost]), 1),
                sent => sent.map(|_| ()),
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

/// A program chooses its own name, which is shown in many places.
fn with_printable_name(mut event: Event) -> Event {
    if let Event::Commit(commit) = &mut event {
        commit.writer.program = program_name(&commit.writer.program).into_owned();
    }
    event
}

/// Sends an input when an address of this machine is added or removed.
///
/// # Errors
/// The event subscription failed.
pub(crate) fn watch_addresses(sink: Sink) -> Result<()> {
    let mut watcher = AddressWatcher::open().map_err(Error::Addresses)?;
    start("addresses", move || {
        loop {
            match watcher.next(None) {
                Ok(true) => {
                    if sink.send_blocking(ReconcilerInput::Addresses, 1).is_err() {
                        return;
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "lost address event subscription, will retry");
                    thread::sleep(Duration::from_secs(1));
                    if let Ok(reopened) = AddressWatcher::open() {
                        watcher = reopened;
                    }
                    // Events during the gap were missed.
                    if sink.send_blocking(ReconcilerInput::Addresses, 1).is_err() {
                        return;
                    }
                }
            }
        }
    })
}
