//! How endpoints are chosen in nftables mode.

/// The annotation of a Service that says so for it alone.
pub(crate) const ANNOTATION: &str = "rulegen/load-balancing";

/// How one of several endpoints is chosen for a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// At random, each endpoint with the same probability, as kube-proxy does.
    #[default]
    Random,
    /// One after the other. Services with the same number of endpoints take their turns together.
    RoundRobin,
    /// By the client's address: a client stays with its endpoint as long as their number does
    /// not change.
    SourceHash,
}

impl LoadBalancing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Random, Self::RoundRobin, Self::SourceHash];

    /// The name in the annotation, in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::SourceHash => "source-hash",
        }
    }
}
