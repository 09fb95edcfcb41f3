//! Addresses that servers listen on, and the node's primary address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_net::parse_address;

use crate::value_error::ValueError;

/// Listen address of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAddress {
    /// The server is off.
    Off,
    /// The server listens on this address.
    At(SocketAddr),
}

impl BindAddress {
    /// Kube-proxy's port for `/healthz`.
    pub const HEALTHZ_PORT: u16 = 10256;
    /// Kube-proxy's port for `/metrics`.
    pub const METRICS_PORT: u16 = 10249;

    /// Parses `IP` or `IP:PORT`. The empty string and port 0 disable the server, as in kube-proxy.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(Self::Off);
        }
        let (ip, port) = parse_listen_address(text)?;
        Ok(Self::new(ip, port.unwrap_or(default_port)))
    }

    /// The address with this port; port 0 disables the server.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        if port == 0 { Self::Off } else { Self::At(SocketAddr::new(ip, port)) }
    }

    /// Kube-proxy's default for `/healthz`: all addresses, IPv6 too if the node's primary address
    /// is one.
    pub(crate) fn healthz(primary: IpAddr, port: Option<u16>) -> Self {
        let ip = match primary {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self::new(ip, port.unwrap_or(Self::HEALTHZ_PORT))
    }

    /// Kube-proxy's default for `/metrics`: loopback, in the family of the node's primary address.
    pub(crate) fn metrics(primary: IpAddr, port: Option<u16>) -> Self {
        let ip = match primary {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        Self::new(ip, port.unwrap_or(Self::METRICS_PORT))
    }
}

/// Parses `IP` or `IP:PORT`; IPv6 with or without brackets.
///
/// # Errors
/// The text is neither.
pub fn parse_listen_address(text: &str) -> Result<(IpAddr, Option<u16>), ValueError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Some(ip) = parse_address(bare) {
        return Ok((ip, None));
    }
    let socket: SocketAddr =
        text.parse().map_err(|_| ValueError::ListenAddress(text.to_owned()))?;
    Ok((socket.ip(), Some(socket.port())))
}

impl fmt::Display for BindAddress {
    /// In a file the empty string means the default, so that port 0 stands for `Off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0.0.0.0:0"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Reads the node's primary address.
///
/// # Errors
/// It is not an IP address.
pub fn parse_bind_address(text: &str) -> Result<IpAddr, ValueError> {
    parse_address(text).ok_or_else(|| ValueError::Ip(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_are_parsed_like_kube_proxy() {
        let at = |text: &str| Ok(BindAddress::At(text.parse().unwrap()));
        assert_eq!(BindAddress::parse("", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("0.0.0.0:0", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("10.0.0.1", 1), at("10.0.0.1:1"));
        assert_eq!(BindAddress::parse("::", 1), at("[::]:1"));
        assert_eq!(BindAddress::parse("[::1]", 1), at("[::1]:1"));
        assert_eq!(BindAddress::parse("[::1]:2", 1), at("[::1]:2"));
        assert!(BindAddress::parse("localhost:1", 1).is_err());
    }
}
