//! The chains that commits of any program touched since a generation.
//!
//! Reading a large table takes a second, and the generation of the ruleset may change meanwhile,
//! for other tables too. The events of the commits say which chains to read again.

use std::time::Duration;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Table;
use rulegen_ruleset::nftables::Name;

use crate::nftables::read::generation;
use crate::nftables::socket::NfTablesSocket;
use crate::nftables::watch::{Event, TouchedChains, Watcher};
use crate::nftables::{DataplaneError, Generation};

/// Commits since a generation.
pub(super) struct Since {
    watcher: Watcher,
    seen: Generation,
}

/// Timeout for the event of a commit that took effect.
const PATIENCE: Duration = Duration::from_secs(1);

impl Since {
    /// Starts at the current generation, for all tables of iptables of these families.
    pub(super) fn now(
        socket: &mut NfTablesSocket,
        families: &[IpFamily],
    ) -> Result<Self, DataplaneError> {
        let tables = families.iter().flat_map(|family| {
            Table::ALL.into_iter().map(|table| (*family, Name::from(table.name())))
        });
        let watcher = Watcher::open(&Vec::from_iter(tables), Watcher::ROOM)?;
        Ok(Self { watcher, seen: generation(socket)? })
    }

    /// The generation of the last commit that was seen.
    pub(super) fn generation(&self) -> Generation {
        self.seen
    }

    /// The chains that were touched since the last call.
    pub(super) fn touched(
        &mut self,
        socket: &mut NfTablesSocket,
    ) -> Result<TouchedChains, DataplaneError> {
        let now = generation(socket)?;
        let mut touched = TouchedChains::default();
        while self.is_before(now) {
            let events = self.watcher.next(Some(PATIENCE))?;
            if events.is_empty() {
                touched = TouchedChains::Any;
                self.seen = now;
            }
            for event in events {
                match event {
                    Event::Lost => touched = TouchedChains::Any,
                    Event::Commit(commit) if self.is_before(commit.generation) => {
                        self.seen = commit.generation;
                        touched.merge(commit.chains);
                    }
                    Event::Commit(_) => {}
                }
            }
        }
        Ok(touched)
    }

    /// True if the generation is a later one. The numbers wrap around.
    fn is_before(&self, later: Generation) -> bool {
        (1..u32::MAX / 2).contains(&later.0.wrapping_sub(self.seen.0))
    }
}
