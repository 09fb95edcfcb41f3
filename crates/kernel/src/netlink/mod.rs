//! Shared parts of all nfnetlink subsystems: the socket, attributes and family numbers.

pub(crate) mod attribute;
pub(crate) mod family;
mod filter;
mod socket;

use std::io;

use nix::errno::Errno;

pub(crate) use socket::{
    AnswerMessage, Dumped, ERROR, Fields, PATIENCE, Socket, SocketError, answer,
};

/// True if the kernel does not support nfnetlink or the requested subsystem.
pub(crate) fn is_absence(source: &io::Error) -> bool {
    let errno = source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP))
}
