//! The status page: what the agent knows, for people and as JSON.
//!
//! ```text
//! Request ──▶ query ──▶ view of one page (serde, askama) ─┬▶ HTML
//!                          ▲                              └▶ JSON
//!         ClusterState, Health, Journal, kernel's counters
//! ```
//!
//! Pages are made on a thread where they may wait for a lock. What they hold a lock for is bounded:
//! a look at each Service, and a copy of those that a page is about. Nothing is compiled meanwhile.

mod counters;
mod drift;
mod explain;
mod explain_request;
mod format;
mod frame;
mod overview;
mod owners;
mod parts;
mod plot;
mod port;
mod query;
mod router;
mod search;
mod service;
mod services;
mod state;
mod syncs;
#[cfg(test)]
pub(super) mod tests;
mod traffic_paths;
mod worker;

use std::sync::Arc;

use crate::about::About;
use crate::health::SharedHealth;
use crate::journal::Journal;
use crate::shared::ClusterState;

pub(crate) use counters::Counters;
pub(crate) use worker::Worker;

/// Everything that pages show.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) about: Arc<About>,
    pub(crate) known: ClusterState,
    pub(crate) health: SharedHealth,
    pub(crate) journal: Journal,
    /// Where connections are counted.
    pub(crate) counters: Option<Counters>,
    pub(crate) worker: Worker,
}
