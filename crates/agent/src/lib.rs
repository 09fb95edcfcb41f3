//! The node agent: keeps a node's rules in sync with the cluster's objects.
//!
//! ```text
//! API server, or folder ─┐
//! commits to the ruleset ┼─▶ TimedInput ─▶ Reconciler ─▶ kernel
//! addresses of the host ─┘                     └───────▶ Telemetry ◀─ HTTP
//! ```
//!
//! Owns the threads, the clock and the network. `rulegen_compiler` decides which rules are needed,
//! `rulegen_kernel` writes them.

mod about;
mod affinity;
mod affinity_clients;
mod backend;
mod config_file;
mod configured_store;
mod conntrack;
mod counting;
mod descriptors;
mod drift;
mod error;
mod events;
pub mod health;
pub mod http;
mod input;
mod intrusion;
mod journal;
mod kube_proxy;
mod left_out;
mod listening;
pub mod metrics;
mod options;
mod pending;
mod quarantine;
mod queue;
mod reconciler;
mod rejected_objects;
mod repair_pace;
pub mod report;
mod run;
mod servers;
mod service_counts;
pub mod service_health;
mod set_up;
mod shared;
mod source;
mod status;
mod sync_log;
mod sync_scheduler;
pub mod takeover;
mod telemetry;
mod threads;

pub use error::{Error, Result};
/// Label selectors of the API.
pub use kube::core::{Expression, Selector, SelectorExt};
pub use options::{ConfigFile, Options};
pub use run::{init_only, run};
pub use source::{ApiOptions, ObjectSource, ReadFolder, list as list_objects};
