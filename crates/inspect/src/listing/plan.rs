//! Services as a plan has them: more than either backend writes down.

use std::net::SocketAddr;

use ipnet::IpNet;
use rulegen_compiler::{External, ExternalAddress, Firewall, Outcome, Plan, ServicePlan};
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_net::{Frontend, FrontendKind};

use super::{Listing, Traffic};

/// The Services of a plan, each with all its frontends: also such as another Service has.
pub fn of_plan(plan: &Plan) -> Listing {
    let mut listing = Listing::default();
    for service in &plan.services {
        let frontends = listing.services.entry(Some(service.name.clone())).or_default();
        let protocol = service.name.protocol;
        let at = |ip| Frontend::at_ip(ip, protocol, service.port);
        // From the last to the first, so that the first of two in one place has it.
        if let Some(external) = &service.external {
            for address in external.addresses.iter().rev() {
                let (frontend, kind) = match *address {
                    ExternalAddress::ExternalIp(ip) => (at(ip), FrontendKind::ExternalIP),
                    ExternalAddress::LoadBalancerIp(ip) => (at(ip), FrontendKind::LoadBalancerIP),
                    ExternalAddress::NodePort(port) => {
                        let frontend = Frontend::node_port(plan.family, protocol, port.get());
                        (frontend, FrontendKind::NodePort)
                    }
                };
                frontends.insert(frontend, to_external(service, external, kind));
            }
        }
        frontends.insert(at(service.internal.address), to_cluster_ip(service));
    }
    listing
}

fn to_cluster_ip(service: &ServicePlan) -> Traffic {
    let mut traffic = Traffic::to(FrontendKind::ClusterIP);
    match service.internal.outcome {
        Outcome::Forward(policy) => {
            traffic.policy = Some(policy);
            traffic.endpoints = addresses(seen(service, policy));
            traffic.affinity_seconds = service.affinity_seconds;
        }
        Outcome::Refuse(refusal) => traffic.refusal = Some(refusal),
    }
    traffic
}

fn to_external(service: &ServicePlan, external: &External, kind: FrontendKind) -> Traffic {
    let mut traffic = Traffic { policy: Some(external.policy), ..Traffic::to(kind) };
    if external.forwards {
        traffic.endpoints = addresses(seen(service, external.policy));
        if external.policy == TrafficPolicy::Local {
            traffic.from_node = addresses(&service.cluster_endpoints);
        }
        traffic.affinity_seconds = service.affinity_seconds;
    }
    if let Outcome::Refuse(refusal) = external.outcome {
        traffic.refusal = Some(refusal);
    }
    if let (FrontendKind::LoadBalancerIP, Some(firewall)) = (kind, &external.firewall) {
        traffic.source_ranges = Some(let_through(external, firewall));
    }
    traffic
}

fn let_through(external: &External, firewall: &Firewall) -> Vec<IpNet> {
    let mut ranges = firewall.source_ranges.to_vec();
    if firewall.from_node {
        ranges.extend(external.addresses.iter().filter_map(|address| match address {
            ExternalAddress::LoadBalancerIp(ip) => Some(IpNet::from(*ip)),
            _ => None,
        }));
    }
    IpNet::aggregate(&ranges)
}

fn seen(service: &ServicePlan, policy: TrafficPolicy) -> &[Endpoint] {
    match policy {
        TrafficPolicy::Cluster => &service.cluster_endpoints,
        TrafficPolicy::Local => &service.local_endpoints,
    }
}

fn addresses(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        endpoints.iter().map(|endpoint| endpoint.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
