//! What goes wrong between us and nf_tables.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

/// Why nothing was read or written. The kernel holds what it held before, except where an error
/// says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Netlink cannot be spoken to at all. Retrying does not help.
    #[error("nf_tables cannot be reached{obstacle}")]
    Unreachable {
        /// Why.
        source: io::Error,
        /// The same, where it is known what to do.
        obstacle: Obstacle,
    },
    /// The kernel refused operations, and so all of them. Retrying the same does not help.
    #[error("the kernel refused {}", listed(.0))]
    Refused(Vec<Refusal>),
    /// Somebody else changed the ruleset after it was read. Reading again helps.
    #[error("another program changed the ruleset meanwhile")]
    Stale,
    /// The kernel had more to tell than the socket holds, so it is not known whether the
    /// transaction counted. Reading again helps.
    #[error("netlink receive buffer overflowed")]
    Lost,
    /// Others changed the ruleset so often that it could not be read or written in one piece.
    #[error(
        "another program changed the ruleset each of the {attempts} times that it was read or \
         written; `nft monitor` shows who (see its process id)"
    )]
    Busy {
        /// How often it was tried.
        attempts: u32,
    },
    /// No answer came in time, so it is not known whether the transaction counted. Reading again
    /// may help.
    #[error("no answer from the kernel in {} s", .patience.as_secs())]
    Timeout {
        /// How long it was waited for.
        patience: Duration,
    },
    /// The kernel's answer is malformed. Reading again may help.
    #[error("malformed answer from the kernel: {0}")]
    Misunderstood(String),
}

/// An operation that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be done, to what in which table.
    pub operation: String,
    /// Whether that was to put elements into a set or to take them out.
    pub of_elements: bool,
    /// Why not, as far as it matters here.
    pub reason: Reason,
    /// The error number in full, with its name: `ENOENT: No such file or directory`.
    pub errno: String,
    /// The kernel's own words, if it had any.
    pub message: Option<String>,
}

/// Why the kernel refuses an operation, by its error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `ENOENT`: an object that the operation needs is missing.
    NotFound,
    /// `EEXIST`: the object is there already.
    Exists,
    /// `EBUSY`: a reference to the object is left.
    Busy,
    /// `EINVAL`: the operation makes no sense to this kernel, or not together with what it holds.
    Invalid,
    /// `EOPNOTSUPP`: the kernel does not let this be changed.
    Unsupported,
    /// Another number that is about the operation itself, such as `E2BIG`.
    Content,
    /// A number about the moment or the program that asks, such as `ENOMEM` and `EPERM`.
    Circumstances,
}

/// What keeps a program from nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The program lacks a capability.
    NotPermitted,
    /// The kernel has no nf_tables.
    NotSupported,
    /// Anything else.
    Other,
}

impl Display for Obstacle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::NotPermitted => ": requires root or CAP_NET_ADMIN",
            Obstacle::NotSupported => {
                ": not supported by this kernel (needs CONFIG_NF_TABLES; try modprobe nf_tables)"
            }
            Obstacle::Other => "",
        })
    }
}

impl Refusal {
    /// Whether the operation itself may be why, and not the moment or who asks.
    fn is_about_content(&self) -> bool {
        !matches!(self.reason, Reason::Busy | Reason::Circumstances)
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.errno)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, " ({message})"))
    }
}

impl Error {
    /// Whether the kernel refused something because of what it is: without that it may take the
    /// rest.
    pub fn is_about_content(&self) -> bool {
        matches!(self, Error::Refused(refusals) if refusals.iter().all(Refusal::is_about_content))
    }

    /// Whether the kernel has no nf_tables, and so no tables.
    pub fn is_absence(&self) -> bool {
        matches!(self, Error::Unreachable { obstacle: Obstacle::NotSupported, .. })
    }
}

fn listed(refusals: &[Refusal]) -> String {
    const TOLD: usize = 10;
    let told: Vec<String> = refusals.iter().take(TOLD).map(Refusal::to_string).collect();
    match refusals.len().checked_sub(TOLD) {
        Some(more) if more > 0 => format!("{}; and {more} more operations", told.join("; ")),
        _ => told.join("; "),
    }
}
