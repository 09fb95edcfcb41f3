//! Rules of another proxy mode that appeared while the agent runs.

use std::time::Duration;

use crate::drift::Drift;

/// What happened to rules of another proxy mode that appeared while the agent runs.
#[derive(Debug)]
pub(crate) enum Intrusion {
    /// They were removed.
    Removed(Drift),
    /// They are left in place for this long, because another program keeps recreating them.
    Left(Drift, Duration),
}
