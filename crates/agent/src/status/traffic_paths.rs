//! The paths of packets to a service port, with the probabilities of its endpoints.

use std::net::SocketAddr;

use rulegen_compiler::{External, Firewall, NodePortsAt, Plan, ServicePlan, Treatment};
use rulegen_inspect::paths::{PathClients, PathSource};
use rulegen_inspect::words::{self, refusal_code, refusal_outcome};
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_net::{Frontend, FrontendKind};
use rulegen_ruleset::Probability;
use serde::Serialize;

use super::parts::EndpointRange;

/// A path from clients to endpoints, or to a rejection or drop.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrafficPath {
    /// The clients whose packets take this path, for people.
    pub(super) clients: &'static str,
    pub(super) clients_code: &'static str,
    /// The first frontends.
    pub(super) frontends: Vec<FrontendShown>,
    /// The number of further frontends.
    pub(super) more_frontends: usize,
    pub(super) policy: &'static str,
    /// What happens to the client's address, for people.
    pub(super) source: &'static str,
    pub(super) source_code: &'static str,
    /// The number of endpoints to choose from. A page shows a part of them.
    pub(super) endpoint_count: usize,
    #[serde(flatten)]
    pub(super) end: PathEnd,
    /// The stable code of the reason why no endpoint is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_code: Option<&'static str>,
}

/// A frontend with the sources that it admits.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendShown {
    pub(super) kind: &'static str,
    pub(super) address: String,
    /// The first allowed source ranges; `None` if all sources are allowed.
    pub(super) only_from: Option<Vec<String>>,
    /// The number of further source ranges.
    pub(super) more_sources: usize,
    #[serde(skip)]
    pub(super) frontend: Frontend,
    /// Another service port that owns the frontend, if so.
    pub(super) owner: Option<String>,
}

/// What happens to connections on a path.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PathEnd {
    /// One of these endpoints gets the connection, all with the same probability.
    Endpoints(Vec<EndpointShare>),
    /// The packet is rejected or dropped, for people.
    Refused(&'static str),
}

/// An endpoint, and its probability for a new client.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointShare {
    pub(super) address: SocketAddr,
    /// A fraction in lowest terms, `1` for certainty. Exact up to the resolution of the kernel's
    /// random numbers.
    pub(super) chance: String,
    /// The same for people.
    #[serde(skip)]
    pub(super) shown: String,
    pub(super) local: bool,
}

/// The maximum numbers of frontends and source ranges shown: a Service may have thousands.
const FRONTENDS: usize = 50;
const SOURCES: usize = 20;

/// All paths to a service port, according to its family's plan.
pub(super) fn traffic_paths(service: &ServicePlan, plan: &Plan) -> Vec<TrafficPath> {
    let mut traffic_paths = vec![internal(service)];
    if let Some(external) = &service.external {
        traffic_paths.extend(self::external(service, external, plan));
    }
    traffic_paths
}

fn internal(plan: &ServicePlan) -> TrafficPath {
    let of = plan.internal;
    let frontend = Frontend::at_ip(of.address, plan.name.protocol, plan.port);
    let address = SocketAddr::new(of.address, plan.port).to_string();
    let frontend = FrontendShown {
        kind: FrontendKind::ClusterIP.words(),
        address,
        only_from: None,
        more_sources: 0,
        frontend,
        owner: None,
    };
    let (clients, source) = (PathClients::OnThisNode, PathSource::of_internal(of.masquerade));
    TrafficPath::new(plan, clients, (vec![frontend], 0), source, (of.policy, of.outcome))
}

fn external(service: &ServicePlan, of: &External, plan: &Plan) -> Vec<TrafficPath> {
    let frontends = || frontends(service, of, &plan.node_ports_at);
    let policed = (of.policy, of.outcome);
    let path =
        |clients, source, policed| TrafficPath::new(service, clients, frontends(), source, policed);
    match of.policy {
        TrafficPolicy::Cluster => vec![path(PathClients::Any, PathSource::Masqueraded, policed)],
        TrafficPolicy::Local if of.forwards && !service.cluster_endpoints.is_empty() => {
            let own = (TrafficPolicy::Cluster, Treatment::Forward(TrafficPolicy::Cluster));
            let (others, own_clients) = PathClients::of_policy_local(plan.pod_traffic.as_ref());
            let source = match own_clients {
                PathClients::NodeAndPods => PathSource::KeptForPods,
                _ => PathSource::Masqueraded,
            };
            vec![path(others, PathSource::Kept, policed), path(own_clients, source, own)]
        }
        TrafficPolicy::Local => vec![path(PathClients::Any, PathSource::Kept, policed)],
    }
}

