//! Routes and bridges of this host.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rulegen_inspect::explain::{
    HairpinFact, HostNetwork, PathObstacle, PathStage, Reason, Remark, RemarkSubject, RouteFact,
    RouteFailure, RouteInput, RouteQuery,
};
use rulegen_kernel::interfaces::{Direction, Interfaces};
use rulegen_kernel::ipsec;
use rulegen_kernel::routes::{self, OutRoute, Route, RouteError, Routes, RuleSelectors};
use rulegen_net::{IpFamily, Protocol};
use rulegen_os::bridges::{BridgePort, Mac, bridges, forwarding_ports};
use rulegen_os::sysctl::{InterfaceSetting, Sysctl, ipv6_interface_setting};
use rulegen_ruleset::{Origin, Packet};

use super::error::LiveError;
use super::obstacles;

/// The interface through which packets come in.
pub struct InputInterface {
    /// Its name.
    pub interface: String,
    /// Why it is not the one that was named.
    pub remark: Option<Remark>,
}

/// The network of this host.
pub(super) struct LiveNetwork {
    routes: RefCell<Routes>,
    interfaces: RefCell<Interfaces>,
    /// What policy routing depends on, for IPv4 and IPv6.
    selectors: [OnceCell<RuleSelectors>; 2],
    has_ipsec: OnceCell<bool>,
    of_host: OnceCell<Vec<PathObstacle>>,
    at_interfaces: RefCell<BTreeMap<(String, Direction), Vec<PathObstacle>>>,
}

impl LiveNetwork {
    pub(super) fn open() -> Result<Self, LiveError> {
        Ok(Self {
            routes: RefCell::new(Routes::open().map_err(LiveError::Network)?),
            interfaces: RefCell::new(Interfaces::open().map_err(LiveError::Network)?),
            selectors: Default::default(),
            has_ipsec: OnceCell::new(),
            of_host: OnceCell::new(),
            at_interfaces: RefCell::default(),
        })
    }

    /// Where a packet enters, if it takes the route back to its source.
    pub(super) fn origin(&self, source: IpAddr, destination: IpAddr) -> Origin {
        self.routes.borrow_mut().origin(source, destination)
    }

    /// The interface through which packets of a named one come in: the bridge or bond that has it as a
    /// port.
    pub(super) fn input(&self, name: &str) -> Result<InputInterface, LiveError> {
        let found = self.interfaces.borrow_mut().input(name);
        let found = found.map_err(|error| LiveError::Interface(name.to_owned(), error))?;
        let interface = found.ok_or_else(|| LiveError::NoInterface(name.to_owned()))?;
        let remark = (interface != name).then(|| {
            let (port, master) = (name.to_owned(), interface.clone());
            Remark::new(RemarkSubject::Input, Reason::PortOfMaster { port, master })
        });
        Ok(InputInterface { interface, remark })
    }

    /// The output interface of a packet to an address.
    pub(super) fn out_interface(&self, packet: &Packet, to: IpAddr) -> Option<String> {
        let input = match &packet.origin {
            Origin::Interface(name) => RouteInput::Interface(name),
            Origin::UnknownInterface => return None,
            Origin::Host => RouteInput::Host,
        };
        let to_port = (packet.destination.port() != 0)
            .then_some((packet.protocol, packet.destination.port()));
        let from = packet.source;
        match self.route(&RouteQuery { from, to, to_port, input, mark: Some(0) }) {
            RouteFact::Out(name) => Some(name),
            // A packet of this host to itself leaves through loopback.
            RouteFact::Local => Some(if input == RouteInput::Host { "lo" } else { "" }.to_owned()),
            RouteFact::OneOf(_) | RouteFact::Failed(_) | RouteFact::Unknown => None,
        }
    }

    /// Whether the routing decision depends on something about the packet that is not known.
    fn is_unknown(&self, query: &RouteQuery<'_>) -> bool {
        let RouteQuery { from, to, to_port, input, mark, .. } = *query;
        let RuleSelectors { mark: marks, to_port: ports, user, in_interface, source, others } =
            self.selectors(IpFamily::of(to));
        let has_port = matches!(to_port, Some((Protocol::Tcp | Protocol::Udp, _)));
        let depends = match input {
            RouteInput::Host => user,
            RouteInput::Interface(_) => false,
            // Whichever route it takes, it is not forwarded.
            RouteInput::UnknownInterface if is_link_local(from) => false,
            // The lookup is that of a packet of this host.
            RouteInput::UnknownInterface => user || in_interface || source,
        };
        others || marks && mark != Some(0) || ports && !has_port || depends
    }

