//! Converts the kernel's error numbers into dataplane errors.

use std::io;

use nix::errno::Errno;
use rulegen_ruleset::dataplane::{AccessFailure, DataplaneError, RefusalReason};

use crate::netlink::{self, PATIENCE, SocketError};

/// Classifies an error number.
pub(super) fn reason(errno: Errno) -> RefusalReason {
    match errno {
        Errno::ENOENT => RefusalReason::NotFound,
        Errno::EEXIST => RefusalReason::Exists,
        Errno::EBUSY => RefusalReason::Busy,
        Errno::EINVAL => RefusalReason::Invalid,
        Errno::EOPNOTSUPP => RefusalReason::Unsupported,
        Errno::E2BIG
        | Errno::ELOOP
        | Errno::EMLINK
        | Errno::EMSGSIZE
        | Errno::ENAMETOOLONG
        | Errno::ENFILE
        | Errno::ENOSPC
        | Errno::ENOTEMPTY
        | Errno::EOVERFLOW
        | Errno::ERANGE => RefusalReason::Content,
        _ => RefusalReason::Circumstances,
    }
}

/// The error for inaccessible nf_tables.
pub(super) fn unreachable(source: io::Error) -> DataplaneError {
    let obstacle = match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => AccessFailure::NotPermitted,
        _ if netlink::is_absence(&source) => AccessFailure::NotSupported,
        _ => AccessFailure::Other,
    };
    DataplaneError::Unreachable { source, obstacle }
}

impl From<SocketError> for DataplaneError {
    fn from(failure: SocketError) -> Self {
        match failure {
            SocketError::Unreachable(source) => unreachable(source),
            SocketError::Lost => Self::Lost,
            SocketError::Timeout => Self::Timeout { patience: PATIENCE },
            SocketError::Malformed(what) => Self::Malformed(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_nftables_out_of_memory_or_not_permitted_is_not_about_content() {
        for errno in [Errno::ENOMEM, Errno::ENOBUFS, Errno::EPERM, Errno::EACCES, Errno::EINTR] {
            assert_eq!(reason(errno), RefusalReason::Circumstances, "{errno}");
        }
        for errno in [Errno::EMLINK, Errno::E2BIG, Errno::ENOSPC] {
            assert_eq!(reason(errno), RefusalReason::Content, "{errno}");
        }
    }
}
