//! Sends objects to the reconciler, and drops outdated versions.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use rulegen_model::{Kind, Object, ObjectKey, StoreEvent};
use rulegen_os::memory;

use super::Sink;
use super::object::{ApiObject, Watched};
use crate::input::{ReconcilerInput, SourceError};
use crate::queue::Ended;

/// Forwards events, except those older than one already forwarded.
pub(super) struct EventForwarder<'a> {
    sink: &'a Sink,
    versions: Versions,
    /// Whether a list was forwarded completely.
    pub(super) has_list: bool,
}

impl<'a> EventForwarder<'a> {
    pub(super) fn new(sink: &'a Sink) -> Self {
        Self { sink, versions: Versions::default(), has_list: false }
    }

    pub(super) async fn list_begins(&mut self, kind: Kind) -> Result<(), Ended> {
        self.versions = Versions::default();
        self.send(ReconcilerInput::Object(StoreEvent::ListBegan(kind)), 1).await
    }

    pub(super) async fn list_ends(&mut self, kind: Kind) -> Result<(), Ended> {
        memory::release_free_pages();
        self.has_list = true;
        self.send(ReconcilerInput::Object(StoreEvent::ListEnded(kind)), 1).await
    }

    /// Reports that there are no objects of a kind.
    pub(super) async fn none(&mut self, kind: Kind) -> Result<(), Ended> {
        self.has_list = false;
        self.send(ReconcilerInput::Object(StoreEvent::ListBegan(kind)), 1).await?;
        self.send(ReconcilerInput::Object(StoreEvent::ListEnded(kind)), 1).await
    }

    /// Reports that ServiceCIDRs cannot be listed, but may exist.
    pub(super) async fn service_cidrs_unknown(&mut self) -> Result<(), Ended> {
        self.send(ReconcilerInput::ServiceCidrsUnknown, 1).await
    }

    /// Reports an object. Most objects of a list existed before, so they do not count for the
    /// network programming latency.
    pub(super) async fn put<W: Watched>(
        &mut self,
        object: ApiObject<W>,
        is_news: bool,
    ) -> Result<(), Ended> {
        if !self.versions.is_newer(&object.key, object.version()) {
            return Ok(());
        }
        let (key, size) = (object.key, object.size);
        match object.object {
            Ok(mut object) => {
                let triggered = trigger_time(&mut object).filter(|_| is_news);
                let put = StoreEvent::Put(Box::new(object));
                // One input, because each wakes the reconciler.
                let input = match triggered {
                    Some(time) => ReconcilerInput::Triggered(put, time),
                    None => ReconcilerInput::Object(put),
                };
                self.send(input, size).await
            }
            Err(problem) => {
                self.send(ReconcilerInput::Unreadable(W::KIND, key, problem), size).await
            }
        }
    }

    pub(super) async fn gone<W: Watched>(&mut self, object: ApiObject<W>) -> Result<(), Ended> {
        let key = object.key.clone();
        if !self.versions.is_newer(&key, object.version()) {
            return Ok(());
        }
        self.versions.is_gone(&key);
        self.send(ReconcilerInput::Object(StoreEvent::Gone(W::KIND, key)), 1).await
    }

    /// Reports that the source of a kind failed or recovered.
    pub(super) async fn source(
        &self,
        kind: Kind,
        trouble: Option<SourceError>,
    ) -> Result<(), Ended> {
        self.send(ReconcilerInput::Source(kind.name(), trouble), 1).await
    }

    async fn send(&self, input: ReconcilerInput, weight: usize) -> Result<(), Ended> {
        self.sink.send(input, weight).await
    }
}

/// The trigger time of a slice's last change. It is removed from the object, which is kept.
pub(in crate::source) fn trigger_time(object: &mut Object) -> Option<SystemTime> {
    let Object::EndpointSlice(slice) = object else { return None };
    let time = slice.metadata.annotations.last_change_trigger_time.take()?;
    time.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The newest version of each object, by a hash of its name. Otherwise a caching proxy that repeats
/// old responses could bring deleted objects back.
#[derive(Default)]
struct Versions {
    hasher: RandomState,
    newest: HashMap<u64, u64>,
    /// Deleted objects, with the version of the deletion.
    gone: VecDeque<(u64, u64)>,
}

/// The maximum number of deleted objects to remember: names of slices are not reused, so a long
/// watch would collect them forever.
const GONE: usize = 10_000;

impl Versions {
    fn is_newer(&mut self, key: &ObjectKey, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        let newest = self.newest.entry(self.hasher.hash_one(key)).or_default();
        let is_newer = version > *newest;
        *newest = version.max(*newest);
        is_newer
    }

    /// Records that an object was deleted with its last version.
    fn is_gone(&mut self, key: &ObjectKey) {
        let hash = self.hasher.hash_one(key);
        let version = self.newest.get(&hash).copied().unwrap_or_default();
        self.gone.push_back((hash, version));
        let oldest = if self.gone.len() > GONE { self.gone.pop_front() } else { None };
        // Unless it was created again.
        if let Some((hash, version)) = oldest
            && self.newest.get(&hash) == Some(&version)
        {
            self.newest.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_forwarder_versions_of_deleted_objects_are_bounded() {
        let key = |number: u64| ObjectKey::new("default", &number.to_string());
        let mut versions = Versions::default();
        let most = GONE as u64;
        assert!(versions.is_newer(&key(0), Some(1)));
        versions.is_gone(&key(0));
        assert!(versions.is_newer(&key(0), Some(2)), "created again");
        for number in 1..most * 2 {
            assert!(versions.is_newer(&key(number), Some(number * 2)));
            assert!(versions.is_newer(&key(number), Some(number * 2 + 1)));
            versions.is_gone(&key(number));
            assert!(!versions.is_newer(&key(number), Some(number * 2)), "deleted");
        }
        assert!(!versions.is_newer(&key(0), Some(2)), "exists");
        assert_eq!(versions.newest.len(), GONE + 1);
    }
}
