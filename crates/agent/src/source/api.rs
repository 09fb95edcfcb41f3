//! Watches the API server, as kube-proxy does: the same selectors, bookmarks, and new attempts
//! with growing, jittered pauses.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, DefaultBackoff, Error, Event, watcher};
use kube::{Api, Client};
use rulegen_kernel::memory;
use rulegen_model::{Kind, Object, ObjectKey, StoreEvent};

use super::Sink;
use super::client::CONNECT_TIMEOUT;
use super::object::{ApiObject, EndpointSlices, Nodes, ServiceCidrs, Services, Watched};
use crate::input::{self, Input, Told};

/// How many objects a page of a list has: enough that a large cluster takes few requests, few
/// enough that a page is small in memory.
const PAGE: u32 = 500;

/// How long until a cluster is asked again for a kind that it did not have.
const ABSENCE: Duration = Duration::from_secs(300);

/// The longest time between two attempts, but for what is added by chance: client-go's.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Services that no other proxy takes care of.
pub(super) const SERVICES_LABELS: &str = "!service.kubernetes.io/service-proxy-name";
/// Those that are not headless.
pub(super) const SERVICES_FIELDS: &str = "spec.clusterIP!=None";
/// Slices of those.
pub(super) const SLICES_LABELS: &str = "!service.kubernetes.io/headless";

/// How often watching began anew, by kind: what metrics tell.
pub(crate) trait Watches: Clone + Send + Sync + 'static {
    /// A watch failed.
    fn restarted(&self, kind: Kind);
}

/// Watches everything until the one who is told is gone.
pub(crate) async fn watch(client: Client, node: String, sink: Sink, tally: impl Watches) {
    let services = Config::default().labels(SERVICES_LABELS).fields(SERVICES_FIELDS);
    let slices = Config::default().labels(SLICES_LABELS);
    let own = Config::default().fields(&format!("metadata.name={node}"));
    tokio::join!(
        watch_kind::<Services>(&client, services, &sink, &tally),
        watch_kind::<EndpointSlices>(&client, slices, &sink, &tally),
        watch_kind::<Nodes>(&client, own, &sink, &tally),
        watch_kind::<ServiceCidrs>(&client, Config::default(), &sink, &tally),
    );
}

