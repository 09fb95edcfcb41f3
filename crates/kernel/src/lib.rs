//! The rim of rulegen: everything that asks or tells the kernel.
//!
//! Works on the network namespace that the process is in. Knows rulesets, not Services.

pub mod host;
pub mod iptables;
pub mod nftables;
