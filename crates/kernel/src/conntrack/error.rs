//! What goes wrong between us and conntrack.

use std::io;

use nix::errno::Errno;

use crate::netlink::{self, Failure};

/// Why flows were not listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Netlink cannot be spoken to at all. Retrying does not help.
    #[error("the table of connections cannot be reached{}", remedy(.source))]
    Unreachable {
        /// Why.
        source: io::Error,
    },
    /// Not everything that the kernel told was heard. Asking again helps.
    #[error("the table of connections was told only in part")]
    Interrupted,
    /// The kernel says what it cannot mean. Asking again may help.
    #[error("the kernel's answer about connections is not understood: {0}")]
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
            Failure::Misunderstood(what) => Self::Misunderstood(what),
        }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => ": it takes root, or the capability NET_ADMIN",
        _ if netlink::is_absence(source) => {
            ": the kernel has it not (CONFIG_NF_CT_NETLINK; modprobe nf_conntrack_netlink)"
        }
        _ => "",
    }
}
