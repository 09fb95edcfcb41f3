//! Routes and bridges of this host.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use rulegen_inspect::explain::{
    HairpinFact, HostNetwork, PathObstacle, Place, RouteFact, RouteFailure, RouteQuery,
};
use rulegen_kernel::interfaces::{Direction, Interfaces};
use rulegen_kernel::ipsec;
use rulegen_kernel::routes::{self, OutRoute, Route, RouteError, Routes, RuleSelectors};
use rulegen_net::{IpFamily, Protocol};
use rulegen_os::bridges::{BridgePort, Mac, bridges, forwarding_ports};
use rulegen_os::sysctl::{InterfaceSetting, Sysctl, ipv6_interface_setting};
use rulegen_ruleset::{Origin, Packet};

use super::obstacles;

/// The network of this host.
pub(super) struct LiveNetwork {
    routes: RefCell<Routes>,
    interfaces: RefCell<Interfaces>,
    /// What policy routing depends on, for IPv4 and IPv6.
    selectors: [OnceCell<RuleSelectors>; 2],
    has_ipsec: OnceCell<bool>,
    at_interfaces: RefCell<BTreeMap<(String, Direction), Vec<PathObstacle>>>,
}

impl LiveNetwork {
    pub(super) fn open() -> Result<Self> {
        const FAILED: &str = "cannot ask the kernel for routes and interfaces (rtnetlink)";
        Ok(Self {
            routes: RefCell::new(Routes::open().context(FAILED)?),
            interfaces: RefCell::new(Interfaces::open().context(FAILED)?),
            selectors: Default::default(),
            has_ipsec: OnceCell::new(),
            at_interfaces: RefCell::default(),
        })
    }

    /// Where a packet enters, if it takes the route back to its source.
    pub(super) fn origin(&self, source: IpAddr, destination: IpAddr) -> Origin {
        self.routes.borrow_mut().origin(source, destination)
    }

    /// The output interface of a packet to an address.
    pub(super) fn out_interface(&self, packet: &Packet, to: IpAddr) -> Option<String> {
        let in_interface = match &packet.origin {
            Origin::Interface(name) => Some(name.as_str()),
            Origin::UnknownInterface => return None,
            Origin::Host => None,
        };
        let to_port = (packet.destination.port() != 0)
            .then_some((packet.protocol, packet.destination.port()));
        let from = packet.source;
        match self.route(&RouteQuery { from, to, to_port, in_interface, mark: Some(0) }) {
            RouteFact::Out(name) => Some(name),
            // A packet of this host to itself leaves through loopback.
            RouteFact::Local => Some(if in_interface.is_none() { "lo" } else { "" }.to_owned()),
            RouteFact::OneOf(_) | RouteFact::Failed(_) | RouteFact::Unknown => None,
        }
    }

    /// Whether the routing decision depends on something about the packet that is not known.
    fn is_unknown(&self, query: &RouteQuery<'_>) -> bool {
        let RouteQuery { to, to_port, in_interface, mark, .. } = *query;
        let [ipv4, ipv6] = &self.selectors;
        let (cell, family) = match to {
            IpAddr::V4(_) => (ipv4, IpFamily::Ipv4),
            IpAddr::V6(_) => (ipv6, IpFamily::Ipv6),
        };
        let RuleSelectors { mark: marks, to_port: ports, user, others } = *cell.get_or_init(|| {
            let all = RuleSelectors { mark: true, to_port: true, user: true, others: true };
            self.routes.borrow_mut().selectors(family).unwrap_or(all)
        });
        let has_port = matches!(to_port, Some((Protocol::Tcp | Protocol::Udp, _)));
        others || marks && mark != Some(0) || ports && !has_port || user && in_interface.is_none()
    }

    /// Read once: a Service may have many endpoints behind one interface.
    fn at_interface(&self, name: &str, direction: Direction) -> Vec<PathObstacle> {
        let mut known = self.at_interfaces.borrow_mut();
        let found = known.entry((name.to_owned(), direction)).or_insert_with(|| {
            let interfaces = &mut self.interfaces.borrow_mut();
            let found = match direction {
                Direction::Ingress => obstacles::of_input(interfaces, name),
                Direction::Egress => obstacles::of_output(interfaces, name),
            };
            found.into_iter().chain(self.ipsec()).collect()
        });
        found.clone()
    }

    /// A kernel that does not tell may have policies.
    fn ipsec(&self) -> Option<PathObstacle> {
        let has_policies = *self.has_ipsec.get_or_init(|| ipsec::has_policies().unwrap_or(true));
        has_policies.then_some(PathObstacle::Ipsec)
    }

    fn mac(&self, interface: &str, ip: IpAddr) -> Option<Mac> {
        self.routes.borrow_mut().neighbour(interface, ip).ok()??.mac
    }
}

