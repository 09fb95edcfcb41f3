//! `/services`: the list of Services, with search and pages.

use std::collections::HashSet;
use std::net::IpAddr;

use askama::Template;
use rulegen_inspect::words::{ServiceCondition, service_condition};
use rulegen_model::{Availability, ObjectKey, ServicePort, select};
use serde::Serialize;

use super::Status;
use super::format::{counted, grouped, wide};
use super::frame::Frame;
use super::query::{self, Query, ServiceFilter};
use super::search::Search;
use super::state::HealthLevel;

#[derive(Template, Serialize)]
#[template(path = "status/services.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceList {
    #[serde(skip)]
    frame: Frame,
    #[serde(skip)]
    query: Query,
    /// The number of Services found.
    found: usize,
    /// The number of all Services.
    all: usize,
    page: usize,
    pages: usize,
    services: Vec<Row>,
    /// The namespaces that have Services.
    #[serde(skip)]
    namespaces: Vec<String>,
}

/// A Service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    #[serde(skip)]
    href: String,
    cluster_ips: Vec<String>,
    /// The first ports.
    ports: Vec<PortShown>,
    /// The number of further ports.
    more_ports: usize,
    external_ips: Vec<String>,
    load_balancer_ips: Vec<String>,
    /// The number of further external and load-balancer IPs.
    more_ips: usize,
    /// Of the port that has the fewest: the endpoints that any traffic may reach, as on the page of the
    /// Service.
    chosen_endpoints: usize,
    /// All endpoints of the same port.
    endpoints: usize,
    level: HealthLevel,
    /// The problem in a few words, or empty.
    state: &'static str,
    /// The stable code of the state.
    state_code: &'static str,
}

#[derive(PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortShown {
    name: String,
    protocol: &'static str,
    port: u16,
    node_port: Option<u16>,
}

/// The number of Services per page.
const ROWS: usize = 50;

/// The maximum number of ports, and of addresses of a kind, per row: a Service may have a thousand.
const SHOWN: usize = 20;

/// The maximum number of namespaces to choose from.
const NAMESPACES: usize = 500;

impl ServiceList {
    pub(super) fn of(status: &Status, query: &Query) -> Self {
        let frame = status.frame("/services", "Services");
        let search = Search::of(query);
        let store = status.known.store.read();
        let (mut all, mut found) = (0, 0);
        // Only the rows of two pages are kept: the requested one and the last.
        let (mut requested, mut last) = (Vec::new(), Vec::new());
        for (key, ports) in store.services() {
            all += 1;
            if !search.finds(key, ports) {
                continue;
            }
            if found % ROWS == 0 {
                last.clear();
            }
            last.push((key, ports));
            if found / ROWS + 1 == query.page {
                requested.push((key, ports));
            }
            found += 1;
        }
        let pages = found.div_ceil(ROWS).max(1);
        let page = query.page.min(pages);
        let rows = if requested.is_empty() { last } else { requested };
        Self {
            frame,
            query: Query { page, ..query.clone() },
            found,
            all,
            page,
            pages,
            services: rows.into_iter().map(|(key, ports)| Row::of(key, ports)).collect(),
            namespaces: store.namespaces().take(NAMESPACES).map(str::to_owned).collect(),
        }
    }

    fn shows(&self) -> [(ServiceFilter, bool, String); 4] {
        ServiceFilter::ALL.map(|show| {
            let query = Query { show, page: 1, ..self.query.clone() };
            (show, show == self.query.show, query.href())
        })
    }

    fn previous(&self) -> Option<String> {
        let page = self.page.checked_sub(1).filter(|page| *page > 0)?;
        Some(Query { page, ..self.query.clone() }.href())
    }

    fn next(&self) -> Option<String> {
        let page = (self.page < self.pages).then(|| self.page.saturating_add(1))?;
        Some(Query { page, ..self.query.clone() }.href())
    }

    fn all_pages(&self) -> String {
        grouped(wide(self.pages))
    }

    fn is_narrowed(&self) -> bool {
        let Query { text, namespace, show, .. } = &self.query;
        !text.is_empty() || !namespace.is_empty() || *show != ServiceFilter::All
    }

    /// The number of Services, for people.
    fn sum(&self) -> String {
        let all = counted(self.all, "Service", "Services");
        if self.is_narrowed() { format!("{} of {all}", grouped(wide(self.found))) } else { all }
    }
}

impl Row {
    fn of(key: &ObjectKey, ports: &[ServicePort]) -> Self {
        let counts = ports.iter().map(|port| (select(port).reachable.len(), port.endpoints.len()));
        let (chosen_endpoints, endpoints) = counts.min().unwrap_or_default();
        let (level, state) = state(ports);
        // Each port appears once per family. All ports of a family have the same addresses.
        let mut seen = HashSet::new();
        let mut distinct = ports.iter().filter(|port| seen.insert((port.name.protocol, port.port)));
        let shown = distinct.by_ref().take(SHOWN).map(PortShown::of).collect();
        let more_ports = distinct.count();
        let mut families = HashSet::new();
        let firsts = ports.iter().filter(|port| families.insert(port.family()));
        let firsts: Vec<&ServicePort> = firsts.collect();
        let external: Vec<&IpAddr> = firsts.iter().flat_map(|port| &port.external_ips).collect();
        let balancer: Vec<&IpAddr> =
            firsts.iter().flat_map(|port| &port.load_balancer_ips).collect();
        let more = |ips: &[&IpAddr]| ips.len().saturating_sub(SHOWN);
        Self {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            href: query::path(key),
            cluster_ips: firsts.iter().map(|port| port.cluster_ip.to_string()).collect(),
            ports: shown,
            more_ports,
            more_ips: more(&external) + more(&balancer),
            external_ips: texts(&external),
            load_balancer_ips: texts(&balancer),
            chosen_endpoints,
            endpoints,
            level,
            state: state.words,
            state_code: state.code,
        }
    }

    /// The external frontends, for people.
    fn outside(&self) -> Vec<String> {
        let node_ports: Vec<String> =
            self.ports.iter().filter_map(|port| Some(port.node_port?.to_string())).collect();
        let node_ports =
            (!node_ports.is_empty()).then(|| format!("node {}", node_ports.join(", ")));
        let load_balancer = self.load_balancer_ips.iter().map(|ip| format!("LB {ip}"));
        let external = self.external_ips.iter().map(|ip| format!("external {ip}"));
        let more = (self.more_ips > 0).then(|| format!("and {} more", self.more_ips));
        load_balancer.chain(external).chain(more).chain(node_ports).collect()
    }

    fn has_rules(&self) -> bool {
        !self.ports.is_empty()
    }
}

impl PortShown {
    fn of(port: &ServicePort) -> Self {
        Self {
            name: port.name.port.to_string(),
            protocol: port.name.protocol.api_name(),
            port: port.port,
            node_port: port.node_port.map(std::num::NonZeroU16::get),
        }
    }
}

/// The severity and the condition of a Service: that of its worst port.
pub(super) fn state(ports: &[ServicePort]) -> (HealthLevel, ServiceCondition) {
    let worst = ports.iter().map(Availability::of).min();
    let level = match worst {
        Some(Availability::NoEndpoints | Availability::NoneUsable { .. }) => HealthLevel::Bad,
        Some(Availability::NoneLocal { .. } | Availability::OnlyTerminating { .. }) => {
            HealthLevel::Attention
        }
        None | Some(Availability::Ready) => HealthLevel::Good,
    };
    (level, service_condition(worst))
}

fn texts(ips: &[&IpAddr]) -> Vec<String> {
    ips.iter().take(SHOWN).map(ToString::to_string).collect()
}
