//! Flags for the address that a server of the agent listens on.

use std::net::IpAddr;

use rulegen_config::BindAddress;

use super::choice::Given;

/// An address, and a port if there is one.
pub(super) type ListenAddress = (IpAddr, Option<u16>);

/// The meaning of an address flag. An empty address disables the server.
pub(super) fn bind_address(
    flag: &Option<Given<ListenAddress>>,
    default_port: u16,
) -> Option<BindAddress> {
    let Given(address) = flag.as_ref()?;
    Some(match *address {
        Some((ip, port)) => BindAddress::new(ip, port.unwrap_or(default_port)),
        None => BindAddress::Off,
    })
}
