//! What changes between two rulesets, by Service and then by chain, set and rule.

mod iptables;
mod nftables;
mod report;
mod services;

pub use iptables::diff_iptables;
pub use nftables::diff_nftables;
pub use report::{DiffAction, DiffReport, FrontendChange, ObjectChange, ServiceDiff, Summary};
