//! Routes and bridges of this host.

use std::cell::RefCell;
use std::net::IpAddr;

use anyhow::{Context, Result};
use rulegen_inspect::explain::{HairpinFact, HostNetwork, RouteFact, RouteFailure, RouteQuery};
use rulegen_kernel::routes::{self, Route, RouteError, Routes};
use rulegen_os::bridges::{PortWithoutHairpin, bridges, ports_without_hairpin};
use rulegen_os::sysctl::{InterfaceSetting, Sysctl};
use rulegen_ruleset::{Origin, Packet};

/// The network of this host.
pub(super) struct LiveNetwork {
    routes: RefCell<Routes>,
}

impl LiveNetwork {
    pub(super) fn open() -> Result<Self> {
        let routes = Routes::open().context("cannot ask the kernel for routes (rtnetlink)")?;
        Ok(Self { routes: RefCell::new(routes) })
    }

    /// The output interface of a packet to an address.
    pub(super) fn out_interface(&self, packet: &Packet, to: IpAddr) -> Option<String> {
        let in_interface = match &packet.origin {
            Origin::Interface(name) => Some(name.as_str()),
            Origin::Host => None,
        };
        let to_port = (packet.destination.port() != 0)
            .then_some((packet.protocol, packet.destination.port()));
        let from = packet.source;
        match self.route(&RouteQuery { from, to, to_port, in_interface, mark: Some(0) }) {
            RouteFact::Out(name) => Some(name),
            // A packet of this host to itself leaves through loopback.
            RouteFact::Local => Some(if in_interface.is_none() { "lo" } else { "" }.to_owned()),
            RouteFact::Failed(_) | RouteFact::Unknown => None,
        }
    }
}

impl HostNetwork for LiveNetwork {
    fn route(&self, query: &RouteQuery<'_>) -> RouteFact {
        let RouteQuery { from, to, to_port, in_interface, mark } = *query;
        let mut routes = self.routes.borrow_mut();
        if mark != Some(0) && routes.depend_on_marks(to.is_ipv6()).unwrap_or(true) {
            return RouteFact::Unknown;
        }
        let query = routes::RouteRequest { from, to, in_interface, to_port, mark: 0 };
        match routes.lookup(&query) {
            Ok(Some(Route::Out(_)))
                if to.is_ipv6() && in_interface.is_some_and(is_off_for_ipv6) =>
            {
                RouteFact::Failed(RouteFailure::ForwardingOff)
            }
            Ok(Some(Route::Out(_))) if in_interface.is_some() && is_link_local(from) => {
                RouteFact::Failed(RouteFailure::LinkLocalSource)
            }
            Ok(Some(Route::Out(name))) => RouteFact::Out(name),
            Ok(Some(Route::Local)) => RouteFact::Local,
            Ok(Some(Route::None(error))) => failed(error, in_interface, to),
            // A broadcast, an unknown interface, or no answer.
            Ok(Some(Route::Several) | None) | Err(_) => RouteFact::Unknown,
        }
    }

    fn hairpin(&self, bridge: &str, from: IpAddr, to: IpAddr) -> HairpinFact {
        if !is_bridge(bridge) {
            return HairpinFact::Works;
        }
        let Ok(ports) = ports_without_hairpin(to.is_ipv6()) else { return HairpinFact::Unknown };
        let of_bridge = ports.into_iter().filter(|port| port.bridge == bridge);
        hairpin(&of_bridge.collect::<Vec<_>>(), from, to)
    }
}

/// `ports` are those of the bridge without hairpin mode.
fn hairpin(ports: &[PortWithoutHairpin], from: IpAddr, to: IpAddr) -> HairpinFact {
    let is_behind = |port: &PortWithoutHairpin, ip| match ip {
        IpAddr::V4(ip) => port.neighbours.contains(&ip),
        IpAddr::V6(_) => false,
    };
    let both = ports.iter().find(|port| is_behind(port, from) && is_behind(port, to));
    match both {
        Some(PortWithoutHairpin { port, .. }) => HairpinFact::Dropped { port: port.clone() },
        None if ports.is_empty() || from != to => HairpinFact::Works,
        // It is behind a port with hairpin mode, or the kernel does not know it.
        None => HairpinFact::Unknown,
    }
}

fn failed(error: RouteError, in_interface: Option<&str>, to: IpAddr) -> RouteFact {
    let is_off = to.is_ipv4() && in_interface.is_some_and(is_off_for_ipv4);
    RouteFact::Failed(match error {
        // A bridge that passes packets to the rules forwards them itself.
        RouteError::Unreachable(_) if is_off && in_interface.is_some_and(is_bridge) => {
            return RouteFact::Unknown;
        }
        RouteError::Unreachable(_) if is_off => RouteFailure::ForwardingOff,
        RouteError::Unreachable(error) => RouteFailure::NoRoute(error),
        RouteError::ReversePath => RouteFailure::ReversePath,
        RouteError::Invalid => RouteFailure::Martian,
        RouteError::Other(_) => return RouteFact::Unknown,
    })
}

fn is_bridge(interface: &str) -> bool {
    bridges().is_ok_and(|all| all.iter().any(|bridge| bridge.name == interface))
}

fn is_off_for_ipv4(interface: &str) -> bool {
    let values = InterfaceSetting::Forwarding.of_interfaces().unwrap_or_default();
    values.iter().any(|(name, value)| name == interface && *value == 0)
}

fn is_off_for_ipv6(_: &str) -> bool {
    Sysctl::IPV6_FORWARDING.read_if_there().ok().flatten() == Some(0)
}

/// The routing decision does not depend on it, but IPv6 does not forward it (ip6_forward()).
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_hairpin_is_dropped_by_port_of_both_addresses() {
        let [pod, other]: [IpAddr; 2] = [[10, 244, 1, 5], [10, 244, 1, 6]].map(IpAddr::from);
        let port = |last: &[u8]| PortWithoutHairpin {
            bridge: "cni0".to_owned(),
            port: "veth1".to_owned(),
            neighbours: last.iter().map(|last| [10, 244, 1, *last].into()).collect(),
        };
        let dropped = HairpinFact::Dropped { port: "veth1".to_owned() };
        assert_eq!(hairpin(&[], pod, pod), HairpinFact::Works);
        assert_eq!(hairpin(&[port(&[5])], pod, pod), dropped);
        assert_eq!(hairpin(&[port(&[6])], pod, pod), HairpinFact::Unknown);
        assert_eq!(hairpin(&[port(&[5])], pod, other), HairpinFact::Works);
        assert_eq!(hairpin(&[port(&[5, 6])], pod, other), dropped);
    }
}
