//! `/services/{namespace}/{name}`: who gets from where to where, and why not.

use askama::Template;
use rulegen_compiler::plan;
use rulegen_model::{
    IpFamily, Kind, Node, ObjectKey, ProxyConfig, ServicePort, Snapshot, Store, Why,
};
use serde::Serialize;

use super::Status;
use super::counters::Connections;
use super::frame::Frame;
use super::owners::{Owners, rivals};
use super::port::{Around, Port};
use super::services::{family, state};
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
        // The store is free again before anything is compiled or the kernel is asked.
        let copy = Copied::of(&status.known.store.read(), key)?;
        let (connections, counters_error) = match copy.connections(status) {
            Some(Ok(connections)) => (Some(connections), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let (tone, state) = state(&copy.ports);
        let problems = status.known.complaints.read().of(Kind::Service, key);
        Some(Self {
            frame,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            tone,
            state: state.sentence(),
            ports: copy.shown(connections.as_ref()),
            problems: problems.iter().map(ToString::to_string).collect(),
            counters_error,
            counters: status.counters.is_some(),
        })
    }
}

/// What of the store a page is made of.
struct Copied {
    node: Node,
    config: ProxyConfig,
    ports: Vec<ServicePort>,
    /// What each of them lacks, if anything.
    lacks: Vec<Option<Why>>,
    /// Whoever shares a frontend with one of them, and they themselves.
    rivals: Vec<ServicePort>,
}

impl Copied {
    fn of(store: &Store, key: &ObjectKey) -> Option<Self> {
        let ports = store.service(key)?.to_vec();
        let lacks = ports.iter().map(|port| store.shortage(&port.name, family(port))).collect();
        let rivals = rivals(store, &ports);
        let (node, config) = (store.node().clone(), store.config().clone());
        Some(Self { node, config, ports, lacks, rivals })
    }

    fn connections(&self, status: &Status) -> Option<Result<Connections, String>> {
        let counters = status.counters.as_ref()?;
        Some(counters.read(&counters.parts(&self.alone(&self.ports), &self.config)))
    }

    fn shown(&self, connections: Option<&Connections>) -> Vec<Port> {
        let none = self.alone(&[]);
        let plans = IpFamily::BOTH.map(|family| plan(&none, &self.config, family));
        let owners = Owners::of(&self.rivals, &self.node, &self.config);
        let shown = |(port, lacks): (&ServicePort, &Option<Why>)| {
            let plan = plans.iter().find(|plan| plan.family == family(port))?;
            let (node, config, owners) = (&self.node, &self.config, &owners);
            let around = Around { node, config, plan, owners, connections };
            Some(Port::of(port, lacks.as_ref(), &around))
        };
        self.ports.iter().zip(&self.lacks).filter_map(shown).collect()
    }

    /// A snapshot of these service ports alone.
    fn alone(&self, ports: &[ServicePort]) -> Snapshot {
        let of = |wanted| ports.iter().filter(|port| family(port) == wanted).cloned().collect();
        Snapshot {
            node: self.node.clone(),
            service_cidrs: Vec::new(),
            ipv4: of(IpFamily::Ipv4),
            ipv6: of(IpFamily::Ipv6),
        }
    }
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
