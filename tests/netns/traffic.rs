//! Servers that answer with their own and the client's address, and clients that return the result
//! of a request.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This endpoint answered. It saw this source address.
    From { endpoint: SocketAddr, seen: IpAddr },
    /// Rejected at once.
    Refused,
    /// No answer.
    Silence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

/// The time without an answer that counts as silence. Namespaces on one machine answer in less than
/// a millisecond, so a later rejection would not be "at once".
const TIMEOUT: Duration = Duration::from_millis(600);

/// Serves TCP and UDP at an address of a namespace. The answer is the server's own address and the
/// client's. Runs until the test process ends.
pub(crate) fn serve(namespace: &Namespace, at: SocketAddr) {
    let (tcp, udp) =
        namespace.inside(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = tcp.accept() {
            let _ = stream.write_all(answer(at, peer).as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(answer(at, peer).as_bytes(), peer);
        }
    });
}

fn answer(at: SocketAddr, peer: SocketAddr) -> String {
    format!("{at} {}\n", peer.ip())
}

pub(crate) fn parse_answer(text: &str) -> Option<Answer> {
    let (endpoint, seen) = text.trim().split_once(' ')?;
    Some(Answer::From { endpoint: endpoint.parse().ok()?, seen: seen.parse().ok()? })
}

/// Sends one request, from an address of a namespace and a port that was not used recently.
pub(crate) fn ask(namespace: &Namespace, proto: Proto, from: IpAddr, to: SocketAddr) -> Answer {
    ask_within(TIMEOUT, namespace, proto, from, to)
}

/// Like [`ask`], with another timeout.
pub(crate) fn ask_within(
    timeout: Duration,
    namespace: &Namespace,
    proto: Proto,
    from: IpAddr,
    to: SocketAddr,
) -> Answer {
    let asked = namespace.inside(|| match proto {
        Proto::Tcp => ask_tcp(timeout, namespace, from, to),
        Proto::Udp => ask_udp(timeout, namespace, from, to),
    });
    match asked {
        Ok(text) => parse_answer(&text).unwrap_or_else(|| panic!("unexpected answer {text:?}")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
        Err(_) => Answer::Silence,
    }
}

fn socket(
    timeout: Duration,
    kind: Type,
    protocol: Protocol,
    namespace: &Namespace,
    from: IpAddr,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(from, 0)), kind, Some(protocol))?;
    let bind = || socket.bind(&SocketAddr::new(from, namespace.next_port()).into());
    while let Err(error) = bind() {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
    }
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

