//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// kube-proxy's retry interval.
pub const RETRY: Duration = Duration::from_secs(5);

/// The accept backlog. If it is full the kernel drops the connection attempt, and the client
/// retries after a second, which is too late for a prober. Limited by net.core.somaxconn (4096).
const BACKLOG: i32 = 4096;

const SEND_BUFFER: usize = 1 << 17;

/// Listens on an address. On failure it calls `on_failure` and, unless `hard_fail`
/// (`bindAddressHardFail`) is set, retries each [`RETRY`]: the address may still be held by the
/// previous agent.
///
/// # Errors
/// The system error, only with `hard_fail`.
pub async fn bind(
    address: SocketAddr,
    hard_fail: bool,
    mut on_failure: impl FnMut(&io::Error),
) -> io::Result<TcpListener> {
    loop {
        match listen_as_go_does(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                on_failure(&error);
                if hard_fail {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// 0.0.0.0 means all addresses of both families, as in Go, because probes may use either.
fn listen_as_go_does(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        match listen(both, false) {
            // IPv6 may be disabled on the host.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    listen_at(address)
}

/// Listens on exactly this address: `[::]` is all IPv6 addresses and no IPv4 address. Must be
/// called within a runtime.
///
/// # Errors
/// The system error.
pub(crate) fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, address.is_ipv6())
}

fn listen(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
    }
    // Connections of the previous agent that are still closing must not block the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Buffers for clients that do not read use the node's memory; a response has at most a few MB.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
