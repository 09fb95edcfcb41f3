//! Access to the operating system: everything that reads from or writes to the kernel.
//!
//! Works on the network namespace of the process. Knows rulesets, but not Services.

pub mod addresses;
pub mod bridges;
pub mod conntrack;
pub mod descriptors;
mod folder;
pub mod host;
pub mod iptables;
pub mod memory;
pub mod namespace_lock;
mod netlink;
pub mod netstat;
pub mod nftables;
pub mod printable;
pub mod privileges;
pub mod process;
pub mod signals;
pub mod sockets;
pub mod sysctl;

pub use folder::FolderWatcher;
