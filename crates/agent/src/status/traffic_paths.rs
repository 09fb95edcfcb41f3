//! The ways that packets take to a service port, with the chances of its endpoints.

use std::net::SocketAddr;

use rulegen_compiler::{
    External, Firewall, Masquerade, NodePortsAt, Outcome, Plan, Refusal, ServicePlan,
};
use rulegen_inspect::words::{refusal_code, refusal_outcome};
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_net::{Frontend, FrontendKind};
use serde::Serialize;

use super::parts::Part;

/// From clients to endpoints, or to nowhere.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrafficPath {
    /// Whose packets.
    pub(super) clients: &'static str,
    /// The first of them.
    pub(super) frontends: Vec<FrontendShown>,
    /// How many more there are.
    pub(super) more_frontends: usize,
    pub(super) policy: &'static str,
    /// What becomes of the client's address.
    pub(super) source: &'static str,
    /// How many endpoints there are to choose from, of which a page shows a part.
    pub(super) endpoint_count: usize,
    #[serde(flatten)]
    pub(super) end: End,
    /// The code for why it ends before any endpoint, which is stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused_code: Option<&'static str>,
}

/// Where packets arrive.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendShown {
    pub(super) kind: &'static str,
    pub(super) address: String,
    /// Who may use it, the first of them; none if everybody.
    pub(super) only_from: Option<Vec<String>>,
    /// How many more may.
    pub(super) more_sources: usize,
    #[serde(skip)]
    pub(super) frontend: Frontend,
    /// Another service port that has it, so that this one does not.
    pub(super) taken_by: Option<String>,
}

/// What becomes of packets.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum End {
    /// One of these gets the connection, each as probably as the other.
    Endpoints(Vec<EndpointShare>),
    /// None does.
    Refused(&'static str),
}

/// An endpoint, and how probable it is for a new client.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointShare {
    pub(super) address: SocketAddr,
    /// 1/n, to the resolution of the kernel's random numbers.
    pub(super) chance: String,
    pub(super) local: bool,
}

/// A Service may have thousands of addresses, and as many source ranges at each: a page shows so many.
const FRONTENDS: usize = 50;
const SOURCES: usize = 20;

const KEPT: &str = "client's address kept";
const REPLACED: &str = "source becomes the node's";

/// All ways to a service port, by the plan of its family.
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
        taken_by: None,
    };
    let source = match of.masquerade {
        Masquerade::All => REPLACED,
        Masquerade::NotFromPods => "kept for this node's pods, else the node's",
        Masquerade::None => KEPT,
    };
    let clients = "Clients on this node";
    TrafficPath::new(plan, clients, (vec![frontend], 0), source, of.outcome)
}

fn external(service: &ServicePlan, of: &External, plan: &Plan) -> Vec<TrafficPath> {
    let frontends = || frontends(service, of, &plan.node_ports_at);
    match of.policy {
        TrafficPolicy::Cluster => {
            vec![TrafficPath::new(service, "Any client", frontends(), REPLACED, of.outcome)]
        }
        TrafficPolicy::Local if of.forwards && !service.cluster_endpoints.is_empty() => {
            let own = Outcome::Forward(TrafficPolicy::Cluster);
            // Pods that cannot be told are treated like anybody.
            let (others, own_clients, source) = match plan.pod_traffic {
                Some(_) => (
                    "Clients outside",
                    "This node and its pods",
                    "kept for pods, the node's own masqueraded",
                ),
                None => ("Clients outside and pods", "This node", REPLACED),
            };
            vec![
                TrafficPath::new(service, others, frontends(), KEPT, of.outcome),
                TrafficPath::new(service, own_clients, frontends(), source, own),
            ]
        }
        TrafficPolicy::Local => {
            vec![TrafficPath::new(service, "Any client", frontends(), KEPT, of.outcome)]
        }
    }
}

/// The first external frontends, and how many more there are.
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
            taken_by: None,
        }
    });
    (shown.collect(), of.addresses.len().saturating_sub(FRONTENDS))
}

/// The first sources that may use load-balancer IPs, and how many more there are.
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
            format!("any address of the node but loopback:{port}")
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
        clients: &'static str,
        (frontends, more_frontends): (Vec<FrontendShown>, usize),
        source: &'static str,
        outcome: Outcome,
    ) -> Self {
        let (policy, end) = match outcome {
            Outcome::Forward(policy) => (policy_name(policy), even(plan.endpoints_of(policy))),
            Outcome::Refuse(refusal) => {
                let policy = match refusal {
                    Refusal::NoEndpoints => "nothing to choose from",
                    Refusal::NoLocalEndpoints => "Local",
                };
                (policy, End::Refused(refusal_outcome(refusal)))
            }
        };
        let refused_code = match outcome {
            Outcome::Forward(_) => None,
            Outcome::Refuse(refusal) => Some(refusal_code(refusal)),
        };
        let endpoint_count = 0;
        let mut way = Self {
            clients,
            frontends,
            more_frontends,
            policy,
            source,
            endpoint_count,
            end,
            refused_code,
        };
        way.endpoint_count = way.endpoints().len();
        way
    }

    /// With those endpoints only that a part of a page shows.
    pub(super) fn keep(&mut self, part: &Part) {
        if let End::Endpoints(endpoints) = &mut self.end {
            *endpoints = endpoints.drain(..).skip(part.first).take(Part::ENDPOINTS).collect();
        }
    }

    /// Its endpoints; none where it ends before.
    pub(super) fn endpoints(&self) -> &[EndpointShare] {
        match &self.end {
            End::Endpoints(endpoints) => endpoints,
            End::Refused(_) => &[],
        }
    }

    /// How it ends before any endpoint.
    pub(super) fn refused(&self) -> Option<&'static str> {
        match &self.end {
            End::Endpoints(_) => None,
            End::Refused(how) => Some(how),
        }
    }
}

fn policy_name(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn even(endpoints: &[Endpoint]) -> End {
    let chance = format!("1/{}", endpoints.len());
    let of = |endpoint: &Endpoint| {
        let (address, local) = (endpoint.address, endpoint.local);
        EndpointShare { address, chance: chance.clone(), local }
    };
    End::Endpoints(endpoints.iter().map(of).collect())
}
