//! Explains the traces of real packets in terms of Services.
//!
//! ```text
//! TraceEvent, TraceContext ──PacketTracker──▶ TraceUpdate: a packet's start, step or end
//! ```

mod context;
pub(crate) mod packet;
pub(crate) mod reason;
mod target;
#[cfg(test)]
mod tests;
mod tracker;

pub use context::{TraceContext, TracedElement};
pub use packet::{StepKind, TracedEnd, TracedOutcome, TracedPacket, TracedStep, Translation};
pub use reason::{StepRule, TraceReason};
pub use target::{UnknownService, frontends};
pub use tracker::{PacketTracker, TraceUpdate};
