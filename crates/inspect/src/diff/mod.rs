//! What changes between two rulesets, by Service and then by chain, set and rule.

mod iptables;
mod nft_text;
mod nftables;
mod report;
mod services;

pub use iptables::diff_iptables;
pub use nft_text::diff_nft_text;
pub use nftables::diff_nftables;
pub use report::{DiffAction, DiffReport, FrontendChange, ObjectChange, ServiceDiff, Summary};
