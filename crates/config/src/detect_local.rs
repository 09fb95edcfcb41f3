//! How traffic of this node's pods is detected, and the networks and interfaces for it.

use ipnet::IpNet;
use rulegen_net::parse_network;

use crate::value_error::ValueError;

/// How traffic of this node's pods is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectLocalMode {
    /// By a source address in the cluster's pod network.
    #[default]
    ClusterCidr,
    /// By a source address in the node's pod network.
    NodeCidr,
    /// By the bridge on which it arrives.
    BridgeInterface,
    /// By the prefix of the name of the interface on which it arrives.
    InterfaceNamePrefix,
}

/// Parses the cluster's pod networks: one CIDR, or one per IP family, comma-separated.
///
/// # Errors
/// The text is not such a list.
pub fn parse_cluster_cidrs(text: &str) -> Result<Vec<IpNet>, ValueError> {
    let network =
        |text: &str| parse_network(text.trim()).ok_or_else(|| ValueError::Cidr(text.to_owned()));
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let networks: Vec<IpNet> = text.split(',').map(network).collect::<Result<_, _>>()?;
    match networks.as_slice() {
        [_] => Ok(networks),
        [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(networks),
        _ => Err(ValueError::CidrList(text.to_owned())),
    }
}

/// Checks an interface name, or a prefix of one.
///
/// # Errors
/// The name is invalid or too long.
pub fn parse_interface(name: &str, longest: usize) -> Result<String, ValueError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins_well || name.len() > longest || !name.bytes().all(plain) {
        return Err(ValueError::Interface { name: name.to_owned(), longest });
    }
    Ok(name.to_owned())
}

/// Maximum length of an interface name: IFNAMSIZ without the NUL.
pub const LONGEST_INTERFACE: usize = 15;

/// Maximum length of an interface name prefix: iptables appends `+` to it.
pub const LONGEST_INTERFACE_PREFIX: usize = LONGEST_INTERFACE - 1;
