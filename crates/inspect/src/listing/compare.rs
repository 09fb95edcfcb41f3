//! The differences between two listings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rulegen_net::{Frontend, ServicePortName};

use super::{Frontends, Listing, Traffic};

/// Frontends by service port, each in both listings.
pub type Comparison<'a> =
    BTreeMap<Option<&'a ServicePortName>, BTreeMap<&'a Frontend, Compared<'a>>>;

/// A frontend in two listings. At least one of them contains it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared<'a> {
    /// In the listing of the kernel.
    pub actual: Option<&'a Traffic>,
    /// In the listing of the desired rules.
    pub desired: Option<&'a Traffic>,
}

/// How the kernel differs from the desired rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Equal.
    InSync,
    /// Missing in the kernel.
    Missing,
    /// Only in the kernel.
    Extra,
    /// Another kind of address, policy, refusal, source range or affinity.
    Differs,
    /// Other endpoints.
    EndpointsDiffer,
}

impl Compared<'_> {
    /// How the two differ.
    pub fn state(&self) -> State {
        match (self.actual, self.desired) {
            (Some(actual), Some(desired)) if actual == desired => State::InSync,
            (Some(actual), Some(desired))
                if (&actual.endpoints, &actual.from_node)
                    == (&desired.endpoints, &desired.from_node) =>
            {
                State::Differs
            }
            (Some(_), Some(_)) => State::EndpointsDiffer,
            (None, Some(_)) => State::Missing,
            (_, None) => State::Extra,
        }
    }

    /// Desired endpoints that are missing in the kernel, ordered.
    pub fn missing_endpoints(&self) -> Vec<SocketAddr> {
        difference(self.desired, self.actual)
    }

    /// Endpoints in the kernel that are not desired, ordered.
    pub fn extra_endpoints(&self) -> Vec<SocketAddr> {
        difference(self.actual, self.desired)
    }
}

fn difference(of: Option<&Traffic>, without: Option<&Traffic>) -> Vec<SocketAddr> {
    let all = |traffic: Option<&Traffic>| traffic.map(Traffic::all_endpoints).unwrap_or_default();
    let without: BTreeSet<SocketAddr> = all(without).into_iter().collect();
    all(of).into_iter().filter(|endpoint| !without.contains(endpoint)).collect()
}

/// Joins two listings by service port and frontend.
pub fn compare<'a>(actual: &'a Listing, desired: &'a Listing) -> Comparison<'a> {
    let mut comparison = Comparison::new();
    for (name, frontend, traffic) in all(actual) {
        comparison.entry(name).or_default().entry(frontend).or_default().actual = Some(traffic);
    }
    for (name, frontend, traffic) in all(desired) {
        comparison.entry(name).or_default().entry(frontend).or_default().desired = Some(traffic);
    }
    comparison
}

fn all(listing: &Listing) -> impl Iterator<Item = (Option<&ServicePortName>, &Frontend, &Traffic)> {
    listing.services.iter().flat_map(|(name, frontends): (_, &Frontends)| {
        frontends.iter().map(move |(frontend, traffic)| (name.as_ref(), frontend, traffic))
    })
}
