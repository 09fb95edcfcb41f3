//! Access to the operating system apart from netfilter: files in /proc and /sys, signals, memory,
//! privileges, watches of folders.
//!
//! Works on the network namespace of the calling thread. Knows neither rulesets nor Services.

pub mod bridges;
pub mod cpu_time;
pub mod descriptors;
mod folder;
pub mod host;
pub mod ipvs;
pub mod memory;
pub mod namespace_lock;
pub mod netstat;
pub mod printable;
pub mod privileges;
pub mod process;
pub mod recent;
pub mod resolver;
pub mod routes;
pub mod signals;
pub mod sockets;
pub mod sysctl;

pub use folder::FolderWatcher;
