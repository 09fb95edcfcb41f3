//! What may stop or change packets at a network interface before or behind netfilter: XDP, traffic
//! control, and the state of the interface (rtnetlink(7), tc(8)).

use std::collections::BTreeMap;
use std::io;

use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::bpf::{AttachPoint, has_programs};
use crate::netlink::attribute;
use crate::rtnetlink::{ERROR, HEADER, RouteMessage, RouteSocket};

/// The direction of a packet at an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// It comes in.
    Ingress,
    /// It goes out.
    Egress,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its kind in ip-link(8), such as `bridge`; empty for hardware.
    pub kind: String,
    /// Whether an XDP program is attached.
    pub has_xdp: bool,
    /// Whether it is up (`IFF_UP`). One that is down neither sends nor receives.
    pub is_up: bool,
    /// Whether it has a carrier. An interface without one sends nothing.
    pub has_carrier: bool,
    /// Whether neighbours are searched with ARP or neighbour discovery before packets are sent to
    /// them.
    pub searches_neighbours: bool,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<String>,
}

/// A socket for the interfaces of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Interfaces {
    socket: RouteSocket,
    /// The kinds of queueing disciplines by interface, once they were read.
    disciplines: Option<BTreeMap<i32, Vec<String>>>,
}

// RTM_* of linux/rtnetlink.h.
const GET_LINK: u16 = 18;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
const NEW_DISCIPLINE: u16 = 36;
const GET_DISCIPLINE: u16 = 38;

/// Length of struct ifinfomsg and of struct tcmsg.
const LINK: usize = 16;
const TRAFFIC_CONTROL: usize = 20;

// The parents of filters (linux/pkt_sched.h): TC_H_CLSACT with TC_H_MIN_INGRESS or TC_H_MIN_EGRESS,
// and the root. The discipline `ingress` has one list for both.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const ROOT: u32 = 0;

/// TCA_KIND.
const KIND: u16 = 1;

impl Interfaces {
    /// Opens the socket.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: RouteSocket::open()?, disciplines: None })
    }

    /// An interface; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let Ok(index) = if_nametoindex(name) else { return Ok(None) };
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.resize(LINK, 0);
        self.socket.ask(GET_LINK, &body, link)
    }

    /// The interface through which packets of an interface come in: the bridge or bond that has it as a
    /// port, else itself; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn input(&mut self, name: &str) -> io::Result<Option<String>> {
        const TAKE_PACKETS: [&str; 3] = ["bridge", "bond", "team"];
        let Some(named) = self.link(name)? else { return Ok(None) };
        let (mut interface, mut next) = (name.to_owned(), named.master);
        // A bond may be a port of a bridge. The kernel has a limit of eight too (MAX_NEST_DEV).
        for _ in 0..8 {
            let Some(master) = next.take() else { break };
            let Some(link) = self.link(&master)? else { break };
            if TAKE_PACKETS.contains(&link.kind.as_str()) {
                (interface, next) = (master, link.master);
            }
        }
        Ok(Some(interface))
    }

    /// Whether filters of traffic control (tc-filter(8)) or programs of tcx or netkit see the packets
    /// of an interface.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses.
    pub fn has_filters(&mut self, name: &str, direction: Direction) -> io::Result<bool> {
        let Ok(index) = if_nametoindex(name) else { return Ok(false) };
        let points = match direction {
            Direction::Ingress => [AttachPoint::TcxIngress, AttachPoint::NetkitPeer],
            Direction::Egress => [AttachPoint::TcxEgress, AttachPoint::NetkitPrimary],
        };
        for point in points {
            if has_programs(index, point)? {
                return Ok(true);
            }
        }
        let index = i32::try_from(index).unwrap_or_default();
        let kinds = self.disciplines(index)?;
        let has = |kind: &str| kinds.iter().any(|of| of == kind);
        let (has_ingress, has_egress) = (has("clsact") || has("ingress"), has("clsact"));
        let parents: &[u32] = match direction {
            Direction::Ingress if has_ingress => &[INGRESS],
            Direction::Ingress => &[],
            Direction::Egress if has_egress => &[EGRESS, ROOT],
            Direction::Egress => &[ROOT],
        };
        for parent in parents {
            if self.has_filters_at(index, *parent)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The queueing disciplines of an interface that do more than to queue: they may drop packets
    /// by chance, by rate or by class.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn shapers(&mut self, name: &str) -> io::Result<Vec<String>> {
        // Those that drop only if a queue is full, and those for filters.
        const PLAIN: [&str; 13] = [
            "noqueue",
            "pfifo_fast",
            "pfifo",
            "bfifo",
            "pfifo_head_drop",
            "fq",
            "fq_codel",
            "fq_pie",
            "codel",
            "sfq",
            "mq",
            "clsact",
            "ingress",
        ];
        let Ok(index) = if_nametoindex(name) else { return Ok(Vec::new()) };
        let mut kinds = self.disciplines(i32::try_from(index).unwrap_or_default())?;
        kinds.retain(|kind| !PLAIN.contains(&kind.as_str()));
        kinds.dedup();
        Ok(kinds)
    }

    fn disciplines(&mut self, index: i32) -> io::Result<Vec<String>> {
        if self.disciplines.is_none() {
            let mut all: BTreeMap<i32, Vec<String>> = BTreeMap::new();
            self.socket.dump(GET_DISCIPLINE, &traffic_control(0, 0), |message| {
                if let Some((index, kind)) = discipline(message) {
                    all.entry(index).or_default().push(kind);
                }
            })?;
            self.disciplines = Some(all);
        }
        let all = self.disciplines.as_ref();
        Ok(all.and_then(|all| all.get(&index)).cloned().unwrap_or_default())
    }

    fn has_filters_at(&mut self, index: i32, parent: u32) -> io::Result<bool> {
        let mut found = false;
        self.socket.dump(GET_FILTER, &traffic_control(index, parent), |message| {
            found |= message.kind == NEW_FILTER;
        })?;
        Ok(found)
    }
}

