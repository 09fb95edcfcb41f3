//! Sockets to listen at.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How often kube-proxy tries again.
pub const RETRY: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted. Where it is full, the kernel drops the next, whose client
/// tries again after a second: too late for a prober. It is cut to net.core.somaxconn (4096).
const BACKLOG: i32 = 4096;

const SEND_BUFFER: usize = 1 << 17;

/// Listens at an address. If that fails it says so to `on_failure` and, unless `hard_fail`
/// (`bindAddressHardFail`), tries again each [`RETRY`], as the address may be held by the agent
/// that this one replaces.
///
/// # Errors
/// What the kernel says, with `hard_fail` only.
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

/// 0.0.0.0 means all addresses of both families: Go listens so, and probers may use either.
fn listen_as_go_does(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        match listen(both, false) {
            // The host may be without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    listen_at(address)
}

/// Listens at this address only: `[::]` is all addresses of IPv6 and none of IPv4. It must be
/// called within a runtime.
///
/// # Errors
/// What the kernel says.
pub(crate) fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, address.is_ipv6())
}

fn listen(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
    }
    // Connections of the agent before, which are still being closed, shall not be in the way.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Buffers for clients that do not read are the node's memory; an answer is at most a few MB.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
