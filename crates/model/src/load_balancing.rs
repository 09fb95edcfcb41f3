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
    /// Consistent hashing of the client's address: a client keeps its endpoint, and a change of the
    /// endpoints moves few clients. All nodes with the same endpoints choose the same one.
    Maglev,
    /// Consistent hashing of the client's address and source port, which together with the frontend
    /// are the 5-tuple.
    Maglev5Tuple,
}

impl LoadBalancing {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::Random, Self::RoundRobin, Self::Maglev, Self::Maglev5Tuple];

    /// Other names, from earlier versions.
    pub const ALIASES: [(&'static str, Self); 1] = [("source-hash", Self::Maglev)];

    /// The name in the annotation, in the configuration and in flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::Maglev => "maglev",
            Self::Maglev5Tuple => "maglev-5tuple",
        }
    }

    /// The method with this name or alias.
    pub fn named(text: &str) -> Option<Self> {
        let names = Self::ALL.into_iter().map(|method| (method.name(), method));
        names.chain(Self::ALIASES).find(|(name, _)| *name == text).map(|(_, method)| method)
    }
}
