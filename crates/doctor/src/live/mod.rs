//! Follows packets through the rules in the kernel of this host, with what else they meet there.

mod base_chains;
mod error;
mod network;
mod obstacles;
mod rules;

pub use base_chains::IptablesAccess;
pub use error::LiveError;
pub use network::InputInterface;
pub use rules::ActualRules;
