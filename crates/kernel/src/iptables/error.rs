//! Errors of iptables access.

use std::time::Duration;

use super::refusal;
use crate::nftables::DataplaneError;

/// Errors of iptables access.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// The program is not installed. Retrying does not help.
    #[error("{program} is not installed (Debian: apt-get install iptables)")]
    NotInstalled {
        /// Name of the program.
        program: String,
    },
    /// The program could not be started or its pipe failed.
    #[error("cannot run {program}")]
    Run {
        /// Name of the program.
        program: String,
        /// The system error.
        source: std::io::Error,
    },
    /// Another process holds the xtables lock. Retrying helps once it is released.
    #[error(
        "xtables lock ({path}) held by {holder}, timed out after {waited:?}; \
         retry, or increase --iptables-lock-timeout"
    )]
    Locked {
        /// The lock file.
        path: String,
        /// The process that holds it, as far as known.
        holder: String,
        /// Time waited.
        waited: Duration,
    },
    /// A table contains rules that only `nft` can have added, so iptables cannot read it. Retrying
    /// helps once they are removed.
    #[error(
        "iptables cannot read a table ({line}): it contains a rule that was not added by iptables; \
         find it with `nft list table ip nat` or `nft list table ip filter`, and delete it"
    )]
    Incompatible {
        /// The message of iptables-nft-save.
        line: String,
    },
    /// The program failed. The table named in the message is unchanged.
    #[error("{program} failed: {message}")]
    Refused {
        /// Name of the program.
        program: String,
        /// Exit status; `None` if a signal ended the program.
        status: Option<i32>,
        /// Message of the program, with the line that it refers to.
        message: String,
    },
    /// nf_tables cannot be accessed, or refused the transaction.
    #[error(transparent)]
    Netlink(#[from] DataplaneError),
}

impl IptablesError {
    /// True if a rule may be the cause, rather than the moment or the caller: without that rule,
    /// the program may accept the rest.
    pub fn is_about_content(&self) -> bool {
        match self {
            IptablesError::Refused { status: Some(status), message, .. } => {
                refusal::is_about_content(*status, message)
            }
            IptablesError::Netlink(error) => error.is_about_content(),
            _ => false,
        }
    }

    /// True if iptables or the kernel refused the transaction, for whatever reason.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            IptablesError::Refused { .. } | IptablesError::Netlink(DataplaneError::Refused(_))
        )
    }
}
