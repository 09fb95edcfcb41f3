//! The kernel's routing decision for a packet, as `ip route get` shows it (rtnetlink(7)).
//!
//! For a received packet the kernel also applies the reverse-path filter and the forwarding setting
//! of the input interface. Nothing is sent.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use rulegen_net::Protocol;

use crate::netlink::attribute;

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
    /// Mark.
    pub mark: u32,
}

/// The routing decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To another host or a pod, through this interface.
    Out(String),
    /// To this host.
    Local,
    /// To several receivers.
    Several,
    /// Not at all.
    None(RouteError),
}

/// Why the kernel does not route a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// The reverse-path filter drops it (EXDEV).
    ReversePath,
    /// Its source or destination is not allowed there, or a route of type blackhole drops it
    /// (EINVAL).
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

/// A socket for routing decisions of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

// RTM_* and NLM_F_* of linux/rtnetlink.h and linux/netlink.h.
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const GET_RULE: u16 = 34;
const REQUEST: u16 = 1;
const INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Length of struct nlmsghdr, and of struct rtmsg and struct fib_rule_hdr.
const HEADER: usize = 16;
const BODY: usize = 12;

impl Routes {
    /// Opens the socket.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        let anybody = 0;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(anybody, 0))?;
        Ok(Self { socket, sequence: 0 })
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
        self.request(GET_ROUTE, REQUEST, &route_request(query, index))?;
        let mut buffer = vec![0; 1 << 14];
        loop {
            let received = self.receive(&mut buffer)?;
            let mut messages = answers(received, self.sequence);
            if let Some(message) = messages.next() {
                return decode(&message).map(Some).ok_or_else(not_understood);
            }
        }
    }

    /// Whether a rule of policy routing depends on the mark of a packet.
    ///
    /// # Errors
    /// The kernel does not answer, refuses, or the rules changed meanwhile.
    pub fn depend_on_marks(&mut self, is_ipv6: bool) -> io::Result<bool> {
        let mut body = [0; BODY];
        if let Some(first) = body.first_mut() {
            *first = family(is_ipv6);
        }
        self.request(GET_RULE, REQUEST | DUMP, &body)?;
        let mut depend = false;
        let mut buffer = vec![0; 1 << 15];
        loop {
            let received = self.receive(&mut buffer)?;
            for message in answers(received, self.sequence) {
                match rule_of_dump(&message)? {
                    RuleOfDump::Rule { reads_mark } => depend |= reads_mark,
                    RuleOfDump::End => return Ok(depend),
                }
            }
        }
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives messages. The kernel answers before `send` returns.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        const PATIENCE: u16 = 5_000;
        let ready = poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(PATIENCE),
        )?;
        if ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())?;
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's routing decision is not understood")
}

/// AF_INET and AF_INET6.
fn family(is_ipv6: bool) -> u8 {
    if is_ipv6 { 10 } else { 2 }
}

/// struct rtmsg and its attributes (RTA_*).
fn route_request(query: &RouteRequest<'_>, in_interface: Option<u32>) -> Vec<u8> {
    const TO: u16 = 1;
    const FROM: u16 = 2;
    const INPUT: u16 = 3;
    const MARK: u16 = 16;
    const PROTOCOL: u16 = 27;
    const TO_PORT: u16 = 29;
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let bits: u8 = if query.to.is_ipv6() { 128 } else { 32 };
    let mut body = vec![family(query.to.is_ipv6()), bits, bits];
    body.resize(BODY, 0);
    let mut put = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len() + 4).unwrap_or_default();
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    };
    put(TO, &bytes(query.to));
    put(FROM, &bytes(query.from));
    if let Some(index) = in_interface {
        put(INPUT, &index.to_ne_bytes());
    }
    if query.mark != 0 {
        put(MARK, &query.mark.to_ne_bytes());
    }
    if let Some((protocol @ (Protocol::Tcp | Protocol::Udp), port)) = query.to_port {
        put(PROTOCOL, &[protocol.number()]);
        put(TO_PORT, &port.to_be_bytes());
    }
    body
}

/// A message with the fields of its header.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    bytes: &'a [u8],
}

/// The messages that answer the request with this sequence number. An answer to an earlier request
/// may come after its timeout.
fn answers(bytes: &[u8], sequence: u32) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    let messages = std::iter::from_fn(move || {
        let (message, behind) = next(rest)?;
        rest = behind;
        Some(message)
    });
    messages.filter(move |message| message.sequence == sequence)
}

