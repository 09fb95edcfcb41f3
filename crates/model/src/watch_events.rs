//! Watch events, as `kubectl get --watch --output-watch-events -o json` prints them.

use std::collections::BTreeMap;

use crate::object::Metadata;
use crate::objects::Objects;

/// A watch event for one object.
#[derive(Debug)]
pub(crate) struct WatchEvent {
    /// Contains only this object; empty if its kind is not used.
    pub(crate) objects: Objects,
    /// Whether it was deleted.
    pub(crate) is_gone: bool,
}

type EventKey = (&'static str, String, String);

/// The objects that exist after all events. The last event of each object counts.
pub(crate) fn last_states(events: Vec<WatchEvent>) -> Vec<Objects> {
    let mut states: BTreeMap<EventKey, Objects> = BTreeMap::new();
    let mut others = Vec::new();
    for event in events {
        match (key(&event.objects), event.is_gone) {
            (Some(key), true) => drop(states.remove(&key)),
            (Some(key), false) => drop(states.insert(key, event.objects)),
            (None, _) => others.push(event.objects),
        }
    }
    others.extend(states.into_values());
    others
}

fn key(objects: &Objects) -> Option<EventKey> {
    let of =
        |kind, metadata: &Metadata| (kind, metadata.namespace().to_owned(), metadata.name.clone());
    let service = objects.services.first().map(|s| of("Service", &s.object.metadata));
    let slice = || objects.slices.first().map(|s| of("EndpointSlice", &s.object.metadata));
    let node = || objects.nodes.first().map(|n| of("Node", &n.object.metadata));
    let cidr = || objects.service_cidrs.first().map(|c| of("ServiceCIDR", &c.object.metadata));
    let endpoints = || {
        let metadata = &objects.endpoints.first()?.object.metadata;
        Some(("Endpoints", metadata.namespace().to_owned(), metadata.name.clone()))
    };
    let pod = || {
        let key = objects.details.as_ref()?.pods.keys().next()?;
        Some(("Pod", key.namespace.to_string(), key.name.to_string()))
    };
    service.or_else(slice).or_else(node).or_else(cidr).or_else(endpoints).or_else(pod)
}
