//! The Services of a plan. A plan shows more than the rules of either backend.

use std::net::SocketAddr;

use ipnet::IpNet;
use rulegen_compiler::{External, Firewall, Plan, ServicePlan, Treatment};
use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_net::FrontendKind;

use super::{Listing, Traffic};

/// Lists the Services of a plan with all their frontends, including frontends whose traffic another
/// Service gets.
pub fn of_plan(plan: &Plan) -> Listing {
    let mut listing = Listing::default();
    for service in &plan.services {
        let frontends = listing.services.entry(Some(service.name.clone())).or_default();
        for (frontend, kind) in service.frontends() {
            // The first of two frontends with the same address wins.
            frontends.entry(frontend).or_insert_with(|| match &service.external {
                Some(external) if kind != FrontendKind::ClusterIP => {
                    to_external(service, external, kind)
                }
                _ => to_cluster_ip(service),
            });
        }
    }
    listing
}

fn to_cluster_ip(service: &ServicePlan) -> Traffic {
    let mut traffic = Traffic::to(FrontendKind::ClusterIP);
    match service.internal.outcome {
        Treatment::Forward(policy) => {
            traffic.policy = Some(policy);
            traffic.endpoints = addresses(service.endpoints_of(policy));
            traffic.affinity_seconds = service.affinity_seconds;
        }
        Treatment::Refuse(refusal) => traffic.refusal = Some(refusal),
    }
    traffic
}

fn to_external(service: &ServicePlan, external: &External, kind: FrontendKind) -> Traffic {
    let mut traffic = Traffic { policy: Some(external.policy), ..Traffic::to(kind) };
    if external.forwards {
        traffic.endpoints = addresses(service.endpoints_of(external.policy));
        if external.policy == TrafficPolicy::Local {
            traffic.from_node = addresses(&service.cluster_endpoints);
        }
        traffic.affinity_seconds = service.affinity_seconds;
    }
    if let Treatment::Refuse(refusal) = external.outcome {
        traffic.refusal = Some(refusal);
    }
    if let (FrontendKind::LoadBalancerIP, Some(firewall)) = (kind, &external.firewall) {
        traffic.source_ranges = Some(allowed(external, firewall));
    }
    traffic
}

fn allowed(external: &External, firewall: &Firewall) -> Vec<IpNet> {
    let mut ranges = firewall.source_ranges.to_vec();
    ranges.extend(external.sources_of_node().into_iter().map(IpNet::from));
    IpNet::aggregate(&ranges)
}

fn addresses(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        endpoints.iter().map(|endpoint| endpoint.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
