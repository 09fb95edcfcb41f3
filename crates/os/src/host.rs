//! Properties of this machine.

use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::unistd::gethostname;

/// Host name; empty if there is none.
pub fn name() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The kernel's random ID of this boot.
///
/// # Errors
/// /proc cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// Name of the interface.
    pub name: String,
    /// Whether it is up (IFF_UP).
    pub is_up: bool,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this network namespace, in the kernel's order.
///
/// # Errors
/// The kernel does not return them. A caller cannot do anything about it.
pub fn interfaces() -> std::io::Result<Vec<HostInterface>> {
    let mut interfaces: Vec<HostInterface> = Vec::new();
    for entry in getifaddrs()? {
        let is_up = entry.flags.contains(InterfaceFlags::IFF_UP);
        let ip = ip_of(&entry);
        let name = entry.interface_name;
        match interfaces.iter_mut().find(|interface| interface.name == name) {
            Some(interface) => interface.addresses.extend(ip),
            None => {
                interfaces.push(HostInterface { name, is_up, addresses: ip.into_iter().collect() })
            }
        }
    }
    Ok(interfaces)
}

/// Addresses of all interfaces without duplicates, in the kernel's order.
///
/// # Errors
/// The kernel does not return the addresses. A caller cannot do anything about it.
pub fn addresses() -> std::io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for interface in getifaddrs()? {
        let Some(ip) = ip_of(&interface) else { continue };
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

fn ip_of(entry: &InterfaceAddress) -> Option<IpAddr> {
    let address = entry.address?;
    let ipv4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    ipv4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// Number of online CPUs, including those that this process may not use: the kernel sizes its
/// tables by it.
pub fn cpus() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let ours = || std::thread::available_parallelism().map_or(1, NonZero::get);
    count_of_list(online.trim()).filter(|count| *count > 0).unwrap_or_else(ours)
}

/// True if IPv6 exists and is enabled in this network namespace.
pub fn has_ipv6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    Path::new("/proc/net/if_inet6").exists() && disabled.is_ok_and(|value| value.trim() == "0")
}

/// True if packets may be routed to loopback addresses (`net.ipv4.conf.all.route_localnet`), which
/// node ports on loopback need.
pub fn routes_localnet() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet")
        .is_ok_and(|value| value.trim() == "1")
}

/// The tables of iptables-legacy that are loaded in this network namespace. Empty without
/// permission to read them.
pub fn legacy_iptables_tables(is_ipv6: bool) -> Vec<String> {
    let file = if is_ipv6 { "ip6_tables_names" } else { "ip_tables_names" };
    let names = std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
    names.lines().map(str::to_owned).collect()
}

/// Number of entries in a list such as `0-3,8` (bitmap_print_to_pagebuf() of the kernel).
fn count_of_list(list: &str) -> Option<usize> {
    list.split(',').try_fold(0_usize, |count, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count.checked_add(last.checked_sub(first)?)?.checked_add(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_cpu_list_is_counted() {
        assert_eq!(count_of_list("0"), Some(1));
        assert_eq!(count_of_list("0-3,8,10-11"), Some(7));
        assert_eq!(count_of_list(""), None);
        assert_eq!(count_of_list("3-0"), None);
        assert_eq!(count_of_list(&format!("0-{}", usize::MAX)), None);
        assert!(cpus() > 0);
    }
}