fn ask_tcp(
    timeout: Duration,
    namespace: &Namespace,
    from: IpAddr,
    to: SocketAddr,
) -> io::Result<String> {
    let mut socket = socket(timeout, Type::STREAM, Protocol::TCP, namespace, from)?;
    // No TIME_WAIT, because thousands of requests would use up the ports.
    socket.set_linger(Some(Duration::ZERO))?;
    connect(timeout, &socket, from, to)?;
    let mut text = String::new();
    let mut buffer = [0; 64];
    while !text.ends_with('\n') {
        let length = socket.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    Ok(text)
}

/// Connects. Returns `ConnectionRefused` as soon as port unreachable arrives. The socket alone does
/// not always report it: between namespaces the error arrives while the connecting thread still
/// holds the socket, and then TCP only tries again a second later (tcp_v6_err).
fn connect(timeout: Duration, socket: &Socket, from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let icmp = if from.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let icmp = raw(from, icmp);
    icmp.set_nonblocking(true)?;
    let icmp = UdpSocket::from(icmp);
    let own_port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());

    socket.set_nonblocking(true)?;
    let _ = socket.connect(&to.into());
    let deadline = Instant::now() + timeout;
    let mut packet = [0; 256];
    while socket.peer_addr().is_err() {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        while let Ok((length, _)) = icmp.recv_from(&mut packet) {
            if is_port_unreachable(&packet[..length], from.is_ipv4(), own_port) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::yield_now();
    }
    socket.set_nonblocking(false)
}

/// Whether an ICMP message answers a packet from that port: type 3, code 3, followed by the IPv4
/// packet (RFC 792), or type 1, code 4, followed by the IPv6 packet (RFC 4443).
fn is_port_unreachable(packet: &[u8], is_ipv4: bool, own_port: u16) -> bool {
    let (message, quoted_header, wanted) = match is_ipv4 {
        true => (&packet[usize::from(packet[0] & 15) * 4..], 20, [3, 3]),
        false => (packet, 40, [1, 4]),
    };
    let port = message.get(8 + quoted_header..8 + quoted_header + 2);
    message.starts_with(&wanted) && port == Some(&own_port.to_be_bytes())
}

fn ask_udp(
    timeout: Duration,
    namespace: &Namespace,
    from: IpAddr,
    to: SocketAddr,
) -> io::Result<String> {
    let mut socket = socket(timeout, Type::DGRAM, Protocol::UDP, namespace, from)?;
    socket.connect(&to.into())?;
    match socket.send(b"?") {
        // Rules dropped the packet on output. The socket reports whether it was rejected.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        sent => drop(sent?),
    }
    let mut buffer = [0; 64];
    let length = socket.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

const SCTP: i32 = 132;

/// Kernels without SCTP sockets still translate and forward SCTP. So the tests send and receive the
/// packets through raw sockets.
pub(crate) struct Listeners {
    seen: Arc<Mutex<Vec<(SocketAddr, IpAddr, u16)>>>,
}

impl Listeners {
    /// Listens for SCTP packets at addresses of namespaces.
    pub(crate) fn new(at: &[(&Namespace, SocketAddr)]) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (namespace, at) in at.iter().copied() {
            // A raw socket as a `UdpSocket`, because its `recv_from` fills a plain byte buffer.
            let socket = UdpSocket::from(namespace.inside(|| raw(at.ip(), Protocol::from(SCTP))));
            let seen = seen.clone();
            thread::spawn(move || {
                let mut packet = [0; 512];
                while let Ok((_, peer)) = socket.recv_from(&mut packet) {
                    // IPv4 raw sockets receive the IP header too; IPv6 ones do not.
                    let header = if at.is_ipv4() { usize::from(packet[0] & 15) * 4 } else { 0 };
                    let port =
                        |n: usize| u16::from_be_bytes([packet[header + n], packet[header + n + 1]]);
                    if port(2) == at.port() {
                        seen.lock().unwrap().push((at, peer.ip(), initiate_tag(&packet[header..])));
                    }
                }
            });
        }
        Self { seen }
    }

    /// Sends one INIT. Returns where it arrived.
    pub(crate) fn ask(
        &self,
        namespace: &Namespace,
        from: IpAddr,
        to: SocketAddr,
        tag: u16,
    ) -> Answer {
        namespace.inside(|| {
            let socket = raw(from, Protocol::from(SCTP));
            let port = 20_000 + tag % 10_000;
            // IPv6 raw sockets reject a destination address with a port.
            let peer = SocketAddr::new(to.ip(), 0);
            let _ = socket.send_to(&init(port, to.port(), tag), &peer.into());
        });
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let arrived =
                self.seen.lock().unwrap().iter().find(|(_, _, seen)| *seen == tag).copied();
            match arrived {
                Some((endpoint, seen, _)) => return Answer::From { endpoint, seen },
                None if Instant::now() > deadline => return Answer::Silence,
                None => thread::yield_now(),
            }
        }
    }
}

fn raw(at: IpAddr, protocol: Protocol) -> Socket {
    let domain = Domain::for_address(SocketAddr::new(at, 0));
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
    socket.bind(&SocketAddr::new(at, 0).into()).unwrap();
    socket
}

/// An INIT chunk whose initiate tag identifies the packet (RFC 9260, 3.3.2).
fn init(from: u16, to: u16, tag: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(u32::from(tag).to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn initiate_tag(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[18], packet[19]])
}
