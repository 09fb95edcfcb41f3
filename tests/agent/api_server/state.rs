//! State that all connections and the tests share.

use std::collections::{BTreeMap, HashMap};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Request;
use super::kind::Kind;
use super::store::Store;
use super::watch::{ListKey, Watch};

#[derive(Default)]
pub(super) struct State {
    pub(super) store: Store,
    /// By connection number.
    pub(super) watches: BTreeMap<u64, Watch>,
    connections: BTreeMap<u64, TcpStream>,
    accepted: u64,
    pub(super) requests: Vec<Request>,
    pub(super) events: Vec<Value>,
    pub(super) faults: Vec<Fault>,
    /// Canned responses to lists, by kind.
    pub(super) canned: BTreeMap<Kind, Canned>,
    /// Canned response to Events.
    pub(super) canned_events: Option<Canned>,
    pub(super) slowness: Option<Slowness>,
    pub(super) is_paused: bool,
    pub(super) refuses: bool,
    pub(super) is_stopped: bool,
    pub(super) lacks_service_cidrs: bool,
    pub(super) lacks_watch_lists: bool,
    pub(super) lacks_watch_progress: bool,
    pub(super) ignores_watch_lists: bool,
    pub(super) has_only_json: bool,
    pub(super) says_gone_by_code: bool,
    pub(super) ends_watches: bool,
    pub(super) keeps_lists: bool,
    /// The events of streaming lists, encoded.
    pub(super) kept_lists: HashMap<ListKey, Arc<Vec<u8>>>,
    pub(super) threads: usize,
}

/// How a slow connection writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// Bytes per write.
    pub(crate) bytes: usize,
    /// Pause after each write.
    pub(crate) delay: Duration,
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
}

/// A failure of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This HTTP status with a Status object: 500, 503, 429 (with Retry-After), 401 or 403.
    Code(u16),
    /// Only the first half of the body is sent, then the connection is closed.
    Truncated,
}

/// A response with status 200 and any content.
#[derive(Debug, Clone)]
pub(crate) enum Canned {
    /// A body in JSON.
    Body(Vec<u8>),
    /// A body in protobuf.
    Protobuf(Vec<u8>),
    /// This start, then spaces until the client hangs up.
    Endless(&'static str),
    /// Endless pages: each has a continue token.
    Pages(&'static str),
}

pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) verb: Option<Verb>,
    pub(super) failure: Failure,
}

impl State {
    /// The number of a new connection; `None` if connections are refused.
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

    /// Closes a connection immediately.
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

    /// Changes objects and sends events to watches.
    pub(super) fn write<T>(&mut self, code: impl FnOnce(&mut Store) -> T) -> T {
        let before = self.store.version;
        let done = code(&mut self.store);
        for change in self.store.since(before).unwrap_or_default() {
            self.watches.values_mut().for_each(|watch| watch.tell(change));
        }
        done
    }

    /// The next planned failure for such a request.
    pub(super) fn failure(&mut self, kind: Kind, verb: Verb) -> Option<Failure> {
        let fits = |fault: &Fault| fault.kind == kind && fault.verb.is_none_or(|of| of == verb);
        let at = self.faults.iter().position(fits)?;
        Some(self.faults.remove(at).failure)
    }
}

#[derive(Default)]
pub(super) struct Shared {
    /// Bytes sent so far.
    pub(super) sent: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Locks the state for reading: wakes no thread. A test that panicked with the lock left
    /// the state consistent, so other tests continue.
    pub(super) fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all waiting threads.
    pub(super) fn change<T>(&self, code: impl FnOnce(&mut State) -> T) -> T {
        let done = code(&mut self.read());
        self.changed.notify_all();
        done
    }

    /// Waits until the state has a value, or for the deadline.
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
