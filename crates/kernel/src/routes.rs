//! The kernel's routing decision for a packet, as `ip route get` shows it (rtnetlink(7)).
//!
//! For a received packet the kernel also applies the reverse-path filter and the forwarding setting
//! of the input interface. Nothing is sent.

mod origin;

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};
use rulegen_net::{IpFamily, Protocol};

use crate::netlink::attribute;
use crate::rtnetlink::{ERROR, HEADER, RouteMessage, RouteSocket};

/// A packet to route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRequest<'a> {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Input interface; `None` for a packet of this host's processes.
    pub in_interface: Option<&'a str>,
    /// Protocol and destination port, for rules of policy routing. SCTP is not among those that the
    /// kernel takes.
    pub to_port: Option<(Protocol, u16)>,
    /// Packet mark, for rules of `ip rule` (fwmark); 0 without one.
    pub mark: u32,
}

/// The routing decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To another host or a pod, through an interface.
    Out(OutRoute),
    /// To this host.
    Local,
    /// To several receivers.
    Several,
    /// Not at all.
    None(RouteError),
}

/// A route to another host or a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRoute {
    /// Name of the output interface.
    pub interface: String,
    /// The gateway; without one the destination is reached directly.
    pub gateway: Option<IpAddr>,
    /// The interfaces of all next hops, if there are several. A hash of the packet chooses, into
    /// which its ports and its flow label may go (fib_multipath_hash_policy).
    pub multipath: Vec<String>,
    /// Whether the route puts packets into others (lightweight tunnels such as seg6 and MPLS).
    pub encapsulates: bool,
    /// Whether the entry of the routing table is known. If not, there may be several next hops, and
    /// the route may encapsulate.
    pub has_entry: bool,
}

/// Why the kernel does not route a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// The reverse-path filter drops it (EXDEV).
    ReversePath,
    /// Its source or destination is not allowed there, or a route of type blackhole drops it
    /// (EINVAL). Also the reverse-path filter of a kernel that does not tell them apart, such as
    /// Linux 6.18.
    Invalid,
    /// There is no route, one of type unreachable or prohibit, or the input interface does not
    /// forward. Holds the system's text.
    Unreachable(String),
    /// Another error of the lookup.
    Other(String),
}

impl From<Errno> for RouteError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EXDEV => Self::ReversePath,
            Errno::EINVAL => Self::Invalid,
            Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES => {
                Self::Unreachable(errno.desc().to_owned())
            }
            other => Self::Other(other.desc().to_owned()),
        }
    }
}

/// A neighbour: a host or pod that is reached directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Whether its hardware address is known, or not needed (`NUD_VALID`). If not, it did not answer
    /// yet, or not lately.
    pub is_valid: bool,
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
}

/// What the rules of policy routing depend on, besides addresses and interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSelectors {
    /// Whether a rule of `ip rule` asks for the packet mark (fwmark).
    pub mark: bool,
    /// The protocol or the destination port.
    pub to_port: bool,
    /// The user of the sending process.
    pub user: bool,
    /// The input interface, or its VRF.
    pub in_interface: bool,
    /// The source address.
    pub source: bool,
    /// The source port, the type of service, the flow label, or a tunnel's ID.
    pub others: bool,
}

/// A socket for routing decisions of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Routes {
    socket: RouteSocket,
}

// RTM_* of linux/rtnetlink.h.
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const NEW_RULE: u16 = 32;
const GET_RULE: u16 = 34;

/// Length of struct rtmsg, struct fib_rule_hdr and struct ndmsg.
const BODY: usize = 12;

