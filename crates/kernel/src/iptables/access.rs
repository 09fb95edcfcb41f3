//! How tables are read and written.

/// How tables are read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Through netlink for iptables-nft, and through its programs for iptables-legacy.
    #[default]
    Netlink,
    /// Through the programs of either variant.
    Programs,
}
