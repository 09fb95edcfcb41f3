//! Why packets cannot be followed on this host.

use std::io;

use rulegen_kernel::iptables::IptablesError;
use rulegen_kernel::nftables::DataplaneError;
use rulegen_ruleset::nftables::Name;

/// Packets cannot be followed through the rules in this kernel.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Routes or interfaces cannot be read.
    #[error("cannot ask the kernel for routes and interfaces (rtnetlink)")]
    Network(#[source] io::Error),
    /// An interface cannot be read.
    #[error("cannot ask the kernel for interface {0} (rtnetlink)")]
    Interface(String, #[source] io::Error),
    /// There is no interface of this name.
    #[error("this node has no interface {0} (--interface): see `ip link`")]
    NoInterface(String),
    /// Rules of iptables cannot be read.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// Tables of nftables cannot be read.
    #[error(transparent)]
    Nftables(#[from] DataplaneError),
    /// The table exists, but is not in use.
    #[error(
        "table {family} {name} is dormant: the kernel does not use its rules. Enable it with: nft \
         add table {family} {name}"
    )]
    Dormant {
        /// The family in nft's syntax.
        family: &'static str,
        /// Name of the dormant table.
        name: Name,
    },
    /// The table does not exist.
    #[error("the kernel has no table {family} {name}: no rules were applied here")]
    NoTable {
        /// The family in nft's syntax.
        family: &'static str,
        /// Name of the missing table.
        name: Name,
    },
}
