//! A fake API server for tests: lists and watches like kube-apiserver, and fails on
//! demand.
//!
//! Uses only sockets and threads, so that it shares no bug with the client's HTTP library,
//! and runs in any network namespace, regardless of the thread that uses it.

mod answer;
mod connection;
mod events;
mod http;
mod kind;
mod list;
pub(crate) mod protobuf;
mod selector;
mod state;
mod status;
mod store;
mod tests;
mod watch;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use http::Request;
pub(crate) use kind::Kind;
pub(crate) use state::{Canned, Failure, Slowness, Verb};

use state::{Fault, Shared, State};

/// A handle to the server. The server ends with the last handle.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Server>);

struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
}

impl ApiServer {
    /// A server on a free port of the loopback interface.
    pub(crate) fn start() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A server on a listener, which may be in another network namespace.
    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.change(|state| state.store.expire());
        let (accepting, its) = (shared.clone(), listener.try_clone().unwrap());
        connection::spawn(&shared, move || connection::accept(&accepting, &its));
        Self(Arc::new(Server { shared, listener, address }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// A kubeconfig for this server.
    pub(crate) fn kubeconfig(&self) -> String {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{
                "name": "test", "cluster": {"server": format!("http://{}", self.address())},
            }],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        kubeconfig.to_string()
    }

    /// Creates or replaces an object, which must have `kind` and `metadata.name`. Like the real server,
    /// it adds missing metadata (`namespace`, `uid`, `creationTimestamp`), sets the resource
    /// version, and does nothing if nothing changes.
    pub(crate) fn apply(&self, object: Value) {
        self.apply_many([object]);
    }

    /// Creates or replaces objects atomically.
    pub(crate) fn apply_many(&self, objects: impl IntoIterator<Item = Value>) {
        self.change(|state| {
            state.write(|store| objects.into_iter().for_each(|object| store.apply(object)));
        });
    }

    /// Deletes an object (the namespace of a Node is empty). Returns whether it existed.
    pub(crate) fn delete(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.change(|state| state.write(|store| store.delete(kind, namespace, name)))
    }

    /// All objects, with their kinds.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let state = self.0.shared.read();
        state.store.objects.iter().map(|((kind, ..), object)| kind.named(object)).collect()
    }

    /// The newest resource version.
    pub(crate) fn version(&self) -> u64 {
        self.0.shared.read().store.version
    }

    /// Sends a bookmark to each watch that requested bookmarks.
    pub(crate) fn bookmark(&self) {
        self.change(|state| {
            let version = state.store.version;
            state.watches.values_mut().for_each(|watch| watch.tell_bookmark(version));
        });
    }

    /// Sends any line to each watch of a kind.
    pub(crate) fn send_raw_event(&self, kind: Kind, line: &str) {
        self.watches_of(kind, |watch, _| watch.tell_line(line));
    }

    /// Creates or replaces an object, but sends this line to the watches of its kind instead of the
    /// event.
    pub(crate) fn apply_hidden(&self, object: Value, line: &str) {
        let kind = Kind::of(&object).unwrap();
        self.change(|state| {
            state.store.apply(object);
            let watches = state.watches.values_mut().filter(|watch| watch.kind() == kind);
            watches.for_each(|watch| watch.tell_line(line));
        });
    }

    /// Ends each watch of a kind with 410, as if its version was compacted.
    pub(crate) fn expire_watches(&self, kind: Kind) {
        self.watches_of(kind, watch::Watch::expire);
    }

    /// Makes all versions that clients know too old: the next watch from such a version gets 410, and
    /// so does the next page of a list. Open watches continue.
    pub(crate) fn expire_history(&self) {
        self.change(|state| state.store.expire());
    }

    /// Like a restart: connections end, objects and versions are kept, but the history
    /// is lost, so that only a watch from the newest version can continue.
    pub(crate) fn restart_empty_history(&self) {
        self.change(|state| {
            state.store.forget();
            state.disconnect_all();
        });
    }

    /// Closes all connections immediately.
    pub(crate) fn disconnect_all(&self) {
        self.change(State::disconnect_all);
    }

    /// Starts or stops closing all connections, including new ones.
    pub(crate) fn refuse_connections(&self, refuses: bool) {
        self.change(|state| {
            state.refuses = refuses;
            if refuses {
                state.disconnect_all();
            }
        });
    }

    /// Stops responding: connections stay open and new ones are accepted, but nothing is sent, like
    /// a server that hangs or is behind a network that drops packets.
    pub(crate) fn pause(&self) {
        self.change(|state| state.is_paused = true);
    }

    /// Continues after a pause.
    pub(crate) fn resume(&self) {
        self.change(|state| state.is_paused = false);
    }

    /// Makes all connections slow, or (with `None`) fast again.
    pub(crate) fn set_slowness(&self, slowness: Option<Slowness>) {
        self.change(|state| state.slowness = slowness);
    }

