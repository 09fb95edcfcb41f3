//! Routes of this network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::errno::Errno;

/// Looks up the route to an address for packets of this host's own processes, by connecting a UDP
/// socket, which sends nothing. Returns the kernel's error if it has no usable route.
///
/// # Errors
/// The lookup failed for another reason.
pub fn route_error(to: IpAddr) -> io::Result<Option<io::Error>> {
    const ANY_PORT: u16 = 9;
    let unspecified = match to {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    match socket.connect((to, ANY_PORT)) {
        Ok(()) => Ok(None),
        Err(error) if is_missing_route(&error) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Whether the error comes from a missing route, or from one of type unreachable, prohibit or
/// blackhole (fib_props of the kernel), or because no source address fits.
fn is_missing_route(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::EACCES
                | Errno::EINVAL
                | Errno::EADDRNOTAVAIL
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_to_loopback_exists() {
        assert!(route_error(Ipv4Addr::LOCALHOST.into()).unwrap().is_none());
        assert!(is_missing_route(&Errno::ENETUNREACH.into()));
        assert!(!is_missing_route(&Errno::EMFILE.into()));
    }
}
