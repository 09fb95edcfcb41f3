//! Converts the kernel's error numbers into dataplane errors.

use std::io;

use nix::errno::Errno;
use rulegen_ruleset::dataplane::{Error, Obstacle, Reason};

use crate::netlink::{self, Failure, PATIENCE};

/// Classifies an error number.
pub(super) fn reason(errno: Errno) -> Reason {
    match errno {
        Errno::ENOENT => Reason::NotFound,
        Errno::EEXIST => Reason::Exists,
        Errno::EBUSY => Reason::Busy,
        Errno::EINVAL => Reason::Invalid,
        Errno::EOPNOTSUPP => Reason::Unsupported,
        Errno::E2BIG
        | Errno::ELOOP
        | Errno::EMLINK
        | Errno::EMSGSIZE
        | Errno::ENAMETOOLONG
        | Errno::ENFILE
        | Errno::ENOSPC
        | Errno::ENOTEMPTY
        | Errno::EOVERFLOW
        | Errno::ERANGE => Reason::Content,
        _ => Reason::Circumstances,
    }
}

/// The error for inaccessible nf_tables.
pub(super) fn unreachable(source: io::Error) -> Error {
    let obstacle = match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => Obstacle::NotPermitted,
        _ if netlink::is_absence(&source) => Obstacle::NotSupported,
        _ => Obstacle::Other,
    };
    Error::Unreachable { source, obstacle }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(source) => unreachable(source),
            Failure::Lost => Self::Lost,
            Failure::Timeout => Self::Timeout { patience: PATIENCE },
            Failure::Malformed(what) => Self::Malformed(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_nftables_out_of_memory_or_not_permitted_is_not_about_content() {
        for errno in [Errno::ENOMEM, Errno::ENOBUFS, Errno::EPERM, Errno::EACCES, Errno::EINTR] {
            assert_eq!(reason(errno), Reason::Circumstances, "{errno}");
        }
        for errno in [Errno::EMLINK, Errno::E2BIG, Errno::ENOSPC] {
            assert_eq!(reason(errno), Reason::Content, "{errno}");
        }
    }
}
