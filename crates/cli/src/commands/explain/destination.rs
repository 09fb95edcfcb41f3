//! The packet's destination: an address, or a Service's cluster IP by its name.

use std::net::SocketAddr;

use anyhow::Result;
use rulegen_inspect::explain::{Destination, resolve};
use rulegen_inspect::listing::Listing;
use rulegen_net::{FrontendKind, IpFamily, Protocol, ServicePortName};

use super::rules::Rules;
use crate::WrongUsage;
use crate::args::ExplainArgs;

pub(super) fn of(args: &ExplainArgs, rules: &Rules) -> Result<(SocketAddr, Protocol)> {
    let family = IpFamily::of(args.from);
    let to = match &args.to {
        Destination::Address(address, protocol) => (*address, *protocol),
        Destination::Service(service) => resolve(service, family, cluster_ips(&rules.listing()))?,
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
