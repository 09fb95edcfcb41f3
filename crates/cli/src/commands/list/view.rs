//! The listing as data. Its field names are stable.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rulegen_compiler::Refusal;
use rulegen_compiler::nftables::ConnectionCounts;
use rulegen_inspect::listing::{Compared, Listing, State, Traffic, compare};
use rulegen_inspect::words::refusal_code;
use rulegen_model::TrafficPolicy;
use rulegen_net::{Frontend, IpFamily, ServicePortName};
use serde::Serialize;

use super::actual::ActualServices;
use super::filter::Filter;
use crate::args::ListArgs;
use crate::inputs::Inputs;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// `iptables` or `nftables`.
    pub(super) mode: &'static str,
    /// The tables of kube-proxy that were listed, in place of rulegen's.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) kube_proxy_tables: &'a [String],
    /// Ordered by namespace, name and port; service ports without a name come first.
    pub(super) services: Vec<ServiceView<'a>>,
    /// Whether there are states.
    #[serde(skip)]
    pub(super) is_compared: bool,
    /// Whether there are connections.
    #[serde(skip)]
    pub(super) is_counted: bool,
    /// Whether a filter is set.
    #[serde(skip)]
    pub(super) is_filtered: bool,
}

/// A service port.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Arc<str>>,
    /// Absent for an unnamed port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<Arc<str>>,
    /// The worst state of its frontends, if the desired state is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'static str>,
    /// Number of connections to its endpoints since these were added, if counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u64>,
    pub(super) frontends: Vec<FrontendView<'a>>,
    pub(super) endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendView<'a> {
    pub(super) kind: &'static str,
    pub(super) family: IpFamily,
    /// Absent for a node port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    pub(super) port: u16,
    #[serde(flatten)]
    pub(super) traffic: TrafficView<'a>,
    /// `inSync`, `missing`, `extra`, `endpointsDiffer` or `differs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'static str>,
    /// The desired state, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) desired: Option<TrafficView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing_endpoints: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) extra_endpoints: Vec<SocketAddr>,
    #[serde(skip)]
    pub(super) compared: State,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrafficView<'a> {
    /// `Cluster` or `Local`, if known from the rules or the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'static str>,
    /// The code of the refusal: `no-endpoints` (rejected) or `no-local-endpoints` (dropped).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_code: Option<&'static str>,
    #[serde(skip)]
    pub(super) refusal: Option<Refusal>,
    pub(super) endpoints: &'a [SocketAddr],
    /// Endpoints for traffic of this node and its pods, under policy Local.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) endpoints_from_node: &'a [SocketAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_ranges: Option<&'a [IpNet]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_affinity_seconds: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointView {
    pub(super) address: SocketAddr,
    /// The policies that select the endpoint, if the rules show them.
    pub(super) policies: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u64>,
}

