//! What differs between two listings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rulegen_net::{Frontend, ServicePortName};

use super::{Frontends, Listing, Traffic};

/// Service ports, each with its frontends as they are held and as they are wanted.
pub type Comparison<'a> =
    BTreeMap<Option<&'a ServicePortName>, BTreeMap<&'a Frontend, Compared<'a>>>;

/// A frontend in two listings; in one at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared<'a> {
    /// As the kernel has it.
    pub held: Option<&'a Traffic>,
    /// As it shall be.
    pub wanted: Option<&'a Traffic>,
}

/// How what is held differs from what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not at all.
    AsWanted,
    /// It is not held.
    Missing,
    /// Nobody wants it.
    NotWanted,
    /// Another address of the Service, or another policy, refusal, source range or affinity.
    Differs,
    /// Traffic goes to other endpoints.
    EndpointsDiffer,
}

impl Compared<'_> {
    /// How the two differ.
    pub fn state(&self) -> State {
        match (self.held, self.wanted) {
            (Some(held), Some(wanted)) if held == wanted => State::AsWanted,
            (Some(held), Some(wanted))
                if (&held.endpoints, &held.from_node) == (&wanted.endpoints, &wanted.from_node) =>
            {
                State::Differs
            }
            (Some(_), Some(_)) => State::EndpointsDiffer,
            (None, Some(_)) => State::Missing,
            (_, None) => State::NotWanted,
        }
    }

    /// Endpoints that are wanted and not held.
    pub fn missing_endpoints(&self) -> Vec<SocketAddr> {
        difference(self.wanted, self.held)
    }

    /// Endpoints that are held and not wanted.
    pub fn endpoints_not_wanted(&self) -> Vec<SocketAddr> {
        difference(self.held, self.wanted)
    }
}

fn difference(of: Option<&Traffic>, without: Option<&Traffic>) -> Vec<SocketAddr> {
    let all = |traffic: Option<&Traffic>| traffic.map(Traffic::all_endpoints).unwrap_or_default();
    let without: BTreeSet<SocketAddr> = all(without).into_iter().collect();
    all(of).into_iter().filter(|endpoint| !without.contains(endpoint)).collect()
}

/// Puts two listings side by side.
pub fn compare<'a>(held: &'a Listing, wanted: &'a Listing) -> Comparison<'a> {
    let mut comparison = Comparison::new();
    for (name, frontend, traffic) in all(held) {
        comparison.entry(name).or_default().entry(frontend).or_default().held = Some(traffic);
    }
    for (name, frontend, traffic) in all(wanted) {
        comparison.entry(name).or_default().entry(frontend).or_default().wanted = Some(traffic);
    }
    comparison
}

fn all(listing: &Listing) -> impl Iterator<Item = (Option<&ServicePortName>, &Frontend, &Traffic)> {
    listing.services.iter().flat_map(|(name, frontends): (_, &Frontends)| {
        frontends.iter().map(move |(frontend, traffic)| (name.as_ref(), frontend, traffic))
    })
}