    /// Lets the next `n` requests for a kind fail: with this verb, or with any.
    pub(crate) fn fail_next(&self, n: usize, kind: Kind, verb: Option<Verb>, failure: Failure) {
        let faults = (0..n).map(|_| Fault { kind, verb, failure });
        self.change(|state| state.faults.extend(faults));
    }

    /// Number of requests for a kind that will still fail.
    pub(crate) fn failures_left(&self, kind: Kind) -> usize {
        self.0.shared.read().faults.iter().filter(|fault| fault.kind == kind).count()
    }

    /// Lets no more requests for a kind fail.
    pub(crate) fn fail_no_more(&self, kind: Kind) {
        self.change(|state| state.faults.retain(|fault| fault.kind != kind));
    }

    /// Answers all lists of a kind with this, or (with `None`) normally.
    pub(crate) fn answer_lists(&self, kind: Kind, canned: Option<Canned>) {
        self.change(|state| match canned {
            Some(canned) => state.canned.insert(kind, canned),
            None => state.canned.remove(&kind),
        });
    }

    /// Answers all Events with this.
    pub(crate) fn answer_events(&self, canned: Canned) {
        self.change(|state| state.canned_events = Some(canned));
    }

    /// Removes the ServiceCIDR API, like servers before 1.33 (KEP-1880).
    pub(crate) fn lack_service_cidrs(&self) {
        self.change(|state| state.lacks_service_cidrs = true);
    }

    /// Rejects `sendInitialEvents`, like servers before 1.32 (KEP-3157).
    pub(crate) fn lack_watch_lists(&self) {
        self.change(|state| state.lacks_watch_lists = true);
    }

    /// Refuses `sendInitialEvents` after the start of the response, like servers with an etcd before
    /// 3.4.25 or 3.5.8.
    pub(crate) fn lack_watch_progress(&self) {
        self.change(|state| state.lacks_watch_progress = true);
    }

    /// Ignores `sendInitialEvents`: the objects and a bookmark are sent, but not that they are
    /// complete, and the watch ends.
    pub(crate) fn ignore_watch_lists(&self) {
        self.change(|state| state.ignores_watch_lists = true);
    }

    /// Ignores that a request accepts protobuf, like a proxy that knows only JSON.
    pub(crate) fn answer_json_only(&self) {
        self.change(|state| state.has_only_json = true);
    }

    /// Starts or stops ending each new watch after its initial events, like a proxy without
    /// support for streams.
    pub(crate) fn end_watches(&self, ends: bool) {
        self.change(|state| state.ends_watches = ends);
    }

    /// Encodes each streaming list once and keeps it, for benchmarks: otherwise most of the CPU time
    /// of an agent's start would be that of this server.
    #[allow(dead_code, reason = "for benchmarks")]
    pub(crate) fn keep_lists(&self) {
        self.change(|state| state.keeps_lists = true);
    }

    /// Sends 410 as the HTTP status of a watch, not as an event: rare, but allowed.
    pub(crate) fn say_gone_by_code(&self) {
        self.change(|state| state.says_gone_by_code = true);
    }

    /// Bytes sent so far, except canned answers.
    pub(crate) fn sent(&self) -> usize {
        self.0.shared.sent.load(Ordering::Relaxed)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.shared.read().requests.clone()
    }

    /// The posted Events, with their patches applied.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.0.shared.read().events.clone()
    }

    /// Number of open watches of a kind.
    pub(crate) fn watchers(&self, kind: Kind) -> usize {
        watchers(&self.0.shared.read(), kind)
    }

    /// Waits for a watch of a kind.
    pub(crate) fn wait_for_watch(&self, kind: Kind, patience: Duration) {
        let is_watched = |state: &mut State| (watchers(state, kind) > 0).then_some(());
        let watched = self.0.shared.wait(Instant::now() + patience, is_watched);
        assert!(watched.is_some(), "no watch of {} within {patience:?}", kind.name());
    }

    fn change<T>(&self, code: impl FnOnce(&mut State) -> T) -> T {
        self.0.shared.change(code)
    }

    fn watches_of(&self, kind: Kind, code: impl Fn(&mut watch::Watch, u64)) {
        self.change(|state| {
            let version = state.store.version;
            let watches = state.watches.values_mut().filter(|watch| watch.kind() == kind);
            watches.for_each(|watch| code(watch, version));
        });
    }
}

fn watchers(state: &State, kind: Kind) -> usize {
    state.watches.values().filter(|watch| watch.kind() == kind).count()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_stopped = true;
            state.disconnect_all();
        });
        // Wakes the accepting thread. Only streams have `shutdown` in std, but listeners are
        // the same for the kernel.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        self.shared.wait(deadline, |state| (state.threads == 0).then_some(()));
    }
}