    fn selectors(&self, family: IpFamily) -> RuleSelectors {
        let [ipv4, ipv6] = &self.selectors;
        let cell = match family {
            IpFamily::Ipv4 => ipv4,
            IpFamily::Ipv6 => ipv6,
        };
        *cell.get_or_init(|| {
            let all = RuleSelectors {
                mark: true,
                to_port: true,
                user: true,
                in_interface: true,
                source: true,
                others: true,
            };
            self.routes.borrow_mut().selectors(family).unwrap_or(all)
        })
    }

    fn received(&self, query: &RouteQuery<'_>, in_interface: &str) -> RouteFact {
        let to = query.to;
        if to.is_ipv6() && has_no_ipv6(in_interface) {
            return RouteFact::Failed(RouteFailure::Ipv6Disabled);
        }
        match self.lookup(query) {
            Ok(Some(Route::Out(_))) if to.is_ipv6() && is_off_for_ipv6(in_interface) => {
                RouteFact::Failed(RouteFailure::ForwardingOff)
            }
            Ok(Some(Route::None(RouteError::Invalid)))
                if self.is_reverse_path(query, in_interface) =>
            {
                RouteFact::Failed(RouteFailure::ReversePath)
            }
            Ok(Some(Route::None(error))) => not_received(error, in_interface, to),
            found => fact(found),
        }
    }

    /// What holds for each interface: whether the packet is forwarded, and where to.
    fn received_somewhere(&self, query: &RouteQuery<'_>) -> RouteFact {
        if query.to.is_loopback() {
            return RouteFact::Unknown;
        }
        match self.lookup(query) {
            Ok(Some(Route::Out(_))) if is_off_everywhere(query.to) => {
                RouteFact::Failed(RouteFailure::ForwardingOff)
            }
            Ok(Some(Route::None(error @ RouteError::Unreachable(_)))) => failed(error),
            Ok(Some(Route::None(_))) => RouteFact::Unknown,
            found => fact(found),
        }
    }

    fn lookup(&self, query: &RouteQuery<'_>) -> io::Result<Option<Route>> {
        self.routes.borrow_mut().lookup(&request(query))
    }

    /// Whether the reverse-path filter drops a packet that the kernel calls invalid. Its other
    /// reasons are addresses that cannot be a source or destination there, and blackhole routes.
    fn is_reverse_path(&self, query: &RouteQuery<'_>, in_interface: &str) -> bool {
        let RouteQuery { from, to, .. } = *query;
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (from, to) else { return false };
        let mode = rp_filter(in_interface);
        let is_martian =
            is_martian_source(source) || is_never_routed(destination) || destination.is_loopback();
        if mode == 0 || is_martian {
            return false;
        }
        let sent = RouteQuery { from: any(to), input: RouteInput::Host, ..*query };
        let has_route = matches!(self.lookup(&sent), Ok(Some(Route::Out(_) | Route::Local)));
        let back = RouteQuery { from: any(to), to: from, input: RouteInput::Host, ..*query };
        has_route
            && match self.lookup(&back) {
                Ok(Some(Route::None(_))) => true,
                // The loose mode accepts any route back.
                Ok(Some(Route::Out(_))) if mode == LOOSE => false,
                Ok(Some(Route::Out(out))) => {
                    matches!(through(out), RouteFact::Out(back) if back != in_interface)
                }
                _ => false,
            }
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
        if self.is_unknown(query) {
            return RouteFact::Unknown;
        }
        let found = match query.input {
            RouteInput::Interface(name) => self.received(query, name),
            RouteInput::UnknownInterface => self.received_somewhere(query),
            RouteInput::Host => return fact(self.lookup(query)),
        };
        match found {
            RouteFact::Out(_) | RouteFact::OneOf(_) if is_link_local(query.from) => {
                RouteFact::Failed(RouteFailure::LinkLocalSource)
            }
            found => found,
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

    fn obstacles(&self, place: &PathStage<'_>) -> Vec<PathObstacle> {
        match place {
            PathStage::In(name) => self.at_interface(name, Direction::Ingress),
            PathStage::Out(name) => self.at_interface(name, Direction::Egress),
            PathStage::Route(query) => {
                let mut routes = self.routes.borrow_mut();
                obstacles::of_route(&mut routes, &mut self.interfaces.borrow_mut(), &request(query))
            }
            PathStage::Host => self.of_host.get_or_init(obstacles::of_host).clone(),
            PathStage::ConnectionTracking => obstacles::of_connection_tracking(),
            PathStage::Error(family) => obstacles::of_error(*family),
        }
    }
}

/// Only rules of policy routing read a mark, and then the decision is unknown. The kernel looks up
/// no route for an unknown interface: that of a packet of this host stands for it.
fn request<'a>(query: &RouteQuery<'a>) -> routes::RouteRequest<'a> {
    let RouteQuery { from, to, input, to_port, .. } = *query;
    let (from, in_interface) = match input {
        RouteInput::Interface(name) => (from, Some(name)),
        // Routes of IPv6 may be for some sources only. The kernel takes any source for IPv6, and for IPv4
        // only its own addresses. It routes no link-local source without an interface.
        RouteInput::UnknownInterface if to.is_ipv6() && !is_link_local(from) => (from, None),
        RouteInput::UnknownInterface => (any(to), None),
        RouteInput::Host => (from, None),
    };
    routes::RouteRequest { from, to, in_interface, to_port, mark: 0 }
}

