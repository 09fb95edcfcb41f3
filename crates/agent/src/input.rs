//! The inputs of the reconciler.

use std::time::{Instant, SystemTime};

use rulegen_kernel::nftables;
use rulegen_model::{Kind, ObjectKey, Problem, StoreEvent};

use crate::affinity_clients::Clients;
use crate::intrusion::Intrusion;

/// An event that may change the desired rules or the kernel's rules.
#[derive(Debug)]
pub(crate) enum ReconcilerInput {
    /// An object was added, changed or deleted.
    Object(StoreEvent),
    /// Several events that have to be handled together.
    Objects(Vec<StoreEvent>),
    /// An object exists but cannot be parsed. It is handled as if it did not exist.
    Unreadable(Kind, ObjectKey, Box<Problem>),
    /// The source of this kind of object, or of the manifests, failed (`Some`) or recovered
    /// (`None`).
    Source(&'static str, Option<SourceError>),
    /// The ServiceCIDRs cannot be listed, but may exist.
    ServiceCidrsUnknown,
    /// Another problem with the input.
    Problem(Box<Problem>),
    /// An object was changed, which something in the cluster triggered at this time, by the cluster's
    /// clock.
    Triggered(StoreEvent, SystemTime),
    /// Commits to the ruleset.
    Rules(Vec<nftables::Event>),
    /// Clients of session affinity that may be stale.
    Clients(Clients),
    /// An address of this machine was added or removed.
    Addresses,
    /// Another program created rules of another proxy mode.
    OtherMode(Box<Intrusion>),
    /// The agent is to stop.
    Stop,
}

/// Why a source delivers no objects.
#[derive(Debug, Clone)]
pub(crate) struct SourceError {
    /// The message for people.
    pub(crate) why: String,
    /// The time at which the error expires unless it is reported again, if known: a recovered watch
    /// in a quiet cluster has no events to report.
    pub(crate) until: Option<Instant>,
}

impl SourceError {
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An input and its arrival time.
#[derive(Debug)]
pub(crate) struct TimedInput {
    pub(crate) input: ReconcilerInput,
    /// When its last byte arrived.
    pub(crate) at: Instant,
}

impl TimedInput {
    /// An input that arrives now.
    pub(crate) fn now(input: ReconcilerInput) -> Self {
        Self { input, at: Instant::now() }
    }
}