impl HostNetwork for LiveNetwork {
    fn route(&self, query: &RouteQuery<'_>) -> RouteFact {
        let RouteQuery { from, to, in_interface, .. } = *query;
        if self.is_unknown(query) {
            return RouteFact::Unknown;
        }
        if to.is_ipv6() && in_interface.is_some_and(has_no_ipv6) {
            return RouteFact::Failed(RouteFailure::Ipv6Disabled);
        }
        match self.routes.borrow_mut().lookup(&request(query)) {
            Ok(Some(Route::Out(_)))
                if to.is_ipv6() && in_interface.is_some_and(is_off_for_ipv6) =>
            {
                RouteFact::Failed(RouteFailure::ForwardingOff)
            }
            Ok(Some(Route::Out(_))) if in_interface.is_some() && is_link_local(from) => {
                RouteFact::Failed(RouteFailure::LinkLocalSource)
            }
            Ok(Some(Route::Out(out))) => through(out),
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
        let Ok(ports) = forwarding_ports(bridge, to.is_ipv6()) else {
            return HairpinFact::Unknown;
        };
        hairpin(&ports, self.mac(bridge, from), self.mac(bridge, to))
    }

    fn obstacles(&self, place: &Place<'_>) -> Vec<PathObstacle> {
        match place {
            Place::In(name) => self.at_interface(name, Direction::Ingress),
            Place::Out(name) => self.at_interface(name, Direction::Egress),
            Place::Route(query) => {
                obstacles::of_route(&mut self.routes.borrow_mut(), &request(query))
            }
            Place::ConnectionTracking => obstacles::of_connection_tracking(),
            Place::Error(family) => obstacles::of_error(*family),
        }
    }
}

/// Only rules of policy routing read a mark, and then the decision is unknown.
fn request<'a>(query: &RouteQuery<'a>) -> routes::RouteRequest<'a> {
    let RouteQuery { from, to, to_port, in_interface, .. } = *query;
    routes::RouteRequest { from, to, in_interface, to_port, mark: 0 }
}

fn through(out: OutRoute) -> RouteFact {
    let OutRoute { interface, mut multipath, .. } = out;
    multipath.sort_unstable();
    multipath.dedup();
    if multipath.len() > 1 { RouteFact::OneOf(multipath) } else { RouteFact::Out(interface) }
}

/// `ports` are those of a bridge that forwards the packet itself, `from` and `to` the hardware
/// addresses of the sender and the receiver, if the kernel knows them.
fn hairpin(ports: &[BridgePort], from: Option<Mac>, to: Option<Mac>) -> HairpinFact {
    let port_of = |mac: Option<Mac>| {
        ports.iter().find(|port| mac.is_some_and(|mac| port.macs.contains(&mac)))
    };
    match (port_of(from), port_of(to)) {
        (Some(from), Some(to)) if from.is_isolated && to.is_isolated => {
            HairpinFact::Isolated { from: from.name.clone(), to: to.name.clone() }
        }
        (Some(from), Some(to)) if from.name != to.name => HairpinFact::Works,
        (Some(port), _) | (_, Some(port)) if port.has_hairpin && !port.is_isolated => {
            HairpinFact::Works
        }
        (Some(port), Some(_)) if port.has_hairpin => HairpinFact::Works,
        (Some(port), Some(_)) => HairpinFact::Dropped { port: port.name.clone() },
        _ if ports.iter().all(|port| port.has_hairpin && !port.is_isolated) => HairpinFact::Works,
        _ => HairpinFact::Unknown,
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

fn is_off_for_ipv6(interface: &str) -> bool {
    // Linux 6.17 has a setting that forwards for single interfaces.
    let is_forced = ipv6_interface_setting(interface, "force_forwarding") == Some(1);
    Sysctl::IPV6_FORWARDING.read_if_there().ok().flatten() == Some(0) && !is_forced
}

fn has_no_ipv6(interface: &str) -> bool {
    ipv6_interface_setting(interface, "disable_ipv6") == Some(1)
}

/// The routing decision does not depend on it, but IPv6 does not forward it (ip6_forward()).
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use rulegen_os::bridges::PortState;

    use super::*;

    #[test]
    fn explain_hairpin_is_dropped_by_port_of_both_addresses() {
        let [pod, other] = [1, 2].map(|last| Some([2, 0, 0, 0, 0, last]));
        let port = |name: &str, has_hairpin, macs: &[u8]| BridgePort {
            name: name.to_owned(),
            has_hairpin,
            is_isolated: false,
            state: PortState::Forwarding,
            macs: macs.iter().map(|last| [2, 0, 0, 0, 0, *last]).collect(),
        };
        let dropped = HairpinFact::Dropped { port: "veth1".to_owned() };
        let off = |macs: &[u8]| port("veth1", false, macs);
        for (ports, from, to, wanted) in [
            (vec![], pod, pod, HairpinFact::Works),
            (vec![off(&[1])], pod, pod, dropped.clone()),
            (vec![off(&[2])], pod, pod, HairpinFact::Unknown),
            (vec![off(&[1, 2])], pod, other, dropped),
            (vec![off(&[1]), port("veth2", false, &[2])], pod, other, HairpinFact::Works),
            // The other pod may be behind the same port.
            (vec![off(&[1]), port("veth2", false, &[])], pod, other, HairpinFact::Unknown),
            (vec![off(&[]), port("veth2", false, &[])], None, None, HairpinFact::Unknown),
            (vec![port("veth1", true, &[1, 2]), off(&[])], pod, other, HairpinFact::Works),
            (vec![port("veth1", true, &[1]), off(&[])], pod, None, HairpinFact::Works),
            (vec![port("veth1", true, &[])], None, None, HairpinFact::Works),
        ] {
            assert_eq!(hairpin(&ports, from, to), wanted, "{ports:?} {from:?} {to:?}");
        }

        let isolated =
            |name: &str, macs: &[u8]| BridgePort { is_isolated: true, ..port(name, true, macs) };
        let between = |from: &str, to: &str| HairpinFact::Isolated {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let (one, two) = (isolated("veth1", &[1]), isolated("veth2", &[2]));
        assert_eq!(hairpin(&[one.clone(), two.clone()], pod, other), between("veth1", "veth2"));
        assert_eq!(hairpin(&[one.clone(), two.clone()], pod, pod), between("veth1", "veth1"));
        assert_eq!(
            hairpin(&[one.clone(), port("veth2", true, &[2])], pod, other),
            HairpinFact::Works
        );
        assert_eq!(hairpin(&[one, two], pod, None), HairpinFact::Unknown);
    }
}
