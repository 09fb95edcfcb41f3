//! How endpoints are chosen in nftables mode.

/// The annotation that sets the method for one Service.
pub(crate) const ANNOTATION: &str = "rulegen/load-balancing";

/// How an endpoint is chosen for a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// At random, each endpoint with the same probability, as kube-proxy does.
    #[default]
    Random,
    /// Round robin. Services with the same number of endpoints share one counter.
    RoundRobin,
    /// By hash of the client's address: a client gets the same endpoint while the number of
    /// endpoints does not change.
    SourceHash,
}

impl LoadBalancing {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Random, Self::RoundRobin, Self::SourceHash];

    /// The name in the annotation, in the configuration and in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::SourceHash => "source-hash",
        }
    }
}
