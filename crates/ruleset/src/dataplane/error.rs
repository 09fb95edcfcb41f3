//! Errors of nf_tables access.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

/// Error of a read or a write. The kernel's ruleset is unchanged unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// Netlink is not accessible. Retrying does not help.
    #[error("cannot access nf_tables{obstacle}")]
    Unreachable {
        /// The system error.
        source: io::Error,
        /// The cause, if known, with the remedy.
        obstacle: AccessFailure,
    },
    /// The kernel refused operations, and with them the whole transaction. Retrying the same
    /// transaction does not help.
    #[error("the kernel refused {}", listed(.0))]
    Refused(Vec<RefusedOperation>),
    /// Another program changed the ruleset after it was read. Reading again helps.
    #[error("another program changed the ruleset meanwhile")]
    Stale,
    /// The socket's receive buffer overflowed, so it is unknown whether the transaction took
    /// effect. Reading again helps.
    #[error("netlink receive buffer overflowed")]
    Lost,
    /// Other programs changed the ruleset too often to read or write it in one piece.
    #[error(
        "other programs changed the ruleset during each of {attempts} attempts to read or write it; \
         `nft monitor` shows their process IDs"
    )]
    Busy {
        /// How often the operation was tried.
        attempts: u32,
    },
    /// Timeout: it is unknown whether the transaction took effect. Reading again may help.
    #[error("no answer from the kernel in {} s", .patience.as_secs())]
    Timeout {
        /// Time waited.
        patience: Duration,
    },
    /// The kernel's answer is malformed. Reading again may help.
    #[error("malformed answer from the kernel: {0}")]
    Malformed(String),
}

/// An operation refused by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedOperation {
    /// The operation with its object and table, for messages.
    pub operation: String,
    /// True for operations that add elements to a set or delete them.
    pub of_elements: bool,
    /// Class of the error number.
    pub reason: RefusalReason,
    /// The error number with its name, such as `ENOENT: No such file or directory`.
    pub errno: String,
    /// The kernel's extended error message (NLMSGERR_ATTR_MSG), if any.
    pub message: Option<String>,
}

/// Reason for a refusal, by error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// `ENOENT`: an object that the operation needs is missing.
    NotFound,
    /// `EEXIST`: the object exists already.
    Exists,
    /// `EBUSY`: the object is still referenced.
    Busy,
    /// `EINVAL`: the kernel does not support the operation, or not in combination with its current
    /// ruleset.
    Invalid,
    /// `EOPNOTSUPP`: the kernel does not allow this change.
    Unsupported,
    /// Another error number that concerns the operation itself, such as `E2BIG`.
    Content,
    /// An error number that concerns the moment or the caller, such as `ENOMEM` or `EPERM`.
    Circumstances,
}

/// Cause of missing access to nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFailure {
    /// A capability is missing.
    NotPermitted,
    /// The kernel does not support nf_tables.
    NotSupported,
    /// Any other cause.
    Other,
}

impl Display for AccessFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessFailure::NotPermitted => ": requires root or CAP_NET_ADMIN",
            AccessFailure::NotSupported => {
                ": not supported by this kernel (needs CONFIG_NF_TABLES; try modprobe nf_tables)"
            }
            AccessFailure::Other => "",
        })
    }
}

impl RefusedOperation {
    /// True if the operation itself may be the cause, rather than the moment or the caller.
    fn is_about_content(&self) -> bool {
        !matches!(self.reason, RefusalReason::Busy | RefusalReason::Circumstances)
    }
}

impl Display for RefusedOperation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.errno)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, " ({message})"))
    }
}

impl DataplaneError {
    /// True if the kernel refused something because of its content: without that, it may accept the
    /// rest.
    pub fn is_about_content(&self) -> bool {
        matches!(self, DataplaneError::Refused(refusals) if refusals.iter().all(RefusedOperation::is_about_content))
    }

    /// True if the kernel does not support nf_tables and therefore has no tables.
    pub fn is_absence(&self) -> bool {
        matches!(self, DataplaneError::Unreachable { obstacle: AccessFailure::NotSupported, .. })
    }
}

fn listed(refusals: &[RefusedOperation]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = refusals.iter().take(SHOWN).map(RefusedOperation::to_string).collect();
    match refusals.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{}; and {more} more operations", shown.join("; ")),
        _ => shown.join("; "),
    }
}