/// The first external frontends, and the number of further ones.
fn frontends(
    plan: &ServicePlan,
    of: &External,
    node_ports_at: &NodePortsAt,
) -> (Vec<FrontendShown>, usize) {
    let external = plan.frontends().filter(|(_, kind)| *kind != FrontendKind::ClusterIP);
    let shown = external.take(FRONTENDS).map(|(frontend, kind)| {
        let firewall = of.firewall.as_ref().filter(|_| kind == FrontendKind::LoadBalancerIP);
        let sources = firewall.map(|firewall| sources(of, firewall));
        FrontendShown {
            kind: kind.words(),
            address: match frontend.socket() {
                Some(socket) => socket.to_string(),
                None => node_port(frontend.port, node_ports_at),
            },
            more_sources: sources.as_ref().map_or(0, |(_, more)| *more),
            only_from: sources.map(|(first, _)| first),
            frontend,
            owner: None,
        }
    });
    (shown.collect(), of.addresses.len().saturating_sub(FRONTENDS))
}

/// The first sources that may use load-balancer IPs, and the number of further ones.
fn sources(of: &External, firewall: &Firewall) -> (Vec<String>, usize) {
    let ranges = firewall.source_ranges.iter().map(ToString::to_string);
    let node = of.sources_of_node();
    let more = |all: usize| all.saturating_sub(SOURCES);
    let node_shown = node.iter().take(SOURCES).map(ToString::to_string);
    let shown = ranges.take(SOURCES).chain(node_shown).collect();
    (shown, more(firewall.source_ranges.len()) + more(node.len()))
}

fn node_port(port: u16, at: &NodePortsAt) -> String {
    match at {
        NodePortsAt::AnyLocal { loopback: true } => format!("any address of the node:{port}"),
        NodePortsAt::AnyLocal { loopback: false } => {
            format!("any address of the node except loopback:{port}")
        }
        NodePortsAt::These(addresses) => {
            let at: Vec<String> =
                addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string()).collect();
            if at.is_empty() { format!("no address of the node:{port}") } else { at.join(", ") }
        }
    }
}

impl TrafficPath {
    fn new(
        plan: &ServicePlan,
        clients: PathClients,
        (frontends, more_frontends): (Vec<FrontendShown>, usize),
        source: PathSource,
        (policy, outcome): (TrafficPolicy, Treatment),
    ) -> Self {
        let end = match outcome {
            Treatment::Forward(policy) => shares(plan, policy),
            Treatment::Refuse(refusal) => PathEnd::Refused(refusal_outcome(refusal)),
        };
        let refused_code = match outcome {
            Treatment::Forward(_) => None,
            Treatment::Refuse(refusal) => Some(refusal_code(refusal)),
        };
        let endpoint_count = 0;
        let mut path = Self {
            clients: clients.words(),
            clients_code: clients.code(),
            frontends,
            more_frontends,
            policy: policy_name(policy),
            source: source.words(),
            source_code: source.code(),
            endpoint_count,
            end,
            refused_code,
        };
        path.endpoint_count = path.endpoints().len();
        path
    }

    /// Keeps only the endpoints of a part of the page.
    pub(super) fn keep(&mut self, part: &EndpointRange) {
        if let PathEnd::Endpoints(endpoints) = &mut self.end {
            *endpoints =
                endpoints.drain(..).skip(part.first).take(EndpointRange::ENDPOINTS).collect();
        }
    }

    /// The endpoints; empty if the packet is rejected or dropped.
    pub(super) fn endpoints(&self) -> &[EndpointShare] {
        match &self.end {
            PathEnd::Endpoints(endpoints) => endpoints,
            PathEnd::Refused(_) => &[],
        }
    }

    /// How the packet is rejected or dropped, if it is.
    pub(super) fn refused(&self) -> Option<&'static str> {
        match &self.end {
            PathEnd::Endpoints(_) => None,
            PathEnd::Refused(outcome) => Some(outcome),
        }
    }
}

fn policy_name(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn shares(plan: &ServicePlan, policy: TrafficPolicy) -> PathEnd {
    let shares = plan.shares(policy);
    let slots = saturated(shares.iter().sum());
    let of = |(endpoint, share): (&Endpoint, usize)| {
        let probability = Probability::CERTAIN.times(saturated(share), slots);
        EndpointShare {
            address: endpoint.address,
            chance: probability.to_string(),
            shown: words::share(probability),
            local: endpoint.local,
        }
    };
    PathEnd::Endpoints(plan.endpoints_of(policy).iter().zip(shares).map(of).collect())
}

/// Saturates: model/budget.rs allows a Service far fewer slots.
fn saturated(slots: usize) -> u32 {
    u32::try_from(slots).unwrap_or(u32::MAX)
}
