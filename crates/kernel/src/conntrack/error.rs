//! What goes wrong between us and conntrack.

use std::io;

use nix::errno::Errno;

use crate::netlink::{self, Failure, PATIENCE};

/// Why flows were not listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Netlink cannot be spoken to at all. Retrying does not help.
    #[error("conntrack cannot be reached{}", remedy(.source))]
    Unreachable {
        /// Why.
        source: io::Error,
    },
    /// Not everything that the kernel told was heard. Asking again helps.
    #[error("the conntrack table changed while it was listed")]
    Interrupted,
    /// No answer came in time. Asking again may help.
    #[error("no answer about conntrack entries from the kernel in {} s", PATIENCE.as_secs())]
    Timeout,
    /// The kernel's answer is malformed. Asking again may help.
    #[error("malformed answer about conntrack entries from the kernel: {0}")]
    Misunderstood(String),
}

impl Error {
    /// Whether the kernel has no ctnetlink, so that nobody can list flows. There may be flows
    /// all the same.
    pub fn is_absence(&self) -> bool {
        matches!(self, Error::Unreachable { source } if netlink::is_absence(source))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(source) => Self::Unreachable { source },
            Failure::Lost => Self::Interrupted,
            Failure::Timeout => Self::Timeout,
            Failure::Misunderstood(what) => Self::Misunderstood(what),
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
