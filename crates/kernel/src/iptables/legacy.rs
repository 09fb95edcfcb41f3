//! Sizes of the tables of iptables-legacy, without listing their rules.
//!
//! The kernel sends no events for these tables. Reading the sizes costs one system call per table,
//! so they can be compared each second; a change that leaves both sizes the same is not noticed.
#![allow(unsafe_code, reason = "nix has no socket option that takes and gives a structure")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Table;

/// Size of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyTable {
    /// Number of rules, chains and policies.
    pub entries: u32,
    /// Total size in bytes.
    pub bytes: u32,
}

impl LegacyTable {
    /// Whether a table of this kind has more than its policies and the entry that ends each table.
    pub fn has_rules(self, table: Table) -> bool {
        let policies = match table {
            Table::Raw => 2,
            Table::Filter | Table::Security => 3,
            Table::Nat => 4,
            Table::Mangle => 5,
        };
        self.entries > policies + 1
    }
}

/// Sizes of the existing tables of both families that a service proxy uses. Requesting a missing
/// table would create it, so missing ones are skipped. Requires CAP_NET_ADMIN.
///
/// # Errors
/// A socket or a file in /proc cannot be read.
pub fn legacy_tables() -> io::Result<BTreeMap<(IpFamily, Table), LegacyTable>> {
    let mut tables = BTreeMap::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        for table in names(family)? {
            tables.insert((family, table), ask(family, table)?);
        }
    }
    Ok(tables)
}

/// The existing tables; empty if the kernel has no iptables-legacy.
fn names(family: IpFamily) -> io::Result<Vec<Table>> {
    let file = match family {
        IpFamily::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let used = [Table::Mangle, Table::Filter, Table::Nat].into_iter();
    Ok(used.filter(|table| text.lines().any(|line| line == table.name())).collect())
}

/// struct ipt_getinfo of linux/netfilter_ipv4/ip_tables.h, and ip6t_getinfo, which is the same.
#[repr(C)]
struct IptGetinfo {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entries: [u32; 5],
    underflows: [u32; 5],
    entries: u32,
    bytes: u32,
}

fn ask(family: IpFamily, table: Table) -> io::Result<LegacyTable> {
    // IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
    const GET_INFO: libc::c_int = 64;
    let (of, level) = match family {
        IpFamily::Ipv4 => (AddressFamily::Inet, libc::IPPROTO_IP),
        IpFamily::Ipv6 => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
    };
    // A raw socket, as iptables-legacy uses, would require CAP_NET_RAW.
    let socket: OwnedFd = socket(of, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut info = IptGetinfo {
        name: [0; 32],
        valid_hooks: 0,
        hook_entries: [0; 5],
        underflows: [0; 5],
        entries: 0,
        bytes: 0,
    };
    let name = table.name().bytes();
    info.name.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    let mut length = libc::socklen_t::try_from(size_of::<IptGetinfo>()).unwrap_or_default();
    // SAFETY: `info` is the struct that the option reads and writes, and has only integer fields;
    // `length` is its size. Both live until the call returns.
    let done = unsafe {
        let info = (&raw mut info).cast::<libc::c_void>();
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, info, &raw mut length)
    };
    Errno::result(done)?;
    Ok(LegacyTable { entries: info.entries, bytes: info.bytes })
}
