//! Values in keys.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use rulegen_net::Protocol;

/// Value of a part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// All addresses of a network.
    Network(IpNet),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port of the transport protocol, from 0 to 65535.
    Port(u16),
    /// A 32-bit number, such as that of an endpoint.
    Number(u32),
}
