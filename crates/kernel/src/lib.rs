//! Access to the kernel's netfilter, addresses and routes: netlink, and the iptables programs.
//!
//! Works on the network namespace of the process. Knows rulesets, but not Services.

pub mod addresses;
mod bpf;
pub mod cgroup;
pub mod conntrack;
pub mod interfaces;
pub mod ipsec;
pub mod iptables;
mod libraries;
pub mod neighbours;
mod netlink;
pub mod nftables;
pub mod routes;
mod rtnetlink;

pub use libraries::{LIBRARIES, Library};
