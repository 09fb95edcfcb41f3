//! A service port on the page of its Service.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rulegen_compiler::nftables::ConnectionCounts;
use rulegen_compiler::{FrontendOwners, Plan, plan_service};
use rulegen_config::ProxyConfig;
use rulegen_inspect::words::{self, unavailability_remedy};
use rulegen_model::{
    Endpoint, EndpointDetails, LoadBalancing, Node, ServicePort, UnavailableReason, not_chosen,
};
use serde::{Serialize, Serializer};

use super::format::{Long, grouped};
use super::parts::EndpointRange;
use super::query::href;
use super::traffic_paths::{TrafficPath, traffic_paths};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    pub(super) family: &'static str,
    /// How long a client keeps its endpoint.
    pub(super) session_affinity_seconds: Option<u32>,
    #[serde(serialize_with = "load_balancing")]
    pub(super) load_balancing: LoadBalancing,
    pub(super) health_check_node_port: Option<u16>,
    pub(super) unavailability: Option<UnavailabilityText>,
    pub(super) traffic_paths: Vec<TrafficPath>,
    /// The number of all endpoints.
    pub(super) endpoint_count: usize,
    /// The index of the first endpoint shown, from 0.
    pub(super) first_endpoint: usize,
    pub(super) endpoints: Vec<EndpointShown>,
    /// The number of connections to all endpoints, if they are counted.
    pub(super) connections: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointShown {
    pub(super) address: SocketAddr,
    /// The name of its Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
    /// Its other addresses, which no proxy uses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unused_addresses: Vec<IpAddr>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) more_unused_addresses: usize,
    pub(super) local: bool,
    pub(super) state: &'static str,
    /// Why no traffic goes to it; `None` if it is used.
    pub(super) unused: Option<&'static str>,
    /// The stable code of this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unused_code: Option<&'static str>,
    pub(super) connections: Option<u64>,
}

/// Why the port has no available endpoint, and what to do.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnavailabilityText {
    /// The stable code of the reason.
    pub(super) code: &'static str,
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl UnavailabilityText {
    fn of(port: &ServicePort, why: &UnavailableReason) -> Self {
        let (reason, remedy) = (words::unavailable(why), unavailability_remedy(why, &port.name));
        Self { code: why.code().name(), reason: format!("It {reason}."), remedy }
    }
}

/// What is needed to show a port, apart from the port.
pub(super) struct PageContext<'a> {
    pub(super) node: &'a Node,
    pub(super) config: &'a ProxyConfig,
    /// The plan of its family, without Services.
    pub(super) plan: &'a Plan,
    pub(super) owners: &'a FrontendOwners,
    pub(super) connections: Option<&'a ConnectionCounts>,
    pub(super) details: &'a BTreeMap<IpAddr, EndpointDetails>,
}

/// The maximum number of endpoints drawn per path.
const DRAWN: usize = 8;

/// The maximum number of unused addresses shown per endpoint.
const UNUSED: usize = 3;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn load_balancing<S: Serializer>(of: &LoadBalancing, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(words::load_balancing_name(*of))
}

