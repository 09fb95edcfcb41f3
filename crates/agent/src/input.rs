//! What the reconciler is told.

use std::time::Instant;

use rulegen_kernel::nftables;
use rulegen_model::{Kind, ObjectKey, Problem, StoreEvent};

/// Something that may change what is wanted, or what is held.
#[derive(Debug)]
pub(crate) enum Input {
    /// An object came or went.
    Object(StoreEvent),
    /// Several did, of which none makes sense without the others.
    Objects(Vec<StoreEvent>),
    /// An object is there, but cannot be read: it counts as if it were not.
    Unreadable(Kind, ObjectKey, Box<Problem>),
    /// Something else is wrong with what was read.
    Problem(Box<Problem>),
    /// When what an EndpointSlice tells began, by the cluster's clock.
    Triggered(std::time::SystemTime),
    /// The kernel told of commits to the ruleset.
    Rules(Vec<nftables::Event>),
    /// An address came to this machine or went.
    Addresses,
    /// The agent shall end.
    Stop,
}

/// An input, and when it was there.
#[derive(Debug)]
pub(crate) struct Told {
    /// What is told.
    pub(crate) input: Input,
    /// When its last byte had come.
    pub(crate) at: Instant,
}

impl Told {
    /// Told now.
    pub(crate) fn now(input: Input) -> Self {
        Self { input, at: Instant::now() }
    }
}
