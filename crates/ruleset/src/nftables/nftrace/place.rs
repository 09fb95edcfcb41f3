//! What packets that are traced meet, in tables of anybody.

use crate::nftables::{Comment, Statement};

/// Where a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasePlace {
    /// The hook, by nft's name for it.
    pub hook: &'static str,
    /// The turn among the chains of a hook: lower ones come first.
    pub priority: i32,
    /// Whether it sees new connections only (type nat).
    pub is_nat: bool,
}

/// A rule, as far as rulegen can say what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracedRule {
    /// As nft writes it where rulegen could have made it, else the kernel's expressions as
    /// `nft --debug=netlink` shows them.
    pub text: String,
    /// What it is made of, if rulegen could have made it; else nothing.
    pub statements: Vec<Statement>,
    /// What it is for.
    pub comment: Option<Comment>,
    /// Whether it tells the sender that it ends here.
    pub rejects: bool,
}
