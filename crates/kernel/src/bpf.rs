//! Asks which eBPF programs are attached (bpf(2)).
#![allow(unsafe_code, reason = "no library of this program wraps bpf(2)")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nftnl::nftnl_sys::libc;
use nix::errno::Errno;

/// A place at a network interface, or at a cgroup, where programs can be attached (enum
/// bpf_attach_type of linux/bpf.h).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum AttachPoint {
    /// Packets that sockets of a cgroup receive.
    CgroupIngress = 0,
    /// Packets that sockets of a cgroup send.
    CgroupEgress = 1,
    /// connect(2) of a cgroup's processes, IPv4. Since Linux 4.17.
    CgroupConnect4 = 10,
    /// connect(2) of a cgroup's processes, IPv6.
    CgroupConnect6 = 11,
    /// sendmsg(2) of a cgroup's processes over UDP, IPv4. Since Linux 4.18.
    CgroupSend4 = 14,
    /// sendmsg(2) of a cgroup's processes over UDP, IPv6.
    CgroupSend6 = 15,
    /// tcx, received packets. Since Linux 6.6.
    TcxIngress = 46,
    /// tcx, sent packets.
    TcxEgress = 47,
    /// A netkit device, packets from its side in this network namespace. Since Linux 6.7.
    NetkitPrimary = 54,
    /// A netkit device, packets from its peer.
    NetkitPeer = 55,
}

/// The fields of union bpf_attr for BPF_PROG_QUERY.
#[derive(Default)]
#[repr(C)]
struct ProgQuery {
    /// The index of an interface, or a file descriptor of a cgroup.
    target: u32,
    attach_point: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    rest: [u64; 4],
}

/// Whether programs are attached to an interface.
///
/// # Errors
/// The caller may not ask (CAP_NET_ADMIN, a security module), or the interface is the peer of a netkit
/// device.
pub(crate) fn has_programs(interface: u32, at: AttachPoint) -> io::Result<bool> {
    match count(ProgQuery { target: interface, attach_point: at as u32, ..ProgQuery::default() }) {
        Ok(count) => Ok(count > 0),
        Err(errno) if is_absence(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether programs are in force at a cgroup: its own, and those of the cgroups above it.
///
/// # Errors
/// The caller may not ask (CAP_NET_ADMIN), or this is not a cgroup of version 2.
pub(crate) fn has_cgroup_programs(cgroup: BorrowedFd<'_>, at: AttachPoint) -> io::Result<bool> {
    /// BPF_F_QUERY_EFFECTIVE.
    const EFFECTIVE: u32 = 1;
    let target = cgroup.as_raw_fd().cast_unsigned();
    let attach_point = at as u32;
    match count(ProgQuery { target, attach_point, query_flags: EFFECTIVE, ..ProgQuery::default() })
    {
        Ok(count) => Ok(count > 0),
        // A kernel without bpf(2) or without this kind of program.
        Err(Errno::ENOSYS | Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The number of programs.
fn count(mut query: ProgQuery) -> Result<u32, Errno> {
    const PROGRAM_QUERY: libc::c_int = 16;
    // SAFETY: `query` has the layout and size that the kernel reads and writes, and its pointers
    // are null: only the number of programs is asked for.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROGRAM_QUERY,
            (&raw mut query).cast::<libc::c_void>(),
            size_of::<ProgQuery>(),
        )
    };
    match done {
        0 => Ok(query.count),
        _ => Err(Errno::last()),
    }
}

/// Whether the error tells of a kernel without bpf(2) or without this kind of program, or of an
/// interface of another kind. EACCES does not: a security module gives it, and the peer of a netkit
/// device.
fn is_absence(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOSYS
            | Errno::EINVAL
            | Errno::EOPNOTSUPP
            | Errno::ENOENT
            | Errno::ENODEV
            | Errno::ENXIO
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_refusal_does_not_mean_that_there_are_no_programs() {
        for errno in [Errno::EACCES, Errno::EPERM] {
            assert!(!is_absence(errno), "{errno}");
        }
        assert!(is_absence(Errno::EINVAL), "before Linux 6.6");
    }
}