impl Routes {
    /// Opens the socket.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: RouteSocket::open()? })
    }

    /// The routing decision for a packet; `None` if the input interface does not exist.
    ///
    /// # Errors
    /// The kernel does not answer, or its answer is not understood.
    pub fn lookup(&mut self, query: &RouteRequest<'_>) -> io::Result<Option<Route>> {
        let index = match query.in_interface.map(if_nametoindex) {
            Some(Err(_)) => return Ok(None),
            Some(Ok(index)) => Some(index),
            None => None,
        };
        let decision = route_request(query, index, RouteReply::Decision);
        let found = self.socket.ask(GET_ROUTE, &decision, decode)?;
        let mut route = found.ok_or_else(not_understood)?;
        if let Route::Out(out) = &mut route {
            let entry = route_request(query, index, RouteReply::Entry);
            let whole = |message: &RouteMessage<'_>| out_of_entry(message, out.clone());
            // The decision holds without the entry.
            if let Ok(whole) = self.socket.ask(GET_ROUTE, &entry, whole) {
                *out = whole;
            }
        }
        Ok(Some(route))
    }

    /// What the rules of policy routing depend on.
    ///
    /// # Errors
    /// The kernel does not answer, refuses, or the rules changed meanwhile.
    pub fn selectors(&mut self, family: IpFamily) -> io::Result<RuleSelectors> {
        let mut body = [0; BODY];
        if let Some(first) = body.first_mut() {
            *first = number(family);
        }
        let mut all = RuleSelectors::default();
        self.socket.dump(GET_RULE, &body, |message| all = all.and(selectors(message)))?;
        Ok(all)
    }

    /// What the kernel knows about a neighbour; `None` if it has no entry.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn neighbour(&mut self, interface: &str, ip: IpAddr) -> io::Result<Option<Neighbour>> {
        let Ok(index) = if_nametoindex(interface) else { return Ok(None) };
        self.socket.ask(GET_NEIGHBOUR, &neighbour_request(index, ip), decode_neighbour)
    }
}

impl RuleSelectors {
    fn and(self, other: Self) -> Self {
        Self {
            mark: self.mark || other.mark,
            to_port: self.to_port || other.to_port,
            user: self.user || other.user,
            in_interface: self.in_interface || other.in_interface,
            source: self.source || other.source,
            others: self.others || other.others,
        }
    }
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's routing decision is not understood")
}

