//! Has the kernel tell of packets (nftrace), and hears what it tells.
//!
//! ```text
//! TraceFilter ──Armed──▶ a table of our own: matches, then `meta nftrace set 1`
//! NFNLGRP_NFTRACE ──TraceListener──▶ TraceEvent
//! ```

mod arm;
mod event;
mod listener;
mod surroundings;

pub use arm::Armed;
pub use listener::{Heard, TraceListener};
