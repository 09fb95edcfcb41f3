//! `/services/{namespace}/{name}`: who gets from where to where, and why not.

use askama::Template;
use rulegen_model::{Kind, ObjectKey};
use serde::Serialize;

use super::Status;
use super::counters::Connections;
use super::frame::Frame;
use super::port::{Port, alone};
use super::services::state;
use super::state::Tone;

#[derive(Template, Serialize)]
#[template(path = "status/service.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePage {
    #[serde(skip)]
    frame: Frame,
    namespace: String,
    name: String,
    tone: Tone,
    /// How it is, in a sentence.
    state: &'static str,
    ports: Vec<Port>,
    /// What was left out of the Service, or why it has no rules.
    problems: Vec<String>,
    /// Why nothing is said of connections, where they are counted.
    counters_error: Option<String>,
    /// Whether connections are counted at all.
    counters: bool,
}

impl ServicePage {
    /// None if there is no such Service.
    pub(super) fn of(status: &Status, key: &ObjectKey) -> Option<Self> {
        let frame = status.frame("/services", format!("{}/{}", key.namespace, key.name));
        let (connections, counters_error) = match connections(status, key) {
            Some(Ok(connections)) => (Some(connections), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let store = status.known.store.read();
        let ports = store.service(key)?;
        let (tone, state) = state(ports);
        let shown = ports.iter().map(|port| Port::of(port, &store, connections.as_ref()));
        let problems = status.known.complaints.read().of(Kind::Service, key);
        Some(Self {
            frame,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            tone,
            state: state.sentence(),
            ports: shown.collect(),
            problems: problems.iter().map(ToString::to_string).collect(),
            counters_error,
            counters: status.counters.is_some(),
        })
    }
}

/// The store is free again before the kernel is asked.
fn connections(status: &Status, key: &ObjectKey) -> Option<Result<Connections, String>> {
    let counters = status.counters.as_ref()?;
    let parts = {
        let store = status.known.store.read();
        counters.parts(&alone(&store, store.service(key)?), store.config())
    };
    Some(counters.read(&parts))
}

/// There is none.
#[derive(Template, Serialize)]
#[template(path = "status/no-service.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct NoService {
    #[serde(skip)]
    frame: Frame,
    error: String,
}

impl NoService {
    pub(super) fn of(status: &Status, key: &ObjectKey) -> Self {
        let name: String =
            format!("{}/{}", key.namespace, key.name).chars().take(LONGEST).collect();
        let error = format!("This agent knows no Service {name}.");
        Self { frame: status.frame("/services", "No such Service"), error }
    }
}

/// More of a name that is none is of no use.
const LONGEST: usize = 200;
