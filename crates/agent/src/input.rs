//! What the reconciler is told.

use std::time::Instant;

use rulegen_kernel::nftables;
use rulegen_model::{Kind, ObjectKey, Problem, StoreEvent};

use crate::affinity::Clients;
use crate::takeover::Intrusion;

/// Something that may change what is wanted, or what is held.
#[derive(Debug)]
pub(crate) enum Input {
    /// An object came or went.
    Object(StoreEvent),
    /// Several did, of which none makes sense without the others.
    Objects(Vec<StoreEvent>),
    /// An object is there, but cannot be read: it counts as if it were not.
    Unreadable(Kind, ObjectKey, Box<Problem>),
    /// Objects of this kind, or of the manifests, do not come, or come again.
    Source(&'static str, Option<SourceError>),
    /// Something else is wrong with what was read.
    Problem(Box<Problem>),
    /// When what an EndpointSlice tells began, by the cluster's clock.
    Triggered(std::time::SystemTime),
    /// The kernel told of commits to the ruleset.
    Rules(Vec<nftables::Event>),
    /// Clients of session affinity that may be stale.
    Clients(Clients),
    /// An address came to this machine or went.
    Addresses,
    /// Somebody made rules of another mode.
    OtherMode(Box<Intrusion>),
    /// The agent shall end.
    Stop,
}

/// Why objects do not come.
#[derive(Debug, Clone)]
pub(crate) struct SourceError {
    /// In words.
    pub(crate) why: String,
    /// When it is over unless it is told again, as far as that is known: a watch that works again in a
    /// quiet cluster has nothing to tell.
    pub(crate) until: Option<Instant>,
}

impl SourceError {
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An input, and when it was there.
#[derive(Debug)]
pub(crate) struct TimedInput {
    /// What is told.
    pub(crate) input: Input,
    /// When its last byte had come.
    pub(crate) at: Instant,
}

impl TimedInput {
    /// An input that arrives now.
    pub(crate) fn now(input: Input) -> Self {
        Self { input, at: Instant::now() }
    }
}
