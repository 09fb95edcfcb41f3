//! What packets meet on this host besides rules and routes, and explain does not evaluate.

use std::net::IpAddr;

use rulegen_inspect::explain::PathObstacle;
use rulegen_kernel::cgroup::{SocketPrograms, socket_programs};
use rulegen_kernel::conntrack::Fill;
use rulegen_kernel::interfaces::{Direction, Interfaces, Link};
use rulegen_kernel::routes::{OutRoute, Route, RouteRequest, Routes};
use rulegen_net::IpFamily;
use rulegen_os::bridges::lower_interfaces;
use rulegen_os::ipvs;
use rulegen_os::sysctl::error_limit;

/// Kinds of interfaces that put packets into others, which the host or a process then sends.
const TUNNELS: [&str; 18] = [
    "bareudp",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "tun",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
];

/// What a packet meets at its input interface and those below it.
pub(super) fn of_input(interfaces: &mut Interfaces, name: &str) -> Vec<PathObstacle> {
    let all = with_lower(name);
    let mut with_xdp = all.clone();
    with_xdp.retain(|name| link(interfaces, name).is_some_and(|link| link.has_xdp));
    let mut found = Vec::new();
    if !with_xdp.is_empty() {
        found.push(PathObstacle::Xdp(with_xdp));
    }
    found.extend(filters(interfaces, &all, Direction::Ingress));
    if let Some(link) = link(interfaces, name) {
        found.extend(state(name, &link));
        found.extend(master(name, &link));
    }
    found
}

/// What a packet meets at its output interface and those below it.
pub(super) fn of_output(interfaces: &mut Interfaces, name: &str) -> Vec<PathObstacle> {
    let all = with_lower(name);
    let mut found = filters(interfaces, &all, Direction::Egress);
    let mut shapers = Vec::new();
    for of in &all {
        let kinds = interfaces.shapers(of).unwrap_or_default();
        shapers.extend(kinds.into_iter().map(|kind| (of.clone(), kind)));
    }
    if !shapers.is_empty() {
        let (mut interfaces, mut kinds): (Vec<_>, Vec<_>) = shapers.into_iter().unzip();
        interfaces.dedup();
        kinds.sort_unstable();
        kinds.dedup();
        found.push(PathObstacle::Shapers { interfaces, kinds });
    }
    if let Some(link) = link(interfaces, name) {
        found.extend(state(name, &link));
        if TUNNELS.contains(&link.kind.as_str()) {
            found.push(PathObstacle::Tunnel(name.to_owned()));
        }
        found.extend(master(name, &link));
    }
    found
}

/// What a packet meets on its route.
pub(super) fn of_route(
    routes: &mut Routes,
    interfaces: &mut Interfaces,
    request: &RouteRequest<'_>,
) -> Vec<PathObstacle> {
    let to = request.to;
    let out = match routes.lookup(request) {
        Ok(Some(Route::Out(out))) => out,
        Ok(_) => return Vec::new(),
        Err(_) => return vec![PathObstacle::UnknownRoute(to)],
    };
    let OutRoute { interface, gateway, multipath, encapsulates, has_entry } = out;
    if !multipath.is_empty() {
        return vec![PathObstacle::NextHops { to, interfaces: multipath }];
    }
    let unknown = (!has_entry).then_some(PathObstacle::UnknownRoute(to));
    let neighbour = unknown_neighbour(routes, interfaces, interface, gateway.unwrap_or(to));
    let encapsulation = encapsulates.then_some(PathObstacle::Encapsulation(to));
    unknown.into_iter().chain(neighbour).chain(encapsulation).collect()
}

/// The kernel first searches a neighbour whose hardware address it does not know.
fn unknown_neighbour(
    routes: &mut Routes,
    interfaces: &mut Interfaces,
    interface: String,
    ip: IpAddr,
) -> Option<PathObstacle> {
    if link(interfaces, &interface).is_some_and(|link| !link.searches_neighbours) {
        return None;
    }
    let neighbour = routes.neighbour(&interface, ip).ok().flatten();
    let is_valid = neighbour.is_some_and(|neighbour| neighbour.is_valid);
    (!is_valid).then_some(PathObstacle::NoNeighbour { ip, interface })
}

/// What takes packets over anywhere on this host.
pub(super) fn of_host() -> Vec<PathObstacle> {
    let ipvs = match ipvs::has_services() {
        Ok(has_services) => has_services.then_some(PathObstacle::Ipvs),
        Err(_) => Some(PathObstacle::UnreadIpvs),
    };
    let programs = match socket_programs() {
        Ok(SocketPrograms::None) => None,
        Ok(SocketPrograms::OfAll) => Some(PathObstacle::SocketPrograms),
        Ok(SocketPrograms::OfPods(cgroups)) => Some(PathObstacle::PodSocketPrograms(cgroups)),
        Err(_) => Some(PathObstacle::UnreadSocketPrograms),
    };
    ipvs.into_iter().chain(programs).collect()
}

/// The kernel drops the first packet of a connection for which the conntrack table has no room.
pub(super) fn of_connection_tracking() -> Vec<PathObstacle> {
    Fill::read().ok().flatten().and_then(nearly_full).into_iter().collect()
}

fn nearly_full(fill: Fill) -> Option<PathObstacle> {
    let Fill { count, max, .. } = fill;
    fill.is_nearly_full().then_some(PathObstacle::FullTable { count, max })
}

pub(super) fn of_error(family: IpFamily) -> Vec<PathObstacle> {
    error_limit(family == IpFamily::Ipv6).map(PathObstacle::ErrorRate).into_iter().collect()
}

fn with_lower(name: &str) -> Vec<String> {
    [vec![name.to_owned()], lower_interfaces(name)].concat()
}

fn link(interfaces: &mut Interfaces, name: &str) -> Option<Link> {
    interfaces.link(name).ok().flatten()
}

fn filters(interfaces: &mut Interfaces, all: &[String], direction: Direction) -> Vec<PathObstacle> {
    let (mut with_filters, mut is_unknown) = (Vec::new(), false);
    for name in all {
        match interfaces.has_filters(name, direction) {
            Ok(true) => with_filters.push(name.clone()),
            Ok(false) => {}
            Err(_) => is_unknown = true,
        }
    }
    let known = (!with_filters.is_empty()).then_some(PathObstacle::Filters(with_filters));
    known.or(is_unknown.then_some(PathObstacle::UnlistedFilters)).into_iter().collect()
}

/// Why an interface neither sends nor receives.
fn state(name: &str, link: &Link) -> Option<PathObstacle> {
    match link {
        Link { is_up: false, .. } => Some(PathObstacle::InterfaceDown(name.to_owned())),
        Link { has_carrier: false, .. } => Some(PathObstacle::NoCarrier(name.to_owned())),
        _ => None,
    }
}

/// A bridge is followed. Packets of other devices are not seen at the interface itself.
fn master(name: &str, link: &Link) -> Option<PathObstacle> {
    let master = link.master.clone()?;
    Some(PathObstacle::Master { interface: name.to_owned(), master })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_conntrack_table_is_a_condition_from_90_percent() {
        for (count, max, is_nearly_full) in
            [(0, 0, false), (899, 1000, false), (900, 1000, true), (1000, 1000, true)]
        {
            let found = nearly_full(Fill { count, max, ..Fill::default() });
            assert_eq!(found, is_nearly_full.then_some(PathObstacle::FullTable { count, max }));
        }
    }
}
