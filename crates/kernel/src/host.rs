//! What the machine says of itself.

use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::unistd::gethostname;

/// The host name, empty if there is none.
pub fn name() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The addresses of all interfaces, in the kernel's order, each once.
///
/// # Errors
/// When the kernel does not give them; nothing that a caller could do right then.
pub fn addresses() -> std::io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for interface in getifaddrs()? {
        let Some(address) = interface.address else { continue };
        let ip: IpAddr = if let Some(v4) = address.as_sockaddr_in() {
            v4.ip().into()
        } else if let Some(v6) = address.as_sockaddr_in6() {
            v6.ip().into()
        } else {
            continue;
        };
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

/// Whether IPv6 is there and not switched off in this network namespace.
pub fn has_ipv6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    Path::new("/proc/net/if_inet6").exists() && disabled.is_ok_and(|value| value.trim() == "0")
}

/// Whether packets may be routed to loopback addresses (`net.ipv4.conf.all.route_localnet`),
/// which node ports at loopback need.
pub fn routes_localnet() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet")
        .is_ok_and(|value| value.trim() == "1")
}
