//! The status page, as HTML and JSON.
//!
//! ```text
//! Request ──▶ query ──▶ view of one page (serde, askama) ─┬▶ HTML
//!                          ▲                              └▶ JSON
//!         ClusterState, Health, Journal, kernel's counters
//! ```
//!
//! Pages are rendered in a thread that may wait for a lock. Work under a lock is bounded: one pass
//! over all Services, and a copy of the Services on the page. Nothing is compiled under a lock.

mod claimants;
mod counters;
mod drift;
mod explain;
mod explain_request;
mod format;
mod frame;
mod overview;
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

use crate::about::ProcessInfo;
use crate::health::SharedHealth;
use crate::journal::Journal;
use crate::shared::ClusterState;

pub(crate) use counters::Counters;
pub(crate) use worker::Worker;

/// The sources of all pages.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) about: Arc<ProcessInfo>,
    pub(crate) known: ClusterState,
    pub(crate) health: SharedHealth,
    pub(crate) journal: Journal,
    /// Reads connection counters, if they are enabled.
    pub(crate) counters: Option<Counters>,
    pub(crate) worker: Worker,
}