/// AF_INET and AF_INET6.
fn number(family: IpFamily) -> u8 {
    match family {
        IpFamily::Ipv4 => 2,
        IpFamily::Ipv6 => 10,
    }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// What the kernel shows of a route.
#[derive(Clone, Copy)]
enum RouteReply {
    /// The decision for the packet.
    Decision,
    /// The entry of the routing table, with all next hops (RTM_F_FIB_MATCH, `fibmatch` of ip(8)).
    Entry,
}

/// struct rtmsg and its attributes (RTA_*).
fn route_request(
    query: &RouteRequest<'_>,
    in_interface: Option<u32>,
    answer: RouteReply,
) -> Vec<u8> {
    const TO: u16 = 1;
    const FROM: u16 = 2;
    const INPUT: u16 = 3;
    const MARK: u16 = 16;
    const PROTOCOL: u16 = 27;
    const TO_PORT: u16 = 29;
    let bits: u8 = if query.to.is_ipv6() { 128 } else { 32 };
    let from_bits = if query.from.is_unspecified() { 0 } else { bits };
    let flags: u32 = match answer {
        RouteReply::Decision => 0,
        RouteReply::Entry => 0x2000,
    };
    let mut body = vec![number(IpFamily::of(query.to)), bits, from_bits, 0, 0, 0, 0, 0];
    body.extend(flags.to_ne_bytes());
    put(&mut body, TO, &bytes(query.to));
    if from_bits != 0 {
        put(&mut body, FROM, &bytes(query.from));
    }
    if let Some(index) = in_interface {
        put(&mut body, INPUT, &index.to_ne_bytes());
    }
    if query.mark != 0 {
        put(&mut body, MARK, &query.mark.to_ne_bytes());
    }
    if let Some((protocol @ (Protocol::Tcp | Protocol::Udp), port)) = query.to_port {
        put(&mut body, PROTOCOL, &[protocol.number()]);
        put(&mut body, TO_PORT, &port.to_be_bytes());
    }
    body
}

/// struct ndmsg and its address (NDA_DST).
fn neighbour_request(interface: u32, ip: IpAddr) -> Vec<u8> {
    const DESTINATION: u16 = 1;
    let mut body = vec![number(IpFamily::of(ip)), 0, 0, 0];
    body.extend(interface.to_ne_bytes());
    body.extend([0; 4]);
    put(&mut body, DESTINATION, &bytes(ip));
    body
}

/// struct ndmsg with NDA_LLADDR, and NUD_* of linux/neighbour.h. An entry that does not exist is
/// an error.
fn decode_neighbour(message: &RouteMessage<'_>) -> Option<Neighbour> {
    /// REACHABLE, STALE, DELAY, PROBE, NOARP and PERMANENT.
    const VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
    const HARDWARE_ADDRESS: u16 = 2;
    /// Offset of ndm_state.
    const STATE: usize = HEADER + 8;
    if message.kind == ERROR {
        return None;
    }
    let state = message.bytes.get(STATE..STATE + 2)?.try_into().ok()?;
    let mac = attribute::find_behind(message.bytes, HEADER + BODY, HARDWARE_ADDRESS);
    Some(Neighbour {
        is_valid: u16::from_ne_bytes(state) & VALID != 0,
        mac: mac.and_then(|mac| mac.try_into().ok()),
    })
}

/// A rule of a dump.
fn selectors(message: &RouteMessage<'_>) -> RuleSelectors {
    // FRA_* of linux/fib_rules.h.
    const SOURCE: u16 = 2;
    const IN_INTERFACE: u16 = 3;
    const MARK: u16 = 10;
    const TUNNEL: u16 = 12;
    /// A rule for the mark 0 has only a mask.
    const MASK: u16 = 16;
    /// The table of the interface's VRF.
    const VRF: u16 = 19;
    const USERS: u16 = 20;
    const PROTOCOL: u16 = 22;
    const FROM_PORTS: u16 = 23;
    const TO_PORTS: u16 = 24;
    const DSCP: u16 = 25;
    const FLOW_LABEL: u16 = 26;
    /// Offset of tos in struct fib_rule_hdr.
    const TOS: usize = HEADER + 3;
    if message.kind != NEW_RULE {
        return RuleSelectors::default();
    }
    let has = |kinds: &[u16]| {
        kinds
            .iter()
            .any(|kind| attribute::find_behind(message.bytes, HEADER + BODY, *kind).is_some())
    };
    let has_tos = message.bytes.get(TOS).is_some_and(|tos| *tos != 0);
    RuleSelectors {
        mark: has(&[MARK, MASK]),
        to_port: has(&[PROTOCOL, TO_PORTS]),
        user: has(&[USERS]),
        in_interface: has(&[IN_INTERFACE, VRF]),
        source: has(&[SOURCE]),
        others: has_tos || has(&[TUNNEL, FROM_PORTS, DSCP, FLOW_LABEL]),
    }
}

fn decode(message: &RouteMessage<'_>) -> Option<Route> {
    const OUTPUT: u16 = 4;
    /// Offset of rtm_type.
    const TYPE: usize = HEADER + 7;
    if message.kind == ERROR {
        return message.errno().map(|errno| Route::None(errno.into()));
    }
    let bytes = message.bytes;
    // RTN_*.
    Some(match *bytes.get(TYPE)? {
        1 => Route::Out(OutRoute {
            interface: interface(attribute::find_behind(bytes, HEADER + BODY, OUTPUT)?)?,
            gateway: gateway(bytes),
            multipath: Vec::new(),
            encapsulates: false,
            has_entry: false,
        }),
        2 => Route::Local,
        3..=5 => Route::Several,
        6 => Route::None(Errno::EINVAL.into()),
        8 => Route::None(Errno::EACCES.into()),
        _ => Route::None(Errno::EHOSTUNREACH.into()),
    })
}

fn interface(index: &[u8]) -> Option<String> {
    let index = u32::from_ne_bytes(index.try_into().ok()?);
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}

/// The gateway, which may be of the other family (RTA_GATEWAY, and struct rtvia in RTA_VIA).
fn gateway(message: &[u8]) -> Option<IpAddr> {
    const GATEWAY: u16 = 5;
    const VIA: u16 = 18;
    let find = |kind| attribute::find_behind(message, HEADER + BODY, kind);
    let address = find(GATEWAY).or_else(|| find(VIA)?.get(2..))?;
    let v4 = <[u8; 4]>::try_from(address).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from)).ok()
}

