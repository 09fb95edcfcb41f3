//! Where packets from an address enter this host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_indextoname;
use rulegen_os::host;
use rulegen_ruleset::Origin;

use super::{BODY, GET_ROUTE, RouteReply, RouteRequest, Routes, next_hops, route_request};
use crate::netlink::attribute;
use crate::rtnetlink::{ERROR, HEADER, RouteMessage};

impl Routes {
    /// The origin of a packet, if it takes the route back to its source. The route is that of a
    /// reply: all rules of policy routing count, also those for the source of the reply if that is
    /// an address of this host. The input interface is unknown if there is no route, or if there are
    /// several next hops behind different interfaces.
    pub fn origin(&mut self, source: IpAddr, destination: IpAddr) -> Origin {
        if let IpAddr::V6(ip) = source
            && ip.is_unicast_link_local()
        {
            return from_link_local();
        }
        let from = self.source_of_reply(destination);
        self.origin_by_route(source, from).unwrap_or(Origin::UnknownInterface)
    }

    /// IPv4 looks up routes only from addresses of this host, and to other hosts from none of
    /// loopback.
    fn source_of_reply(&self, destination: IpAddr) -> IpAddr {
        let is_own = || host::addresses().is_ok_and(|own| own.contains(&destination));
        match destination {
            IpAddr::V4(ip) if ip.is_loopback() || !is_own() => Ipv4Addr::UNSPECIFIED.into(),
            _ => destination,
        }
    }

    /// `None` if the kernel has no route, or does not answer.
    fn origin_by_route(&mut self, source: IpAddr, from: IpAddr) -> Option<Origin> {
        let reply = RouteRequest { from, to: source, in_interface: None, to_port: None, mark: 0 };
        let request = route_request(&reply, None, RouteReply::Entry);
        self.socket.ask(GET_ROUTE, &request, decode).ok()?
    }
}

fn decode(message: &RouteMessage<'_>) -> Option<Origin> {
    /// Offset of rtm_type.
    const TYPE: usize = HEADER + 7;
    // RTN_*.
    match (message.kind, *message.bytes.get(TYPE)?) {
        (ERROR, _) => None,
        (_, 1) => only_interface(&out_interfaces(message.bytes)),
        (_, 2) => Some(Origin::Host),
        _ => None,
    }
}

/// The interfaces of all next hops (RTA_OIF, RTA_MULTIPATH).
fn out_interfaces(message: &[u8]) -> BTreeSet<u32> {
    const OUTPUT: u16 = 4;
    const MULTIPATH: u16 = 9;
    let attribute = |kind| attribute::find_behind(message, HEADER + BODY, kind);
    let output = attribute(OUTPUT).and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes);
    let multipath = attribute(MULTIPATH).unwrap_or_default();
    output.into_iter().chain(next_hops(multipath).map(u32::from_ne_bytes)).collect()
}

fn only_interface(indexes: &BTreeSet<u32>) -> Option<Origin> {
    let mut indexes = indexes.iter();
    let (index, None) = (indexes.next()?, indexes.next()) else { return None };
    Some(Origin::Interface(if_indextoname(*index).ok()?.to_string_lossy().into_owned()))
}

/// Each interface has a route to all link-local addresses.
fn from_link_local() -> Origin {
    let is_link_local =
        |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(ip));
    let interfaces = host::interfaces().unwrap_or_default();
    let mut candidates = interfaces.into_iter().filter(|of| of.addresses.iter().any(is_link_local));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Origin::Interface(only.name),
        _ => Origin::UnknownInterface,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_origin_of_own_addresses_is_this_host() {
        let mut routes = Routes::open().unwrap();
        for ip in [IpAddr::from([127, 0, 0, 1]), [127, 9, 9, 9].into()] {
            assert_eq!(routes.origin(ip, ip), Origin::Host, "{ip}");
        }
        // Class E and multicast addresses are no sources.
        let multicast = IpAddr::from([224, 0, 0, 1]);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(routes.origin(multicast, loopback), Origin::UnknownInterface);
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn route_origin_has_interfaces_of_all_next_hops() {
        let hop = |index: u32| {
            let gateway = attribute(5, &[192, 0, 2, 1]);
            [&16_u16.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes(), &gateway].concat()
        };
        let message = |attributes: &[u8]| [&[0; HEADER + BODY], attributes].concat();
        let of = |attributes: &[u8]| out_interfaces(&message(attributes)).into_iter().collect();
        let single: Vec<u32> = of(&attribute(4, &3_u32.to_ne_bytes()));
        assert_eq!(single, [3]);
        let both = attribute(9, &[hop(3), hop(4)].concat());
        let several: Vec<u32> = of(&both);
        assert_eq!(several, [3, 4]);
        assert_eq!(only_interface(&out_interfaces(&message(&both))), None);
        for length in 0..both.len() {
            let _: Vec<u32> = of(&both[..length]);
        }
    }
}
