//! What the kernel says of the tables of iptables-legacy without listing their rules.
//!
//! It tells nobody of changes to them. Their numbers and sizes cost one system call a table, so that
//! they can be compared each second; a change that leaves both as they were is not seen.
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

/// How much is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyTable {
    /// Rules, chains and policies.
    pub entries: u32,
    /// All of them, in bytes.
    pub bytes: u32,
}

/// The tables of both families that are there, of those that a service proxy uses. To ask for one
/// that is not there would make it. It takes CAP_NET_ADMIN.
///
/// # Errors
/// When the kernel does not say.
pub fn legacy_tables() -> io::Result<BTreeMap<(IpFamily, Table), LegacyTable>> {
    let mut tables = BTreeMap::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        for table in names(family)? {
            tables.insert((family, table), ask(family, table)?);
        }
    }
    Ok(tables)
}

/// The tables that are there; none where the kernel has no iptables-legacy.
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
struct Info {
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
    // A raw socket, which iptables-legacy uses, would take CAP_NET_RAW.
    let socket: OwnedFd = socket(of, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut info = Info {
        name: [0; 32],
        valid_hooks: 0,
        hook_entries: [0; 5],
        underflows: [0; 5],
        entries: 0,
        bytes: 0,
    };
    let name = table.name().bytes();
    info.name.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).unwrap_or_default();
    // SAFETY: `info` is what the option takes and gives, all of it integers, and `length` its size;
    // both live until the call returns.
    let done = unsafe {
        let info = (&raw mut info).cast::<libc::c_void>();
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, info, &raw mut length)
    };
    Errno::result(done)?;
    Ok(LegacyTable { entries: info.entries, bytes: info.bytes })
}
