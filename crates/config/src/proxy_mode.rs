//! The kind of rules.

/// Which kind of rules to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// iptables chains, rule for rule kube-proxy's.
    #[default]
    Iptables,
    /// An nftables table.
    Nftables,
}

impl ProxyMode {
    /// The name in files and flags.
    pub fn word(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        }
    }
}
