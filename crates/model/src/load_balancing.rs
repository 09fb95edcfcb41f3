//! How endpoints are chosen in nftables mode.

/// The annotation of a Service that says so for it alone.
pub(crate) const ANNOTATION: &str = "rulegen/load-balancing";

/// How one of several endpoints is chosen for a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// Each time any, each as probable as the other: kube-proxy's way.
    #[default]
    Random,
    /// One after the other. Services with the same number of endpoints take their turns together.
    RoundRobin,
    /// By the client's address: a client stays with its endpoint as long as their number does
    /// not change.
    SourceHash,
}

/// What can be asked for, by name.
const NAMES: [(&str, LoadBalancing); 3] = [
    ("random", LoadBalancing::Random),
    ("round-robin", LoadBalancing::RoundRobin),
    ("source-hash", LoadBalancing::SourceHash),
];

/// A way by its name.
///
/// # Errors
/// Which names there are.
pub fn parse_load_balancing(text: &str) -> Result<LoadBalancing, String> {
    let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, way)| *way);
    found.ok_or_else(|| format!("{text:?} is none of random, round-robin, source-hash"))
}