impl<'a> View<'a> {
    /// The actual and the desired Services that pass the filter; the latter if they are known.
    pub(super) fn of(
        args: &ListArgs,
        found: &Inputs,
        actual: &'a ActualServices,
        desired: Option<&'a Listing>,
    ) -> Self {
        let filter = Filter::of(args, found);
        let connections = actual.connections.as_ref();
        let compared = compare(&actual.listing, desired.unwrap_or(&actual.listing));
        let services = compared.into_iter().filter(|(name, _)| filter.names(*name));
        let services = services.filter_map(|(name, frontends)| {
            let taken: Vec<(&Frontend, Compared<'_>)> = frontends
                .into_iter()
                .filter(|(frontend, compared)| filter.takes(frontend, compared))
                .collect();
            let view = || ServiceView::new(name, &taken, desired.is_some(), connections);
            (!taken.is_empty()).then(view)
        });
        Self {
            mode: found.config.mode.word(),
            kube_proxy_tables: &actual.kube_proxy_tables,
            services: services.collect(),
            is_compared: desired.is_some(),
            is_counted: connections.is_some(),
            is_filtered: filter.is_any(),
        }
    }
}

impl<'a> ServiceView<'a> {
    fn new(
        name: Option<&ServicePortName>,
        frontends: &[(&Frontend, Compared<'a>)],
        is_compared: bool,
        connections: Option<&ConnectionCounts>,
    ) -> Self {
        let count = |endpoint: &SocketAddr| {
            let key = (name?.clone(), *endpoint);
            connections.map(|counted| counted.get(&key).copied().unwrap_or_default())
        };
        let endpoints: Vec<EndpointView> = endpoints(frontends)
            .into_iter()
            .map(|(address, policies)| EndpointView {
                address,
                policies,
                connections: count(&address),
            })
            .collect();
        let worst = frontends.iter().map(|(_, compared)| compared.state()).max();
        Self {
            namespace: name.map(|name| name.namespace.clone()),
            name: name.map(|name| name.service.clone()),
            port: name.map(|name| name.port.clone()).filter(|port| !port.is_empty()),
            state: worst.filter(|_| is_compared).map(state_word),
            connections: connections
                .map(|_| endpoints.iter().filter_map(|endpoint| endpoint.connections).sum()),
            frontends: frontends
                .iter()
                .filter_map(|(frontend, compared)| {
                    FrontendView::new(frontend, compared, is_compared)
                })
                .collect(),
            endpoints,
        }
    }
}

/// All endpoints of frontends, each with the policies that select it.
fn endpoints(frontends: &[(&Frontend, Compared<'_>)]) -> BTreeMap<SocketAddr, Vec<&'static str>> {
    let mut seen: BTreeMap<SocketAddr, Vec<&'static str>> = BTreeMap::new();
    for traffic in frontends.iter().filter_map(|(_, compared)| shown(compared)) {
        let of_node = traffic.from_node.iter().map(|to| (to, Some(TrafficPolicy::Cluster)));
        let others = traffic.endpoints.iter().map(|to| (to, traffic.policy));
        for (endpoint, policy) in others.chain(of_node) {
            let policies = seen.entry(*endpoint).or_default();
            if let Some(word) = policy.map(policy_word).filter(|word| !policies.contains(word)) {
                policies.push(word);
                policies.sort_unstable();
            }
        }
    }
    seen
}

/// The actual Service, or the desired one if it is missing in the kernel.
fn shown<'a>(compared: &Compared<'a>) -> Option<&'a Traffic> {
    compared.actual.or(compared.desired)
}

impl<'a> FrontendView<'a> {
    fn new(frontend: &Frontend, compared: &Compared<'a>, is_compared: bool) -> Option<Self> {
        let traffic = shown(compared)?;
        let state = compared.state();
        let both_differ = matches!(state, State::Differs | State::EndpointsDiffer);
        let changes = both_differ.then_some(compared);
        Some(Self {
            kind: traffic.kind.name(),
            family: frontend.family(),
            address: frontend.ip(),
            protocol: frontend.protocol.api_name().to_owned(),
            port: frontend.port,
            traffic: TrafficView::new(traffic),
            state: is_compared.then(|| state_word(state)),
            desired: changes.and_then(|compared| compared.desired).map(TrafficView::new),
            missing_endpoints: changes.map(Compared::missing_endpoints).unwrap_or_default(),
            extra_endpoints: changes.map(Compared::extra_endpoints).unwrap_or_default(),
            compared: state,
        })
    }
}

impl<'a> TrafficView<'a> {
    fn new(traffic: &'a Traffic) -> Self {
        Self {
            policy: traffic.policy.map(policy_word),
            refused_code: traffic.refusal.map(refusal_code),
            refusal: traffic.refusal,
            endpoints: &traffic.endpoints,
            endpoints_from_node: &traffic.from_node,
            source_ranges: traffic.source_ranges.as_deref(),
            session_affinity_seconds: traffic.affinity_seconds,
        }
    }
}

fn policy_word(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn state_word(state: State) -> &'static str {
    match state {
        State::InSync => "inSync",
        State::Missing => "missing",
        State::Extra => "extra",
        State::Differs => "differs",
        State::EndpointsDiffer => "endpointsDiffer",
    }
}
