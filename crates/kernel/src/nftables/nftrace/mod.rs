//! Enables packet tracing (nftrace) and receives the trace events.
//!
//! ```text
//! TraceFilter ──TraceSession──▶ a table of our own: matches, then `meta nftrace set 1`
//! NFNLGRP_NFTRACE ──TraceListener──▶ TraceEvent
//! ```

mod event;
mod listener;
mod session;
mod surroundings;

pub(super) use event::family_of_number;
pub use listener::{Received, TraceListener};
pub use session::TraceSession;