/// The first message, and the rest.
fn next(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, kind_a, kind_b, flags_a, flags_b, e, f, g, h, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    let message = Message {
        kind: u16::from_ne_bytes([kind_a, kind_b]),
        flags: u16::from_ne_bytes([flags_a, flags_b]),
        sequence: u32::from_ne_bytes([e, f, g, h]),
        bytes: message,
    };
    Some((message, rest))
}

impl Message<'_> {
    /// The error of a message of type ERROR or DONE; `None` if there is none.
    fn errno(&self) -> Option<Errno> {
        let code = self.bytes.get(HEADER..HEADER + 4)?.try_into().ok()?;
        let code = i32::from_ne_bytes(code);
        (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
    }
}

/// A message of a dump of the rules of policy routing.
#[derive(Debug, PartialEq)]
enum RuleOfDump {
    Rule { reads_mark: bool },
    End,
}

fn rule_of_dump(message: &Message<'_>) -> io::Result<RuleOfDump> {
    // FRA_FWMARK of linux/fib_rules.h.
    const MARK: u16 = 10;
    if message.flags & INTERRUPTED != 0 {
        return Err(io::ErrorKind::Interrupted.into());
    }
    match (message.kind, message.errno()) {
        (NEW_RULE, _) => {
            let mark = attribute::find_behind(message.bytes, HEADER + BODY, MARK);
            Ok(RuleOfDump::Rule { reads_mark: mark.is_some() })
        }
        // A kernel without policy routing, or without it for this family.
        (ERROR | DONE, None | Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => Ok(RuleOfDump::End),
        (ERROR | DONE, Some(errno)) => Err(errno.into()),
        _ => Err(not_understood()),
    }
}

fn decode(message: &Message<'_>) -> Option<Route> {
    const OUTPUT: u16 = 4;
    /// Offset of rtm_type.
    const TYPE: usize = HEADER + 7;
    if message.kind == ERROR {
        return message.errno().map(|errno| Route::None(errno.into()));
    }
    let message = message.bytes;
    // RTN_*.
    Some(match *message.get(TYPE)? {
        1 => {
            let index = attribute::find_behind(message, HEADER + BODY, OUTPUT)?;
            let index = u32::from_ne_bytes(index.try_into().ok()?);
            Route::Out(if_indextoname(index).ok()?.to_string_lossy().into_owned())
        }
        2 => Route::Local,
        3..=5 => Route::Several,
        6 => Route::None(Errno::EINVAL.into()),
        8 => Route::None(Errno::EACCES.into()),
        _ => Route::None(Errno::EHOSTUNREACH.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(routes.depend_on_marks(false).is_ok());
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

    fn dumped(bytes: &[u8]) -> io::Result<RuleOfDump> {
        rule_of_dump(&next(bytes).unwrap().0)
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
        routes.request(GET_ROUTE, REQUEST, &route_request(&nowhere, None)).unwrap();
        routes.request(GET_RULE, REQUEST | DUMP, &[2; BODY]).unwrap();
        assert_eq!(routes.lookup(&query).unwrap(), Some(Route::Local));
    }

    #[test]
    fn route_rules_are_unknown_unless_policy_routing_is_absent() {
        for kind in [ERROR, DONE] {
            for absent in [Errno::EOPNOTSUPP, Errno::EAFNOSUPPORT] {
                assert_eq!(dumped(&error(kind, absent)).unwrap(), RuleOfDump::End, "{absent}");
            }
            for errno in [Errno::EPERM, Errno::ENOMEM, Errno::EINVAL] {
                let refused = dumped(&error(kind, errno)).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(errno as i32));
            }
        }
        let mark = [8_u16.to_ne_bytes(), 10_u16.to_ne_bytes()].concat();
        let rule = [vec![0; BODY], mark, vec![1, 0, 0, 0]].concat();
        let read = |flags, body: &[u8]| dumped(&message(NEW_RULE, flags, 7, body));
        assert_eq!(read(2, &rule).unwrap(), RuleOfDump::Rule { reads_mark: true });
        assert_eq!(read(2, &rule[..BODY]).unwrap(), RuleOfDump::Rule { reads_mark: false });
        assert_eq!(read(INTERRUPTED, &rule).unwrap_err().kind(), io::ErrorKind::Interrupted);
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
                .for_each(|message| drop(rule_of_dump(&message)));
        }
    }
}
