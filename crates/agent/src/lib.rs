//! Keeps the rules of a node what the cluster's objects say.
//!
//! ```text
//! API server, or folder ─┐
//! commits to the ruleset ┼─▶ Told ─▶ Reconciler ─▶ kernel
//! addresses of the host ─┘               └───────▶ Telemetry ◀─ HTTP
//! ```
//!
//! Owns the threads, the clock and the network. What rules there shall be is decided in
//! `rulegen_compiler`; how they get into the kernel, in `rulegen_kernel`.

mod about;
mod affinity;
mod backend;
mod complaints;
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
mod journal;
mod kube_proxy;
mod left_out;
mod listening;
pub mod metrics;
mod options;
mod pace;
mod pending;
mod quarantine;
mod queue;
mod reconciler;
mod repair_pace;
pub mod report;
mod run;
mod servers;
pub mod service_health;
mod set_up;
mod shared;
mod source;
mod status;
pub mod takeover;
mod tally;
mod telemetry;
mod threads;

pub use error::{Error, Result};
pub use options::{ConfigFile, Options};
pub use run::{init_only, run};
pub use source::{ApiOptions, ReadFolder, Source, list as list_objects};
