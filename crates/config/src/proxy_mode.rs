//! The proxy mode.

/// The proxy mode: which kind of rules to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// iptables chains that are equal to kube-proxy's, rule by rule.
    #[default]
    Iptables,
    /// An nftables table.
    Nftables,
}

impl ProxyMode {
    /// The name in the configuration and in flags.
    pub fn word(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        }
    }
}
