//! What all subsystems of nfnetlink share: the socket, attributes and the numbers of families.

pub(crate) mod attribute;
pub(crate) mod family;
mod socket;

use std::io;

use nix::errno::Errno;

pub(crate) use socket::{Answer, Dumped, ERROR, Failure, Fields, PATIENCE, Socket, answer};

/// Whether the kernel lacks netlink for netfilter, or the subsystem that was asked.
pub(crate) fn is_absence(source: &io::Error) -> bool {
    let errno = source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP))
}
