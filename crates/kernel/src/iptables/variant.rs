//! The two variants of iptables.

use std::fmt;

/// Kernel interface used by the iptables programs. Rules of one variant are invisible to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// nf_tables, the newer variant.
    Nft,
    /// ip_tables.
    Legacy,
}

impl Variant {
    /// Both variants, the newer first.
    pub const ALL: [Variant; 2] = [Variant::Nft, Variant::Legacy];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        })
    }
}
