//! `/services/{namespace}/{name}`: the paths of traffic to one Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use askama::Template;
use rulegen_compiler::nftables::ConnectionCounts;
use rulegen_compiler::{FrontendOwners, plan, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_inspect::words::ServiceCondition;
use rulegen_model::{
    EndpointDetails, Kind, Node, ObjectKey, ServicePort, Snapshot, UnavailableReason,
};
use rulegen_net::IpFamily;
use serde::Serialize;

use super::Status;
use super::claimants::claimants;
use super::counters::CountersError;
use super::frame::Frame;
use super::parts::{EndpointRange, Parts};
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
    level: HealthLevel,
    /// Its condition, in a sentence.
    state: &'static str,
    /// The stable code of its condition.
    state_code: &'static str,
    page: usize,
    pages: usize,
    /// The ports on this page; a port with many endpoints is on several pages.
    ports: Vec<Port>,
    /// The rejected parts of the Service, and why it has no rules if it is left out.
    problems: Vec<String>,
    more_problems: usize,
    /// Why the counters could not be read.
    counters_error: Option<String>,
    /// Whether connections are counted at all.
    counters: bool,
}

impl ServicePage {
    /// Returns `None` if there is no such Service.
    pub(super) fn of(status: &Status, key: &ObjectKey, page: usize) -> Option<Self> {
        let frame = status.frame("/services", format!("{}/{}", key.namespace, key.name));
        // The store is unlocked before anything is compiled or read from the kernel.
        let copy = Copied::of(&status.known.store.read(), key, page)?;
        let (connections, counters_error) = match copy.connections(status) {
            Some(Ok(connections)) => (Some(connections), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let problems = status.known.rejected_objects.read().of(Kind::Service, key);
        let left_out = status.known.left_out.read().problem(key);
        Some(Self {
            frame,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            level: copy.level,
            state: copy.state.sentence,
            state_code: copy.state.code,
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

/// The maximum number of problems shown; others are only counted.
const PROBLEMS: usize = 100;

/// A copy of the objects that the page needs.
struct Copied {
    node: Node,
    config: ProxyConfig,
    level: HealthLevel,
    state: ServiceCondition,
    parts: Parts,
    /// The ports on the page, by their index in the Service.
    ports: BTreeMap<usize, Copy>,
    /// All service ports that claim a frontend of these ports, including these ports.
    claimants: Vec<ServicePort>,
    /// Details of the endpoints on the page.
    details: BTreeMap<IpAddr, EndpointDetails>,
}

struct Copy {
    port: ServicePort,
    /// Why it has no available endpoint, if so.
    unavailability: Option<UnavailableReason>,
}

impl Copied {
    fn of(store: &ConfiguredStore, key: &ObjectKey, page: usize) -> Option<Self> {
        let all = store.service(key)?;
        let (level, state) = state(all);
        let parts = Parts::of(all, page);
        let copied = |part: &EndpointRange| {
            let port = all.get(part.port)?.clone();
            let unavailability = store.unavailability(&port.name, port.family());
            Some((part.port, Copy { port, unavailability }))
        };
        let mut ports = BTreeMap::new();
        for part in &parts.parts {
            if !ports.contains_key(&part.port) {
                ports.extend(copied(part));
            }
        }
        let on_page = parts.parts.iter().filter_map(|part| {
            let endpoints = &all.get(part.port)?.endpoints;
            endpoints.get(part.range(endpoints.len()))
        });
        let on_page = on_page.flatten().map(|endpoint| endpoint.address.ip()).collect();
        let details = store.endpoint_details(key, &on_page);
        let claimants = claimants(store, ports.values().map(|copy: &Copy| &copy.port));
        let (node, config) = (store.node().clone(), store.config().clone());
        Some(Self { node, config, level, state, parts, ports, claimants, details })
    }

    fn connections(&self, status: &Status) -> Option<Result<ConnectionCounts, CountersError>> {
        let counters = status.counters.as_ref()?;
        Some(counters.read(&counters.parts(&self.snapshot(), &self.config)))
    }

    fn shown(&self, connections: Option<&ConnectionCounts>) -> Vec<Port> {
        let none = Snapshot { ipv4: Vec::new(), ipv6: Vec::new(), ..self.snapshot() };
        let plans = IpFamily::BOTH.map(|family| plan(&none, &self.config, family));
        let plan_of = |of: &ServicePort| plan_service(of, &self.node, &self.config, of.family());
        let owners = FrontendOwners::of(self.claimants.iter().map(plan_of));
        let shown = |part: &EndpointRange| {
            let Copy { port, unavailability } = self.ports.get(&part.port)?;
            let plan = plans.iter().find(|plan| plan.family == port.family())?;
            let (node, config, owners) = (&self.node, &self.config, &owners);
            let details = &self.details;
            let context = PageContext { node, config, plan, owners, connections, details };
            Some(Port::of(port, part, unavailability.as_ref(), &context))
        };
        self.parts.parts.iter().filter_map(shown).collect()
    }

    /// A snapshot with only these service ports.
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

/// The page for an unknown Service.
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
        let error = format!("Service {name} not found.");
        Self { frame: status.frame("/services", "Service not found"), error }
    }
}

/// The maximum length of an unknown name that is shown.
const LONGEST: usize = 200;