/// Adds what the entry of the routing table shows.
fn out_of_entry(message: &RouteMessage<'_>, out: OutRoute) -> OutRoute {
    const OUTPUT: u16 = 4;
    const MULTIPATH: u16 = 9;
    const ENCAPSULATION: u16 = 21;
    const NEXT_HOP_OBJECT: u16 = 30;
    if message.kind == ERROR {
        return out;
    }
    let find = |kind| attribute::find_behind(message.bytes, HEADER + BODY, kind);
    let multipath = match find(MULTIPATH) {
        Some(nested) => {
            let name = |index: [u8; 4]| {
                interface(&index).unwrap_or_else(|| "an unknown interface".to_owned())
            };
            next_hops(nested).map(name).collect()
        }
        // With net.ipv4.nexthop_compat_mode=0 the kernel shows the ID of a group only.
        None if find(OUTPUT).is_none() && find(NEXT_HOP_OBJECT).is_some() => {
            vec![out.interface.clone(), "others of a next-hop group".to_owned()]
        }
        None => Vec::new(),
    };
    OutRoute { multipath, encapsulates: find(ENCAPSULATION).is_some(), has_entry: true, ..out }
}

/// The indexes of the interfaces in an array of struct rtnexthop, each with attributes.
fn next_hops(array: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    let mut rest = array;
    std::iter::from_fn(move || {
        let [a, b, _, _, index @ ..] = *rest.first_chunk::<8>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        rest = rest.get(length.max(8).next_multiple_of(4)..).unwrap_or_default();
        Some(index)
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

    use super::*;
    use crate::rtnetlink::{DONE, DUMP, REQUEST, answers, next};

    #[test]
    fn route_of_loopback_is_local() {
        let mut routes = Routes::open().unwrap();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let query = RouteRequest {
            from: loopback,
            to: loopback,
            in_interface: None,
            to_port: Some((Protocol::Tcp, 80)),
            mark: 0,
        };
        assert_eq!(routes.lookup(&query).unwrap(), Some(Route::Local));
        let query = RouteRequest { in_interface: Some("no-such-one"), ..query };
        assert_eq!(routes.lookup(&query).unwrap(), None);
        assert_eq!(routes.selectors(IpFamily::Ipv4).unwrap(), RuleSelectors::default());
    }

    /// A message with a sequence number, flags and a body.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let words = [&kind.to_ne_bytes()[..], &flags.to_ne_bytes(), &sequence.to_ne_bytes()];
        [&length.to_ne_bytes()[..], &words.concat(), &[0; 4], body].concat()
    }

    fn error(kind: u16, errno: Errno) -> Vec<u8> {
        message(kind, 0, 7, &(errno as i32).saturating_neg().to_ne_bytes())
    }

    /// The selectors of a rule; `None` at the end of a dump.
    fn dumped(bytes: &[u8]) -> io::Result<Option<RuleSelectors>> {
        let (message, _) = next(bytes).unwrap();
        Ok((!message.end_of_dump()?).then(|| selectors(&message)))
    }

    #[test]
    fn route_decision_holds_without_entry_of_routing_table() {
        let loopback = 1_u32.to_ne_bytes();
        let output = [&8_u16.to_ne_bytes()[..], &4_u16.to_ne_bytes(), &loopback].concat();
        let body = [vec![0; 7], vec![1], vec![0; 4], output].concat();
        let (kernel, socket) = RouteSocket::pair();
        send(kernel.as_raw_fd(), &message(24, 0, 1, &body), MsgFlags::empty()).unwrap();
        shutdown(kernel.as_raw_fd(), Shutdown::Write).unwrap();
        let (from, to) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let query = RouteRequest { from, to, in_interface: None, to_port: None, mark: 0 };
        let Ok(Some(Route::Out(out))) = (Routes { socket }).lookup(&query) else {
            panic!("no decision")
        };
        assert_eq!((&*out.interface, out.has_entry), ("lo", false));
    }

    #[test]
    fn neighbour_without_known_hardware_address_is_not_valid() {
        // NUD_* of linux/neighbour.h.
        for (state, is_valid) in [
            (0x00_u16, false),
            (0x01, false),
            (0x02, true),
            (0x04, true),
            (0x08, true),
            (0x10, true),
            (0x20, false),
            (0x40, true),
            (0x80, true),
        ] {
            let body = [&[0; 8][..], &state.to_ne_bytes(), &[0; 2]].concat();
            let bytes = message(28, 0, 7, &body);
            let (message, _) = next(&bytes).unwrap();
            let neighbour = decode_neighbour(&message).unwrap();
            assert_eq!(neighbour, Neighbour { is_valid, mac: None }, "{state:#x}");
        }
        let bytes = error(ERROR, Errno::ENOENT);
        assert_eq!(decode_neighbour(&next(&bytes).unwrap().0), None);
    }

    #[test]
    fn route_answer_with_another_sequence_number_is_ignored() {
        let late = error(ERROR, Errno::EHOSTUNREACH);
        let wanted = message(ERROR, 0, 8, &(-(Errno::EXDEV as i32)).to_ne_bytes());
        let both = [late.clone(), wanted].concat();
        let decoded: Vec<_> = answers(&both, 8).map(|message| decode(&message)).collect();
        assert_eq!(decoded, [Some(Route::None(RouteError::ReversePath))]);
        assert_eq!(answers(&late, 8).count(), 0);

        let mut routes = Routes::open().unwrap();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let query = RouteRequest {
            from: loopback,
            to: loopback,
            in_interface: None,
            to_port: None,
            mark: 0,
        };
        // Nobody reads the answers to these requests.
        let nowhere = RouteRequest { to: [0, 0, 0, 1].into(), ..query.clone() };
        let nowhere = route_request(&nowhere, None, RouteReply::Decision);
        routes.socket.request(GET_ROUTE, REQUEST, &nowhere).unwrap();
        routes.socket.request(GET_RULE, REQUEST | DUMP, &[2; BODY]).unwrap();
        assert_eq!(routes.lookup(&query).unwrap(), Some(Route::Local));
    }

    #[test]
    fn route_rules_are_unknown_unless_policy_routing_is_absent() {
        for kind in [ERROR, DONE] {
            for absent in [Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT] {
                assert_eq!(dumped(&error(kind, absent)).unwrap(), None, "{absent}");
            }
            for errno in [Errno::EPERM, Errno::ENOMEM, Errno::EINVAL] {
                let refused = dumped(&error(kind, errno)).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(errno as i32));
            }
        }
        let attribute =
            |kind: u16| [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &[1, 0, 0, 0]].concat();
        let rule = |kind| [vec![0; BODY], attribute(kind)].concat();
        let read = |flags, body: &[u8]| dumped(&message(NEW_RULE, flags, 7, body));
        let all = RuleSelectors::default();
        for (kind, wanted) in [
            (1, all),
            (2, RuleSelectors { source: true, ..all }),
            (3, RuleSelectors { in_interface: true, ..all }),
            (19, RuleSelectors { in_interface: true, ..all }),
            (10, RuleSelectors { mark: true, ..all }),
            (20, RuleSelectors { user: true, ..all }),
            (23, RuleSelectors { others: true, ..all }),
            (24, RuleSelectors { to_port: true, ..all }),
        ] {
            assert_eq!(read(2, &rule(kind)).unwrap(), Some(wanted), "{kind}");
        }
        let mut with_tos = vec![0; BODY];
        with_tos[3] = 0x10;
        assert_eq!(read(2, &with_tos).unwrap(), Some(RuleSelectors { others: true, ..all }));
    }

    #[test]
    fn route_decoding_survives_truncated_messages() {
        let body = [vec![0; 7], vec![1], vec![0; 12]].concat();
        let whole = message(24, 0, 7, &body);
        for length in 0..whole.len() {
            answers(&whole[..length], 7).for_each(|message| drop(decode(&message)));
            let body = &body[..length.min(body.len())];
            answers(&message(24, 0, 7, body), 7).for_each(|message| drop(decode(&message)));
            answers(&message(NEW_RULE, 0, 7, body), 7)
                .for_each(|message| assert_eq!(selectors(&message), RuleSelectors::default()));
        }
    }
}
