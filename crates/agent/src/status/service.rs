//! `/services/{namespace}/{name}`: who gets from where to where, and why not.

use std::collections::BTreeMap;

use askama::Template;
use rulegen_compiler::plan;
use rulegen_config::ProxyConfig;
use rulegen_model::{Kind, Node, ObjectKey, ServicePort, Snapshot, UnavailableReason};
use rulegen_net::IpFamily;
use serde::Serialize;

use super::Status;
use super::counters::Connections;
use super::frame::Frame;
use super::owners::{Owners, rivals};
use super::parts::{Part, Parts};
use super::port::{PageContext, Port};
use super::query;
use super::services::state;
use super::state::HealthLevel;
use crate::configured_store::ConfiguredStore;

#[derive(Template, Serialize)]
#[template(path = "status/service.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePage {
    #[serde(skip)]
    frame: Frame,
    namespace: String,
    name: String,
    tone: HealthLevel,
    /// How it is, in a sentence.
    state: &'static str,
    page: usize,
    pages: usize,
    /// Those on this page; one with many endpoints may be on several.
    ports: Vec<Port>,
    /// What was left out of the Service, or why it has no rules.
    problems: Vec<String>,
    more_problems: usize,
    /// Why nothing is said of connections, where they are counted.
    counters_error: Option<String>,
    /// Whether connections are counted at all.
    counters: bool,
}

impl ServicePage {
    /// None if there is no such Service.
    pub(super) fn of(status: &Status, key: &ObjectKey, page: usize) -> Option<Self> {
        let frame = status.frame("/services", format!("{}/{}", key.namespace, key.name));
        // The store is free again before anything is compiled or the kernel is asked.
        let copy = Copied::of(&status.known.store.read(), key, page)?;
        let (connections, counters_error) = match copy.connections(status) {
            Some(Ok(connections)) => (Some(connections), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let problems = status.known.rejected_objects.read().of(Kind::Service, key);
        let left_out = status.known.left_out.read().problem(key);
        Some(Self {
            frame,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            tone: copy.tone,
            state: copy.state,
            page: copy.parts.page,
            pages: copy.parts.pages,
            ports: copy.shown(connections.as_ref()),
            problems: left_out
                .iter()
                .chain(&*problems)
                .take(PROBLEMS)
                .map(ToString::to_string)
                .collect(),
            more_problems: problems.len().saturating_sub(PROBLEMS),
            counters_error,
            counters: status.counters.is_some(),
        })
    }

    fn href(&self, page: usize) -> String {
        let path = query::path(&ObjectKey::new(&self.namespace, &self.name));
        let page = if page > 1 { page.to_string() } else { String::new() };
        query::href(&path, &[("page", &page)])
    }

    fn json_href(&self) -> String {
        let path = query::path(&ObjectKey::new(&self.namespace, &self.name));
        let page = if self.page > 1 { self.page.to_string() } else { String::new() };
        query::href(&path, &[("page", &page), ("format", "json")])
    }

    fn previous(&self) -> Option<String> {
        (self.page > 1).then(|| self.href(self.page - 1))
    }

    fn next(&self) -> Option<String> {
        (self.page < self.pages).then(|| self.href(self.page + 1))
    }
}

/// More of them are only counted.
const PROBLEMS: usize = 100;

/// What of the store a page is made of.
struct Copied {
    node: Node,
    config: ProxyConfig,
    tone: HealthLevel,
    state: &'static str,
    parts: Parts,
    /// Those of the page, by their places among all of the Service.
    ports: BTreeMap<usize, Copy>,
    /// Whoever shares a frontend with one of them, and they themselves.
    rivals: Vec<ServicePort>,
}

struct Copy {
    port: ServicePort,
    /// What it lacks, if anything.
    lacks: Option<UnavailableReason>,
}

impl Copied {
    fn of(store: &ConfiguredStore, key: &ObjectKey, page: usize) -> Option<Self> {
        let all = store.service(key)?;
        let (tone, state) = state(all);
        let parts = Parts::of(all, page);
        let copied = |part: &Part| {
            let port = all.get(part.port)?.clone();
            let lacks = store.unavailability(&port.name, port.family());
            Some((part.port, Copy { port, lacks }))
        };
        let mut ports = BTreeMap::new();
        for part in &parts.parts {
            if !ports.contains_key(&part.port) {
                ports.extend(copied(part));
            }
        }
        let rivals = rivals(store, ports.values().map(|copy: &Copy| &copy.port));
        let (node, config) = (store.node().clone(), store.config().clone());
        Some(Self { node, config, tone, state: state.sentence(), parts, ports, rivals })
    }

    fn connections(&self, status: &Status) -> Option<Result<Connections, String>> {
        let counters = status.counters.as_ref()?;
        Some(counters.read(&counters.parts(&self.snapshot(), &self.config)))
    }

    fn shown(&self, connections: Option<&Connections>) -> Vec<Port> {
        let none = Snapshot { ipv4: Vec::new(), ipv6: Vec::new(), ..self.snapshot() };
        let plans = IpFamily::BOTH.map(|family| plan(&none, &self.config, family));
        let owners = Owners::of(&self.rivals, &self.node, &self.config);
        let shown = |part: &Part| {
            let Copy { port, lacks } = self.ports.get(&part.port)?;
            let plan = plans.iter().find(|plan| plan.family == port.family())?;
            let (node, config, owners) = (&self.node, &self.config, &owners);
            let around = PageContext { node, config, plan, owners, connections };
            Some(Port::of(port, part, lacks.as_ref(), &around))
        };
        self.parts.parts.iter().filter_map(shown).collect()
    }

    /// A snapshot of these service ports alone.
    fn snapshot(&self) -> Snapshot {
        let ports = || self.ports.values().map(|copy| &copy.port);
        let of = |wanted| ports().filter(|port| port.family() == wanted).cloned().collect();
        Snapshot {
            node: self.node.clone(),
            service_cidrs: Vec::new(),
            ipv4: of(IpFamily::Ipv4),
            ipv6: of(IpFamily::Ipv6),
            too_large: BTreeMap::new(),
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