async fn watch_kind<W: Watched>(
    client: &Client,
    config: Config,
    sink: &Sink,
    tally: &impl Watches,
) {
    let api: Api<ApiObject<W>> = Api::all(client.clone());
    let mut config = config.page_size(PAGE);
    let mut teller = Teller { sink, versions: Versions::default(), has_list: false };
    let mut trouble = Trouble::default();
    let mut was_absent = false;
    // Its pauses grow until there was none for two minutes: rubbish that comes behind each list
    // shall not cost a list each second.
    let mut lists = DefaultBackoff::default();
    loop {
        let mut stream = Box::pin(watcher(api.clone(), config.clone()));
        let pause = loop {
            match stream.next().await {
                Some(Ok(event)) => {
                    if tells_something(&event) && trouble.over(W::KIND) {
                        let _ = teller.send(Input::Source(W::KIND.name(), None));
                    }
                    if teller.tell(event).is_none() {
                        return;
                    }
                }
                Some(Err(error))
                    if W::KIND == Kind::ServiceCidr && is_absence(&error, teller.has_list) =>
                {
                    if !std::mem::replace(&mut was_absent, true) {
                        tracing::info!(
                            "the cluster has no ServiceCIDRs, or does not show them: cluster IPs that no Service has are not refused"
                        );
                    }
                    if teller.tell_of_none(W::KIND).is_none() {
                        return;
                    }
                    break Some(ABSENCE);
                }
                Some(Err(error)) if W::KIND == Kind::Service && is_unselectable(&error) => {
                    // Headless Services are told then too, and left out here.
                    tracing::info!("the API server cannot leave out headless Services");
                    config.field_selector = None;
                    break Some(Duration::ZERO);
                }
                Some(Err(error)) => {
                    tally.restarted(W::KIND);
                    let pause = trouble.tell(W::KIND, &error);
                    let until = Instant::now() + pause + CONNECT_TIMEOUT + CONNECT_TIMEOUT;
                    let told = input::Trouble { why: with_causes(&error), until: Some(until) };
                    let _ = teller.send(Input::Source(W::KIND.name(), Some(told)));
                    if needs_list(&error) {
                        break lists.next();
                    }
                    tokio::time::sleep(pause).await;
                }
                None => break lists.next(),
            }
        };
        tokio::time::sleep(pause.unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Whether an event shows that the server answers. That a list begins is told before anything is
/// asked, and that objects come is of use only once all are there.
fn tells_something<W>(event: &Event<ApiObject<W>>) -> bool {
    matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_))
}

/// Whether only a new list can tell what there is: a line that is no event may have hidden one
/// (of which any object in JSON is read as an error of the API's), and a version that is too old
/// stays so.
fn needs_list(error: &Error) -> bool {
    match error {
        Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) => true,
        Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// Whether the server is one that knows no field `spec.clusterIP` to select by.
fn is_unselectable(error: &Error) -> bool {
    matches!(error, Error::InitialListFailed(kube::Error::Api(status)) if status.code == 400)
}

/// Whether a cluster does not have a kind, or a role written for older clusters does not show it.
/// What was shown before is there: then 403 comes from an authorizer in trouble.
fn is_absence(error: &Error, was_shown: bool) -> bool {
    let (Error::InitialListFailed(error) | Error::WatchStartFailed(error)) = error else {
        return false;
    };
    match error {
        kube::Error::Api(status) => status.code == 404 || (status.code == 403 && !was_shown),
        _ => false,
    }
}

/// Tells of a failure once, not with every attempt, and how long to wait for the next: longer
/// each time, until something works.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    last: String,
    pauses: DefaultBackoff,
}

impl Trouble {
    fn tell(&mut self, kind: Kind, error: &Error) -> Duration {
        let message = with_causes(error);
        self.since.get_or_insert_with(Instant::now);
        if message == self.last {
            tracing::debug!(kind = kind.name(), error = message, "the watch failed again");
        } else {
            tracing::warn!(
                kind = kind.name(),
                error = message,
                "the watch failed and is tried again; the rules stay as they are"
            );
            self.last = message;
        }
        self.pauses.next().unwrap_or(LONGEST_PAUSE)
    }

    /// Says whether there was any.
    fn over(&mut self, kind: Kind) -> bool {
        let Some(since) = self.since.take() else { return false };
        let seconds = since.elapsed().as_secs();
        tracing::info!(kind = kind.name(), seconds, "the watch works again");
        self.last.clear();
        self.pauses.reset();
        true
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// Hands events on, but for those that are older than what was told before.
struct Teller<'a> {
    sink: &'a Sink,
    versions: Versions,
    /// Whether a list was told of to its end.
    has_list: bool,
}

impl Teller<'_> {
    /// `None` once nobody listens.
    fn tell<W: Watched>(&mut self, event: Event<ApiObject<W>>) -> Option<()> {
        match event {
            Event::Init => {
                self.versions = Versions::default();
                self.send(Input::Object(StoreEvent::ListBegan(W::KIND)))
            }
            Event::InitDone => {
                memory::give_back();
                self.has_list = true;
                self.send(Input::Object(StoreEvent::ListEnded(W::KIND)))
            }
            // What a list tells was mostly there before: it says nothing of how long news take.
            Event::InitApply(object) => self.put(object, false),
            Event::Apply(object) => self.put(object, true),
            Event::Delete(object) => {
                let key = object.key();
                if self.versions.is_newer(&key, object.version()) {
                    self.versions.is_gone(&key);
                    self.send(Input::Object(StoreEvent::Gone(W::KIND, key)))?;
                }
                Some(())
            }
        }
    }

    /// Tells that there are no objects of a kind.
    fn tell_of_none(&mut self, kind: Kind) -> Option<()> {
        self.has_list = false;
        self.send(Input::Object(StoreEvent::ListBegan(kind)))?;
        self.send(Input::Object(StoreEvent::ListEnded(kind)))
    }

    fn put<W: Watched>(&mut self, object: ApiObject<W>, is_news: bool) -> Option<()> {
        let key = object.key();
        if !self.versions.is_newer(&key, object.version()) {
            return Some(());
        }
        match object.object {
            Ok(mut object) => {
                if let Some(time) = trigger_time(&mut object).filter(|_| is_news) {
                    self.send(Input::Triggered(time))?;
                }
                self.send(Input::Object(StoreEvent::Put(Box::new(object))))
            }
            Err(problem) => self.send(Input::Unreadable(W::KIND, key, problem)),
        }
    }

    fn send(&self, input: Input) -> Option<()> {
        self.sink.send(Told::now(input)).ok()
    }
}

/// When what a slice tells began. It is told once and then not kept.
pub(super) fn trigger_time(object: &mut Object) -> Option<SystemTime> {
    let Object::EndpointSlice(slice) = object else { return None };
    let time = slice.metadata.annotations.last_change_trigger_time.take()?;
    time.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The newest version of each object that was told of, by a hash of its name: a proxy between us
/// and the server that repeats what it has would otherwise bring back what is gone.
#[derive(Default)]
struct Versions {
    hasher: RandomState,
    newest: HashMap<u64, u64>,
    /// Objects that are gone, with the version that told so.
    gone: VecDeque<(u64, u64)>,
}

/// So many objects that are gone are remembered: names of slices do not come again, and a watch
/// that needs no new list would gather them for as long as the process lives.
const GONE: usize = 10_000;

impl Versions {
    fn is_newer(&mut self, key: &ObjectKey, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        let newest = self.newest.entry(self.hasher.hash_one(key)).or_default();
        let is_newer = version > *newest;
        *newest = version.max(*newest);
        is_newer
    }

    /// An object is gone with the version that was told last.
    fn is_gone(&mut self, key: &ObjectKey) {
        let hash = self.hasher.hash_one(key);
        let version = self.newest.get(&hash).copied().unwrap_or_default();
        self.gone.push_back((hash, version));
        let oldest = if self.gone.len() > GONE { self.gone.pop_front() } else { None };
        // Unless it has come again.
        if let Some((hash, version)) = oldest
            && self.newest.get(&hash) == Some(&version)
        {
            self.newest.remove(&hash);
        }
    }
}