impl Port {
    pub(super) fn of(
        port: &ServicePort,
        part: &EndpointRange,
        unavailability: Option<&UnavailableReason>,
        context: &PageContext<'_>,
    ) -> Self {
        let PageContext { node, config, connections, .. } = *context;
        let plan = plan_service(port, node, config, port.family());
        let mut traffic_paths = traffic_paths(&plan, context.plan);
        traffic_paths.iter_mut().for_each(|path| path.keep(part));
        for frontend in traffic_paths.iter_mut().flat_map(|path| &mut path.frontends) {
            let owner = context.owners.other_than(&port.name, frontend.frontend);
            frontend.owner = owner.map(ToString::to_string);
        }
        let chosen: HashSet<SocketAddr> =
            plan.reachable_endpoints.iter().map(|endpoint| endpoint.address).collect();
        let counted = |endpoint: &Endpoint| {
            connections.map(|all| {
                let of = (port.name.clone(), endpoint.address);
                all.get(&of).copied().unwrap_or_default()
            })
        };
        let endpoint = |endpoint: &Endpoint| {
            let is_used = chosen.contains(&endpoint.address);
            let unused = (!is_used).then(|| not_chosen(port, endpoint));
            let details = context.details.get(&endpoint.address.ip());
            let EndpointDetails { pod, mut unused_addresses } =
                details.cloned().unwrap_or_default();
            let more_unused_addresses = unused_addresses.len().saturating_sub(UNUSED);
            unused_addresses.truncate(UNUSED);
            EndpointShown {
                address: endpoint.address,
                pod,
                unused_addresses,
                more_unused_addresses,
                local: endpoint.local,
                state: words::endpoint_state(endpoint),
                unused: unused.map(words::not_chosen),
                unused_code: unused.map(words::not_chosen_code),
                connections: counted(endpoint),
            }
        };
        let range = part.range(port.endpoints.len());
        let shown = port.endpoints.get(range).unwrap_or_default();
        Self {
            name: port.name.port.to_string(),
            protocol: port.name.protocol.api_name(),
            port: port.port,
            family: port.family().api_name(),
            session_affinity_seconds: port.affinity_seconds,
            load_balancing: plan.first_choice(config.mode),
            health_check_node_port: port.health_check_node_port.map(std::num::NonZeroU16::get),
            unavailability: unavailability.map(|why| UnavailabilityText::of(port, why)),
            traffic_paths,
            connections: connections.map(|_| port.endpoints.iter().filter_map(counted).sum()),
            endpoint_count: port.endpoints.len(),
            first_endpoint: part.first,
            endpoints: shown.iter().map(endpoint).collect(),
        }
    }

    /// The path of the page that explains a packet to this port.
    pub(super) fn explain_href(&self) -> String {
        let address = self.traffic_paths.first().and_then(|path| path.frontends.first());
        let to = address.map(|of| format!("{}/{}", of.address, self.protocol.to_lowercase()));
        href("/explain", &[("to", &to.unwrap_or_default())])
    }

    /// Whether any path leads to an endpoint.
    pub(super) fn chooses(&self) -> bool {
        self.traffic_paths.iter().any(|path| path.refused().is_none())
    }

    /// How an endpoint is chosen, for people.
    pub(super) fn choice(&self) -> String {
        let choice = words::load_balancing(self.load_balancing);
        match self.session_affinity_seconds {
            None => choice.to_owned(),
            Some(seconds) => {
                let timeout = Long(Duration::from_secs(seconds.into()));
                format!(
                    "{choice} for a new client, which then keeps it until {timeout} after its last connection"
                )
            }
        }
    }

    pub(super) fn has_pods(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.pod.is_some())
    }

    /// The range of endpoints shown, if not all are.
    pub(super) fn part(&self) -> Option<String> {
        let number = |n: usize| grouped(super::format::wide(n));
        let (first, count) = (self.first_endpoint, self.endpoints.len());
        (count < self.endpoint_count).then(|| {
            let (from, to) = (number(first + 1), number(first + count));
            format!("{from} to {to} of {}", number(self.endpoint_count))
        })
    }

    pub(super) fn drawn<'a>(
        &self,
        path: &'a TrafficPath,
    ) -> impl Iterator<Item = &'a super::traffic_paths::EndpointShare> {
        path.endpoints().iter().take(DRAWN)
    }

    pub(super) fn undrawn(&self, path: &TrafficPath) -> Option<String> {
        more(path.endpoint_count, DRAWN)
    }

    /// An endpoint's share of the connections, in percent.
    pub(super) fn share(&self, endpoint: &EndpointShown) -> Option<f64> {
        let (of, all) = (endpoint.connections?, self.connections.filter(|all| *all > 0)?);
        // The precision is sufficient for a drawing.
        Some(of as f64 * 100.0 / all as f64)
    }

    pub(super) fn grouped(&self, number: &u64) -> String {
        grouped(*number)
    }
}

fn more(all: usize, shown: usize) -> Option<String> {
    let more = all.checked_sub(shown).filter(|more| *more > 0)?;
    Some(format!("and {} more", grouped(super::format::wide(more))))
}