/// struct tcmsg.
fn traffic_control(interface: i32, parent: u32) -> Vec<u8> {
    let words = [0, interface.cast_unsigned(), 0, parent, 0];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn link(message: &RouteMessage<'_>) -> Option<Link> {
    // IFLA_* of linux/if_link.h.
    const MASTER: u16 = 10;
    const INFO: u16 = 18;
    const INFO_KIND: u16 = 1;
    const CARRIER: u16 = 33;
    const XDP: u16 = 43;
    const XDP_ATTACHED: u16 = 2;
    // Offset of ifi_flags in struct ifinfomsg, and IFF_* of linux/if.h.
    const FLAGS: usize = HEADER + 8;
    const UP: u32 = 0x01;
    const LOOPBACK: u32 = 0x08;
    const POINT_TO_POINT: u32 = 0x10;
    const NO_ARP: u32 = 0x80;
    if message.kind == ERROR {
        return None;
    }
    let find = |kind| attribute::find_behind(message.bytes, HEADER + LINK, kind);
    let nested = |outer, inner| attribute::find_behind(find(outer)?, 0, inner);
    let name = |index: &[u8]| {
        let index = u32::from_ne_bytes(index.try_into().ok()?);
        Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
    };
    let flags = message.bytes.get(FLAGS..FLAGS + 4)?.try_into().ok().map(u32::from_ne_bytes)?;
    Some(Link {
        is_up: flags & UP != 0,
        searches_neighbours: flags & (LOOPBACK | POINT_TO_POINT | NO_ARP) == 0,
        kind: nested(INFO, INFO_KIND).map(attribute::string).unwrap_or_default(),
        has_xdp: nested(XDP, XDP_ATTACHED).is_some_and(|attached| attached != [0]),
        has_carrier: find(CARRIER) != Some(&[0]),
        master: find(MASTER).and_then(name),
    })
}

/// The interface and kind of a queueing discipline.
fn discipline(message: &RouteMessage<'_>) -> Option<(i32, String)> {
    let index = message.bytes.get(HEADER + 4..HEADER + 8)?.try_into().ok()?;
    let kind = attribute::find_behind(message.bytes, HEADER + TRAFFIC_CONTROL, KIND)?;
    (message.kind == NEW_DISCIPLINE).then(|| (i32::from_ne_bytes(index), attribute::string(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_loopback_has_no_programs_and_a_carrier() {
        let mut interfaces = Interfaces::open().unwrap();
        let link = interfaces.link("lo").unwrap().unwrap();
        assert_eq!((link.has_xdp, link.master), (false, None));
        for direction in [Direction::Ingress, Direction::Egress] {
            assert!(!interfaces.has_filters("lo", direction).unwrap());
        }
        assert_eq!(interfaces.shapers("lo").unwrap(), Vec::<String>::new());
        assert_eq!(interfaces.link("no-such-one").unwrap(), None);
    }
}
