//! Commits of other programs that do not touch the tables that are being read.

use std::time::Duration;

use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::watch::{Event, Watcher};
use super::{DataplaneError, Generation};

/// Knows which commits since it was opened changed only other tables.
pub(super) struct Unrelated(Watcher);

/// How long to wait for the event of a commit that took effect already.
const PATIENCE: Duration = Duration::from_millis(100);

impl Unrelated {
    /// Watches these tables from now on.
    pub(super) fn watch(tables: &[(IpFamily, Name)]) -> Result<Self, DataplaneError> {
        Ok(Self(Watcher::open(tables, Watcher::ROOM)?))
    }

    /// True if all commits after a generation, up to another, changed only other tables. The
    /// generation must be one since the call of [`Self::watch`].
    pub(super) fn changed_only_others(&mut self, from: Generation, to: Generation) -> bool {
        let mut at = from;
        while at != to {
            let Ok(events) = self.0.next(Some(PATIENCE)) else { return false };
            match events.as_slice() {
                [Event::Commit(commit)] if commit.generation == at.next() => {
                    at = commit.generation;
                    if !commit.changes.is_empty() {
                        return false;
                    }
                }
                // Of a commit before the first generation.
                [Event::Commit(_)] => {}
                _ => return false,
            }
        }
        true
    }
}
