//! Has the kernel tell of packets (nftrace), and hears what it tells.
//!
//! ```text
//! TraceFilter ──TraceSession──▶ a table of our own: matches, then `meta nftrace set 1`
//! NFNLGRP_NFTRACE ──TraceListener──▶ TraceEvent
//! ```

mod event;
mod listener;
mod session;
mod surroundings;

pub use listener::{Heard, TraceListener};
pub use session::TraceSession;
