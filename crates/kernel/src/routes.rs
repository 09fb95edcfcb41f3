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
        let length = self.receive(&mut buffer)?;
        let message = buffer.get(..length).unwrap_or_default();
        decode(message).map(Some).ok_or_else(not_understood)
    }

    /// Whether a rule of policy routing depends on the mark of a packet.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn depend_on_marks(&mut self, is_ipv6: bool) -> io::Result<bool> {
        // FRA_FWMARK of linux/fib_rules.h.
        const MARK: u16 = 10;
        let mut body = [0; BODY];
        if let Some(first) = body.first_mut() {
            *first = family(is_ipv6);
        }
        self.request(GET_RULE, REQUEST | DUMP, &body)?;
        let mut depend = false;
        loop {
            let mut buffer = vec![0; 1 << 15];
            let length = self.receive(&mut buffer)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, message, behind)) = next(rest) {
                match kind {
                    NEW_RULE => {
                        let mark = attribute::find_behind(message, HEADER + BODY, MARK);
                        depend |= mark.is_some();
                    }
                    DONE | ERROR => return Ok(depend),
                    _ => {}
                }
                rest = behind;
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

    /// The kernel answers before `send` returns.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        const PATIENCE: u16 = 5_000;
        let ready = poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(PATIENCE),
        )?;
        if ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())?)
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

/// The first message: its type, itself, and the rest.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [a, b, c, d, kind_a, kind_b, ..] = *bytes else { return None };
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([kind_a, kind_b]), message, rest))
}

fn decode(answer: &[u8]) -> Option<Route> {
    const OUTPUT: u16 = 4;
    /// Offset of rtm_type.
    const TYPE: usize = HEADER + 7;
    let (kind, message, _) = next(answer)?;
    if kind == ERROR {
        let code = i32::from_ne_bytes(message.get(HEADER..HEADER + 4)?.try_into().ok()?);
        return (code != 0).then(|| Route::None(Errno::from_raw(code.saturating_neg()).into()));
    }
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

    #[test]
    fn route_decoding_survives_truncated_messages() {
        let message =
            [vec![36, 0, 0, 0, 24, 0], vec![0; 12], vec![0; 5], vec![1], vec![0; 12]].concat();
        for length in 0..message.len() {
            decode(&message[..length]);
        }
    }
}
