//! Invalid values.

/// Why a value of the configuration or of a flag is invalid. The text names the value and says which
/// values are accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a duration in Go's format, or longer than `time.Duration` allows.
    #[error("invalid duration {0:?} (for example 30s or 1h15m)")]
    Duration(String),
    /// A duration below zero.
    #[error("invalid duration {0:?}: must not be negative")]
    NegativeDuration(String),
    /// Not the network of pods.
    #[error("invalid CIDR {0:?} (for example 10.244.0.0/16)")]
    Cidr(String),
    /// Several networks of pods of one IP family.
    #[error("invalid list {0:?} (expected one CIDR, or one per IP family)")]
    CidrList(String),
    /// Not the name of an interface, or too long.
    #[error(
        "invalid interface name {name:?} (expected a letter, digit or _, then also . - @; at most {longest} characters)"
    )]
    Interface {
        /// The name as given.
        name: String,
        /// The longest valid name, in bytes.
        longest: usize,
    },
    /// Not an address on which a server can listen.
    #[error("invalid address {0:?} (expected IP or IP:PORT, for example 0.0.0.0:10256)")]
    ListenAddress(String),
    /// Not an IP address.
    #[error("invalid IP address {0:?}")]
    Ip(String),
    /// Not the network of addresses at which node ports are open.
    #[error("{0:?} is not a CIDR such as 192.168.0.0/16 (`primary` must stand alone)")]
    NodePortNetwork(String),
    /// `primary` together with networks.
    #[error("`primary` must stand alone")]
    PrimaryAndNetworks,
    /// A value of kube-proxy that rulegen does not have.
    #[error("unsupported {setting} {value:?} ({instead})")]
    OfKubeProxy {
        /// The setting, such as `mode`.
        setting: &'static str,
        /// The value as given.
        value: String,
        /// What to use in its place.
        instead: &'static str,
    },
    /// Not one of a fixed set of values.
    #[error("unsupported {setting} {value:?} (use {accepted})")]
    Choice {
        /// The setting, such as `mode`.
        setting: &'static str,
        /// The value as given.
        value: String,
        /// The values that are accepted, such as `iptables or nftables`.
        accepted: String,
    },
}
