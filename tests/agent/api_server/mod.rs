//! An API server for the tests: lists and watches as kube-apiserver's, and does wrong on
//! demand, which that does not.
//!
//! Written on sockets and threads alone, so that it shares no mistake with the client's HTTP,
//! and so that it runs in any network namespace, whatever thread it is used from.

mod answer;
mod connection;
mod events;
mod http;
mod kind;
mod list;
mod selector;
mod state;
mod status;
mod store;
mod tests;
mod watch;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use http::Request;
pub(crate) use kind::Kind;
pub(crate) use state::{Canned, Failure, Slowness, Verb};

use state::{Fault, Shared, State};

/// A handle to the server, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Server>);

struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
}

impl ApiServer {
    /// A server on a port of the loopback interface that nobody else has.
    pub(crate) fn start() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A server on a listener, which may be of another network namespace.
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

    /// A kubeconfig with which clients find this server.
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

    /// Creates or replaces an object, with its `kind` and `metadata.name`. As the real server,
    /// it gives what is absent (`metadata.namespace`, `uid`, `creationTimestamp`) and always
    /// the version, and does nothing at all if nothing changes.
    pub(crate) fn apply(&self, object: Value) {
        self.apply_many([object]);
    }

    /// Creates or replaces objects; no request is answered in between.
    pub(crate) fn apply_many(&self, objects: impl IntoIterator<Item = Value>) {
        self.change(|state| {
            state.write(|store| objects.into_iter().for_each(|object| store.apply(object)));
        });
    }

    /// Deletes an object (the namespace of a Node is empty) and tells whether there was one.
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

    /// Sends a bookmark to each watch that takes them.
    pub(crate) fn bookmark(&self) {
        self.change(|state| {
            let version = state.store.version;
            state.watches.values_mut().for_each(|watch| watch.tell_bookmark(version));
        });
    }

    /// Sends a line to each watch of a kind, whatever it is.
    pub(crate) fn send_raw_event(&self, kind: Kind, line: &str) {
        self.watches_of(kind, |watch, _| watch.tell_line(line));
    }

    /// Creates or replaces an object, but sends the watches of its kind a line instead of the
    /// event.
    pub(crate) fn apply_hidden(&self, object: Value, line: &str) {
        let kind = Kind::of(&object).unwrap();
        self.change(|state| {
            state.store.apply(object);
            let watches = state.watches.values_mut().filter(|watch| watch.kind() == kind);
            watches.for_each(|watch| watch.tell_line(line));
        });
    }

    /// Ends each watch of a kind with 410, as when its version is compacted below it.
    pub(crate) fn expire_watches(&self, kind: Kind) {
        self.watches_of(kind, watch::Watch::expire);
    }

    /// Makes all versions known to anybody too old: the next watch from one gets 410, as does
    /// the next page of a list. Watches that are open go on.
    pub(crate) fn expire_history(&self) {
        self.change(|state| state.store.expire());
    }

    /// As a server that restarts: connections end, objects and versions stay, but of history
    /// it knows nothing, so that only a watch from the newest version can go on.
    pub(crate) fn restart_empty_history(&self) {
        self.change(|state| {
            state.store.forget();
            state.disconnect_all();
        });
    }

    /// Ends all connections, in the middle of whatever they are at.
    pub(crate) fn disconnect_all(&self) {
        self.change(State::disconnect_all);
    }

    /// Ends all connections, and all new ones as soon as they are there, or no longer does.
    pub(crate) fn refuse_connections(&self, refuses: bool) {
        self.change(|state| {
            state.refuses = refuses;
            if refuses {
                state.disconnect_all();
            }
        });
    }

    /// Falls silent: connections stay and may be made, but nothing comes, as from a server that
    /// hangs or behind a network that drops packets.
    pub(crate) fn pause(&self) {
        self.change(|state| state.is_paused = true);
    }

    /// Goes on where it fell silent.
    pub(crate) fn resume(&self) {
        self.change(|state| state.is_paused = false);
    }

    /// Makes all connections slow, or as fast as they can be.
    pub(crate) fn set_slowness(&self, slowness: Option<Slowness>) {
        self.change(|state| state.slowness = slowness);
    }

    /// Lets the next so many requests for a kind fail: those for one purpose, or for any.
    pub(crate) fn fail_next(&self, n: usize, kind: Kind, verb: Option<Verb>, failure: Failure) {
        let faults = (0..n).map(|_| Fault { kind, verb, failure });
        self.change(|state| state.faults.extend(faults));
    }

    /// How many requests of a kind are still to fail.
    pub(crate) fn failures_left(&self, kind: Kind) -> usize {
        self.0.shared.read().faults.iter().filter(|fault| fault.kind == kind).count()
    }

    /// Lets no further request of a kind fail.
    pub(crate) fn fail_no_more(&self, kind: Kind) {
        self.change(|state| state.faults.retain(|fault| fault.kind != kind));
    }

    /// Answers all lists of a kind with this, or as it should.
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

    /// Has no ServiceCIDRs, as servers before 1.33 (KEP-1880).
    pub(crate) fn lack_service_cidrs(&self) {
        self.change(|state| state.lacks_service_cidrs = true);
    }

    /// Knows no `sendInitialEvents`, as servers before 1.32 (KEP-3157).
    pub(crate) fn lack_watch_lists(&self) {
        self.change(|state| state.lacks_watch_lists = true);
    }

    /// Ends each new watch as soon as it has told what there is, as a proxy does that takes no
    /// streams, or goes on as it should.
    pub(crate) fn end_watches(&self, ends: bool) {
        self.change(|state| state.ends_watches = ends);
    }

    /// Says 410 to a watch by the code of HTTP, not by an event: rare, but allowed.
    pub(crate) fn say_gone_by_code(&self) {
        self.change(|state| state.says_gone_by_code = true);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.shared.read().requests.clone()
    }

    /// The Events that were posted, as they are after patches.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.0.shared.read().events.clone()
    }

    /// How many watches of a kind are open.
    pub(crate) fn watchers(&self, kind: Kind) -> usize {
        watchers(&self.0.shared.read(), kind)
    }

    /// Waits for a watch of a kind.
    pub(crate) fn wait_for_watch(&self, kind: Kind, patience: Duration) {
        let is_watched = |state: &mut State| (watchers(state, kind) > 0).then_some(());
        let watched = self.0.shared.wait(Instant::now() + patience, is_watched);
        assert!(watched.is_some(), "nobody watches any {} within {patience:?}", kind.name());
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
        // Wakes the thread that accepts. Only a stream has a shutdown here, but listeners are
        // the same to the kernel.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        self.shared.wait(deadline, |state| (state.threads == 0).then_some(()));
    }
}
