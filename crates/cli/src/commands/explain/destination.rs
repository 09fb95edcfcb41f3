//! Where the packet goes: an address, or a Service's cluster IP by its name.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use rulegen_inspect::explain::Destination;
use rulegen_inspect::listing::Listing;
use rulegen_net::{FrontendKind, Protocol, ServicePortName};

use super::rules::Rules;
use crate::WrongUsage;
use crate::args::ExplainArgs;

/// An address and what carries the packet there.
pub(super) type To = (SocketAddr, Protocol);

pub(super) fn of(args: &ExplainArgs, rules: &Rules) -> Result<To> {
    let to = match &args.to {
        Destination::Address(address, protocol) => (*address, *protocol),
        Destination::Service(of) => {
            by_name(&rules.listing(), &of.namespace, &of.name, of.port.as_deref())?
        }
    };
    if args.from.is_ipv4() != to.0.is_ipv4() {
        return Err(WrongUsage("--from and --to are of different families".to_owned()).into());
    }
    Ok(to)
}

fn by_name(listing: &Listing, namespace: &str, name: &str, port: Option<&str>) -> Result<To> {
    let all = cluster_ips(listing, namespace, name);
    if all.is_empty() {
        bail!(
            "Service {namespace}/{name} has no cluster IP of the family of --from in these rules: it is not there, headless, of type ExternalName, or of the other family"
        );
    }
    let is_meant = |(name, at): &(&&ServicePortName, &SocketAddr)| {
        port.is_none_or(|port| *name.port == *port || at.port().to_string() == *port)
    };
    let meant: Vec<(&&ServicePortName, &SocketAddr)> = all.iter().filter(is_meant).collect();
    let [(port, at)] = meant.as_slice() else {
        let there: Vec<String> = all.iter().map(|(name, at)| described(name, *at)).collect();
        let which = if meant.is_empty() { "has no such port" } else { "has several ports" };
        bail!("Service {namespace}/{name} {which}; it has {}", there.join(", "));
    };
    Ok((**at, port.protocol))
}

/// The cluster IPs and ports of a Service.
fn cluster_ips<'a>(
    listing: &'a Listing,
    namespace: &str,
    name: &str,
) -> BTreeMap<&'a ServicePortName, SocketAddr> {
    let is_it = |of: &&ServicePortName| *of.namespace == *namespace && *of.service == *name;
    let ports = listing.services.iter();
    let ports =
        ports.filter_map(|(name, frontends)| Some((name.as_ref().filter(is_it)?, frontends)));
    let cluster_ips = ports.flat_map(|(name, frontends)| {
        let cluster_ips = frontends.iter().filter(|(_, of)| of.kind == FrontendKind::ClusterIP);
        cluster_ips.filter_map(move |(frontend, _)| Some((name, frontend.socket()?)))
    });
    cluster_ips.collect()
}

fn described(name: &ServicePortName, at: SocketAddr) -> String {
    let space = if name.port.is_empty() { "" } else { " " };
    format!("{}{space}{}/{}", name.port, at.port(), name.protocol.name())
}
