//! Base chains and rules of any table, as seen by traced packets.

use crate::nftables::{Comment, Statement};

/// Position of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookPosition {
    /// Name of the hook in nft's syntax.
    pub hook: &'static str,
    /// Hook priority: lower runs first.
    pub priority: i32,
    /// True for type nat, which sees only new connections.
    pub is_nat: bool,
}

/// A rule, decoded as far as possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracedRule {
    /// In nft's syntax if rulegen could have made the rule, else the kernel's expressions as shown
    /// by `nft --debug=netlink`.
    pub text: String,
    /// Statements if rulegen could have made the rule, else empty.
    pub statements: Vec<Statement>,
    /// Comment of the rule, if it has one.
    pub comment: Option<Comment>,
    /// True if it ends with a reject.
    pub rejects: bool,
}
