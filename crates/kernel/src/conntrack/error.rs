//! Errors of conntrack access.

use std::io;

use nix::errno::Errno;

use crate::netlink::{self, PATIENCE, SocketError};

/// Error of listing or deleting flows.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// Netlink is not accessible. Retrying does not help.
    #[error("cannot access conntrack{}", remedy(.source))]
    Unreachable {
        /// The system error.
        source: io::Error,
    },
    /// Entries may be missing from the list. Retrying helps.
    #[error("the conntrack table changed while it was listed")]
    Interrupted,
    /// Timeout. Retrying may help.
    #[error("no answer about conntrack entries from the kernel in {} s", PATIENCE.as_secs())]
    Timeout,
    /// The kernel's answer is malformed. Retrying may help.
    #[error("malformed answer about conntrack entries from the kernel: {0}")]
    Malformed(String),
}

impl ConntrackError {
    /// True if the kernel does not support ctnetlink, so that flows cannot be listed. There may
    /// still be flows.
    pub fn is_absence(&self) -> bool {
        matches!(self, ConntrackError::Unreachable { source } if netlink::is_absence(source))
    }
}

impl From<SocketError> for ConntrackError {
    fn from(failure: SocketError) -> Self {
        match failure {
            SocketError::Unreachable(source) => Self::Unreachable { source },
            SocketError::Lost => Self::Interrupted,
            SocketError::Timeout => Self::Timeout,
            SocketError::Malformed(what) => Self::Malformed(what),
        }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => ": requires root or CAP_NET_ADMIN",
        _ if netlink::is_absence(source) => {
            ": not supported by this kernel (needs CONFIG_NF_CT_NETLINK; try modprobe nf_conntrack_netlink)"
        }
        _ => "",
    }
}
