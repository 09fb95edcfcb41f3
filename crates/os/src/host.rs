//! Properties of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    /// Name.
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

/// Name of the interface that packets from an address come in through, if they take the route back
/// to it: the longest prefix of the main routing table. Rules for policy routing are not considered.
pub fn interface_towards(ip: IpAddr) -> Option<String> {
    let text = |file| std::fs::read_to_string(file).unwrap_or_default();
    match ip {
        IpAddr::V4(ip) => ipv4_interface(&text("/proc/net/route"), ip),
        IpAddr::V6(ip) => ipv6_interface(&text("/proc/net/ipv6_route"), ip),
    }
}

/// RTF_UP and RTF_REJECT of linux/route.h.
const UP: u32 = 1;
const REJECT: u32 = 0x200;

fn is_usable(flags: u32) -> bool {
    flags & UP != 0 && flags & REJECT == 0
}

/// Numbers in `/proc/net/route` are hexadecimal, addresses in the byte order of the host.
fn ipv4_interface(routes: &str, ip: Ipv4Addr) -> Option<String> {
    let ip = u32::from_ne_bytes(ip.octets());
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let interface = fields.next()?.to_owned();
        let mut next = |at| u32::from_str_radix(fields.nth(at)?, 16).ok();
        let (destination, flags, mask) = (next(0)?, next(1)?, next(3)?);
        let is_meant = is_usable(flags) && ip & mask == destination;
        is_meant.then_some((mask.count_ones(), interface))
    };
    longest(routes.lines().filter_map(route))
}

fn ipv6_interface(routes: &str, ip: Ipv6Addr) -> Option<String> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, _, _, _, _, flags, interface] = fields.as_slice() else {
            return None;
        };
        let destination = u128::from_str_radix(destination, 16).ok()?;
        let length = u32::from_str_radix(length, 16).ok()?;
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_meant = is_usable(flags) && *interface != "lo" && ip.to_bits() & mask == destination;
        is_meant.then(|| (length, (*interface).to_owned()))
    };
    longest(routes.lines().filter_map(route))
}

/// The first of the routes with the longest prefix: the kernel lists the better metric first.
fn longest(routes: impl Iterator<Item = (u32, String)>) -> Option<String> {
    routes.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, of)| of)
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
    fn host_interface_is_that_of_longest_route() {
        // 10.244.1.0/24, 10.244.0.0/16, unreachable 10.244.1.9/32, default; as of a little-endian host.
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n\
                      cni0 0001F40A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                      eth1 0000F40A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
                      * 0901F40A 00000000 0201 0 0 0 FFFFFFFF 0 0 0\n";
        let towards = |ip: &str| ipv4_interface(routes, ip.parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(towards("10.244.1.9").as_deref(), Some("cni0"));
            assert_eq!(towards("10.244.2.9").as_deref(), Some("eth1"));
            assert_eq!(towards("192.0.2.1").as_deref(), Some("eth0"));
        }
        let zero = "0".repeat(32);
        let line = |destination: &str, length: &str, flags: &str, interface: &str| {
            format!(
                "{destination} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {interface}\n"
            )
        };
        let pods = "fd000010024400010000000000000000";
        let routes = [line(&zero, "00", "00000003", "eth0"), line(pods, "40", "00000001", "cni0")];
        let towards = |ip: &str| ipv6_interface(&routes.concat(), ip.parse().unwrap());
        assert_eq!(towards("fd00:10:244:1::5").as_deref(), Some("cni0"));
        assert_eq!(towards("2001:db8::1").as_deref(), Some("eth0"));
    }

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
