//! The packet's source and destination: addresses, or Services and pods by their names.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use rulegen_inspect::explain::{Destination, ServiceState, resolve, resolve_ip, service_state};
use rulegen_inspect::listing::Listing;
use rulegen_model::Cluster;
use rulegen_net::{FrontendKind, IpFamily, Protocol, ServicePortName, ServiceRef};

use super::rules::ExplainedRules;
use crate::WrongUsage;
use crate::args::{ExplainArgs, FamilyChoice, SenderArgument};

/// Whether a pod may be named.
pub(super) fn may_name_pods(args: &ExplainArgs) -> bool {
    let is_named =
        matches!(args.to, Destination::Service(_) | Destination::Ping(_) | Destination::Pod(_));
    is_named || matches!(args.from, SenderArgument::Pod(..))
}

/// Fails with [`rulegen_inspect::explain::UnresolvedService`] if the Service has no address here.
pub(super) fn of(
    args: &ExplainArgs,
    family: IpFamily,
    rules: &ExplainedRules,
    cluster: Option<&Cluster>,
) -> Result<(SocketAddr, Protocol)> {
    let to = match &args.to {
        Destination::Address(address, protocol) => (*address, *protocol),
        Destination::WithoutPort(ip, _) => Destination::stand_in(*ip),
        Destination::Ping(service) => {
            let state = || state(service, cluster);
            let ip = match resolve_ip(service, family, cluster_ips(&rules.listing()), state) {
                Err(error) if error.is_unknown() => {
                    pod_ip(service, family, cluster).ok_or(error)?
                }
                resolved => resolved?,
            };
            Destination::stand_in(ip)
        }
        Destination::Pod(pod) => pod_port(pod, family, cluster)?.with_context(|| {
            format!(
                "no Pod or EndpointSlice (targetRef) in the input has an {} address of pod {}/{}: \
                 give --to its IP address and port",
                family.api_name(),
                pod.namespace,
                pod.name
            )
        })?,
        Destination::Service(service) => {
            let state = || state(service, cluster);
            match resolve(service, family, cluster_ips(&rules.listing()), state) {
                Ok(to) => to,
                Err(error) if error.is_unknown() => {
                    pod_port(service, family, cluster)?.ok_or(error)?
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    if IpFamily::of(to.0.ip()) != family {
        return Err(WrongUsage("--from and --to have different IP families".to_owned()).into());
    }
    Ok(to)
}

/// The address of the sender. For a pod, in the chosen family, or that of the destination if that
/// is an address.
pub(super) fn source(args: &ExplainArgs, cluster: Option<&Cluster>) -> Result<IpAddr> {
    let chosen = chosen_family(args);
    let (namespace, name) = match &args.from {
        SenderArgument::Address(ip) => return of_chosen_family(*ip, chosen),
        SenderArgument::Pod(namespace, name) => (namespace, name),
    };
    let addresses = pod_addresses(cluster, namespace, name);
    let family = chosen.or(match &args.to {
        Destination::Address(to, _) => Some(IpFamily::of(to.ip())),
        Destination::WithoutPort(ip, _) => Some(IpFamily::of(*ip)),
        Destination::Service(_) | Destination::Ping(_) | Destination::Pod(_) => None,
    });
    let is_of_family = |ip: &&IpAddr| family.is_none_or(|family| IpFamily::of(**ip) == family);
    addresses.iter().find(is_of_family).copied().with_context(|| {
        let kind = family.map_or(String::new(), |family| format!("{} ", family.api_name()));
        format!(
            "no Pod or EndpointSlice (targetRef) in the input has an {kind}address of pod \
             {namespace}/{name}: give --from its IP address"
        )
    })
}

fn chosen_family(args: &ExplainArgs) -> Option<IpFamily> {
    match args.ip_family {
        Some(FamilyChoice::Ipv4) => Some(IpFamily::Ipv4),
        Some(FamilyChoice::Ipv6) => Some(IpFamily::Ipv6),
        Some(FamilyChoice::Dual) | None => None,
    }
}

fn of_chosen_family(ip: IpAddr, chosen: Option<IpFamily>) -> Result<IpAddr> {
    match chosen.filter(|family| *family != IpFamily::of(ip)) {
        None => Ok(ip),
        Some(family) => {
            let message =
                format!("--from {ip} is not an {} address (--ip-family)", family.api_name());
            Err(WrongUsage(message).into())
        }
    }
}

/// The address of the pod with this name, and the port number.
fn pod_port(
    of: &ServiceRef,
    family: IpFamily,
    cluster: Option<&Cluster>,
) -> Result<Option<(SocketAddr, Protocol)>> {
    let Some(ip) = pod_ip(of, family, cluster) else { return Ok(None) };
    let port = of.port.as_ref().and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| {
        WrongUsage(format!("{of} is a pod: give the number of its port, as in {of}:8080"))
    })?;
    Ok(Some((SocketAddr::new(ip, port), of.protocol.unwrap_or(Protocol::Tcp))))
}

fn pod_ip(of: &ServiceRef, family: IpFamily, cluster: Option<&Cluster>) -> Option<IpAddr> {
    let addresses = pod_addresses(cluster, &of.namespace, &of.name);
    addresses.into_iter().find(|ip| IpFamily::of(*ip) == family)
}

fn pod_addresses(cluster: Option<&Cluster>, namespace: &str, name: &str) -> BTreeSet<IpAddr> {
    cluster.map(|of| of.objects.pod_addresses(namespace, name)).unwrap_or_default()
}

fn cluster_ips(listing: &Listing) -> impl Iterator<Item = (&ServicePortName, SocketAddr)> {
    let named = listing.services.iter().filter_map(|(name, of)| Some((name.as_ref()?, of)));
    named.flat_map(|(name, frontends)| {
        let cluster_ips = frontends.iter().filter(|(_, of)| of.kind == FrontendKind::ClusterIP);
        cluster_ips.filter_map(move |(frontend, _)| Some((name, frontend.socket()?)))
    })
}

/// The state of a Service without a cluster IP of the packet's family, from the objects.
fn state(of: &ServiceRef, cluster: Option<&Cluster>) -> ServiceState {
    cluster.map_or(ServiceState::NoObjects, |Cluster { objects, snapshot }| {
        service_state(of, objects, snapshot)
    })
}