/// The address that stands for any of a family.
fn any(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn fact(found: io::Result<Option<Route>>) -> RouteFact {
    match found {
        Ok(Some(Route::Out(out))) => through(out),
        Ok(Some(Route::Local)) => RouteFact::Local,
        Ok(Some(Route::None(error))) => failed(error),
        // A broadcast, an unknown interface, or no answer.
        Ok(Some(Route::Several) | None) | Err(_) => RouteFact::Unknown,
    }
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

/// Why a packet is not routed that comes in through an interface.
fn not_received(error: RouteError, in_interface: &str, to: IpAddr) -> RouteFact {
    let is_off = to.is_ipv4() && is_off_for_ipv4(in_interface);
    match error {
        // A bridge that passes packets to the rules forwards them itself.
        RouteError::Unreachable(_) if is_off && is_bridge(in_interface) => RouteFact::Unknown,
        RouteError::Unreachable(_) if is_off => RouteFact::Failed(RouteFailure::ForwardingOff),
        error => failed(error),
    }
}

fn failed(error: RouteError) -> RouteFact {
    RouteFact::Failed(match error {
        RouteError::Unreachable(error) => RouteFailure::NoRoute(error),
        RouteError::ReversePath => RouteFailure::ReversePath,
        RouteError::Invalid => RouteFailure::Martian,
        RouteError::Other(_) => return RouteFact::Unknown,
    })
}

fn is_bridge(interface: &str) -> bool {
    bridges().is_ok_and(|all| all.iter().any(|bridge| bridge.name == interface))
}

/// Whether no interface forwards packets of the destination's family. A bridge that passes packets to
/// the rules forwards them itself.
fn is_off_everywhere(to: IpAddr) -> bool {
    let has_bridge = bridges().is_ok_and(|all| !all.is_empty());
    let interfaces = InterfaceSetting::Forwarding.of_interfaces().unwrap_or_default();
    let is_off = |(name, value): &(String, u64)| match to {
        IpAddr::V4(_) => *value == 0,
        IpAddr::V6(_) => is_off_for_ipv6(name),
    };
    !has_bridge && !interfaces.is_empty() && interfaces.iter().all(is_off)
}

/// The value of rp_filter for the loose mode (RFC 3704).
const LOOSE: u64 = 2;

/// The effective value of rp_filter.
fn rp_filter(interface: &str) -> u64 {
    let values = InterfaceSetting::RpFilter.of_interfaces().unwrap_or_default();
    values.into_iter().find(|(name, _)| name == interface).map_or(0, |(_, value)| value)
}

/// Sources that the kernel does not accept on any interface (ip_route_input_slow()).
fn is_martian_source(ip: Ipv4Addr) -> bool {
    ip.is_multicast() || ip.is_loopback() || is_never_routed(ip)
}

/// Since Linux 5.3 the rest of 0.0.0.0/8 is like other networks (ipv4_is_zeronet()).
fn is_never_routed(ip: Ipv4Addr) -> bool {
    ip.is_unspecified() || ip.is_broadcast()
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

/// The routing decision does not depend on it, but IPv6 does not forward it (ip6_forward()). It is
/// received if a route says so, as one of type local for addresses that the host does not have.
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
