//! The packet's destination: an address, or a Service's cluster IP by its name.

use std::net::SocketAddr;

use anyhow::Result;
use rulegen_inspect::explain::{Destination, ServiceState, resolve};
use rulegen_inspect::listing::Listing;
use rulegen_model::{Cluster, Service, Unproxied};
use rulegen_net::{FrontendKind, IpFamily, Protocol, ServicePortName, ServiceRef};

use super::rules::Rules;
use crate::WrongUsage;
use crate::args::ExplainArgs;

/// Fails with [`rulegen_inspect::explain::UnresolvedService`] if the Service has no address here.
pub(super) fn of(
    args: &ExplainArgs,
    rules: &Rules,
    cluster: Option<&Cluster>,
) -> Result<(SocketAddr, Protocol)> {
    let family = IpFamily::of(args.from);
    let to = match &args.to {
        Destination::Address(address, protocol) => (*address, *protocol),
        Destination::Service(service) => {
            let state = || state(service, cluster);
            resolve(service, family, cluster_ips(&rules.listing()), state)?
        }
    };
    if IpFamily::of(to.0.ip()) != family {
        return Err(WrongUsage("--from and --to are of different families".to_owned()).into());
    }
    Ok(to)
}

fn cluster_ips(listing: &Listing) -> impl Iterator<Item = (&ServicePortName, SocketAddr)> {
    let named = listing.services.iter().filter_map(|(name, of)| Some((name.as_ref()?, of)));
    named.flat_map(|(name, frontends)| {
        let cluster_ips = frontends.iter().filter(|(_, of)| of.kind == FrontendKind::ClusterIP);
        cluster_ips.filter_map(move |(frontend, _)| Some((name, frontend.socket()?)))
    })
}

/// What the objects tell of a Service without a cluster IP of the packet's family.
fn state(of: &ServiceRef, cluster: Option<&Cluster>) -> ServiceState {
    let Some(Cluster { objects, snapshot }) = cluster else { return ServiceState::NoObjects };
    let is_meant = |service: &Service| {
        service.metadata.namespace() == of.namespace && service.metadata.name == of.name
    };
    let mut services = objects.services.iter().map(|service| &service.object);
    let Some(service) = services.find(|service| is_meant(service)) else {
        return ServiceState::Unknown;
    };
    if let Some(unproxied) = Unproxied::of(service) {
        return ServiceState::Unproxied(unproxied);
    }
    let mut ports = snapshot.ipv4.iter().chain(&snapshot.ipv6);
    match ports.any(|port| of.is_service_of(&port.name)) {
        true => ServiceState::OtherFamily,
        false => ServiceState::Unusable,
    }
}
