//! nftrace: packets that the kernel reports rule by rule (`meta nftrace set 1`).

mod event;
mod filter;
mod position;

pub use event::{ChainId, PacketHeader, Ports, TableFamily, TraceEvent, TraceStep, TraceVerdict};
pub use filter::{TraceFilter, TraceTarget};
pub use position::{HookPosition, TracedRule};
