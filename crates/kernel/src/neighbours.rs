//! The neighbours of all interfaces, as `ip neigh` lists them (rtnetlink(7)).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::net::if_::if_indextoname;

use crate::netlink::attribute;
use crate::rtnetlink::{HEADER, RouteMessage, RouteSocket};

/// A neighbour with a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownNeighbour {
    /// Name of the interface.
    pub interface: String,
    /// IPv4 or IPv6 address.
    pub ip: IpAddr,
    /// Hardware address.
    pub mac: [u8; 6],
}

/// All neighbours with an Ethernet address, in order. The kernel limits their number
/// (net.ipv4.neigh.default.gc_thresh3).
///
/// # Errors
/// The kernel does not answer.
pub fn known_neighbours() -> io::Result<Vec<KnownNeighbour>> {
    const GET_NEIGHBOUR: u16 = 30;
    let mut socket = RouteSocket::open()?;
    let mut found = Vec::new();
    socket.dump(GET_NEIGHBOUR, &[0; BODY], |message| found.extend(decode(message)))?;
    let mut names = BTreeMap::new();
    let name = |index| {
        let name = if_indextoname(index).ok();
        name.and_then(|name| name.into_string().ok())
    };
    let named = found.into_iter().filter_map(|(index, ip, mac)| {
        // An interface may disappear meanwhile.
        let interface = names.entry(index).or_insert_with(|| name(index)).clone()?;
        Some(KnownNeighbour { interface, ip, mac })
    });
    let mut neighbours: Vec<KnownNeighbour> = named.collect();
    neighbours.sort_unstable();
    Ok(neighbours)
}

/// Length of struct ndmsg.
const BODY: usize = 12;

/// struct ndmsg with NDA_DST and NDA_LLADDR of linux/neighbour.h.
fn decode(message: &RouteMessage<'_>) -> Option<(u32, IpAddr, [u8; 6])> {
    const DESTINATION: u16 = 1;
    const HARDWARE_ADDRESS: u16 = 2;
    /// Offset of ndm_ifindex.
    const INTERFACE: usize = HEADER + 4;
    let of = |kind| attribute::find_behind(message.bytes, HEADER + BODY, kind);
    let index = message.bytes.get(INTERFACE..INTERFACE + 4)?.try_into().ok()?;
    let ip = of(DESTINATION)?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some((u32::from_ne_bytes(index), ip, of(HARDWARE_ADDRESS)?.try_into().ok()?))
}
