//! What real packets do in the table, in terms of Services.
//!
//! ```text
//! TraceEvent, Known ──Follower──▶ Told: a packet came, a step of it, its end and why
//! ```

mod follow;
mod known;
mod packet;
mod target;
#[cfg(test)]
mod tests;

pub use follow::{Follower, Told};
pub use known::{Found, Known};
pub use packet::{StepKind, TracedEnd, TracedPacket, TracedStep};
pub use target::{UnknownService, frontends};
