//! What all connections and the tests share.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Request;
use super::kind::Kind;
use super::store::Store;
use super::watch::Watch;

#[derive(Default)]
pub(super) struct State {
    pub(super) store: Store,
    /// By the number of the connection.
    pub(super) watches: BTreeMap<u64, Watch>,
    connections: BTreeMap<u64, TcpStream>,
    accepted: u64,
    pub(super) requests: Vec<Request>,
    pub(super) events: Vec<Value>,
    pub(super) faults: Vec<Fault>,
    /// What lists are answered with, whatever is asked for.
    pub(super) canned: BTreeMap<Kind, Canned>,
    /// What Events are answered with.
    pub(super) canned_events: Option<Canned>,
    pub(super) slowness: Option<Slowness>,
    pub(super) is_paused: bool,
    pub(super) refuses: bool,
    pub(super) is_stopped: bool,
    pub(super) lacks_service_cidrs: bool,
    pub(super) lacks_watch_lists: bool,
    pub(super) says_gone_by_code: bool,
    pub(super) ends_watches: bool,
    pub(super) threads: usize,
}

/// How a slow connection writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// At a time.
    pub(crate) bytes: usize,
    /// After each write.
    pub(crate) delay: Duration,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This code of HTTP, with a Status: 500, 503, 429 (with Retry-After), 401 or 403.
    Code(u16),
    /// Only the first half of the body comes, then the connection ends.
    Truncated,
}

/// An answer that says 200, and what a test likes.
#[derive(Debug, Clone)]
pub(crate) enum Canned {
    /// A body, as it is.
    Body(Vec<u8>),
    /// A beginning, and then blanks until the client hangs up.
    Endless(&'static str),
    /// Each page leads to another, without end.
    Pages(&'static str),
}

pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) verb: Option<Verb>,
    pub(super) failure: Failure,
}

impl State {
    /// A new connection's number, unless there shall be none.
    pub(super) fn connect(&mut self, stream: &TcpStream) -> Option<u64> {
        if self.refuses || self.is_stopped {
            return None;
        }
        self.accepted += 1;
        self.connections.insert(self.accepted, stream.try_clone().ok()?);
        Some(self.accepted)
    }

    pub(super) fn is_connected(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Ends a connection at once, wherever it is.
    pub(super) fn disconnect(&mut self, connection: u64) {
        self.watches.remove(&connection);
        if let Some(stream) = self.connections.remove(&connection) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn disconnect_all(&mut self) {
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.disconnect(connection));
    }

    /// Changes objects; whoever watches them hears of it.
    pub(super) fn write<T>(&mut self, code: impl FnOnce(&mut Store) -> T) -> T {
        let before = self.store.version;
        let done = code(&mut self.store);
        for change in self.store.since(before).unwrap_or_default() {
            self.watches.values_mut().for_each(|watch| watch.tell(change));
        }
        done
    }

    /// The next failure that was ordered for such a request.
    pub(super) fn failure(&mut self, kind: Kind, verb: Verb) -> Option<Failure> {
        let fits = |fault: &Fault| fault.kind == kind && fault.verb.is_none_or(|of| of == verb);
        let at = self.faults.iter().position(fits)?;
        Some(self.faults.remove(at).failure)
    }
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// The state, to be read: nobody wakes up for it. A test that failed with it in hand left
    /// it whole, and its neighbours go on.
    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for that.
    pub(super) fn change<T>(&self, code: impl FnOnce(&mut State) -> T) -> T {
        let done = code(&mut self.read());
        self.changed.notify_all();
        done
    }

    /// Waits until the state has something, or for the deadline.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.read();
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            let one = found(&mut state);
            if one.is_some() || patience.is_zero() {
                return one;
            }
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
