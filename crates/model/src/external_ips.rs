//! Which `spec.externalIPs` are used.
//!
//! Anyone who may write a Service may list any address there and capture traffic to it
//! (CVE-2020-8554). Kubernetes leaves the decision to the cluster's administrator.

use std::net::IpAddr;

use ipnet::IpNet;

use rulegen_net::parse_network;

/// Which external IPs of Services get rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExternalIps {
    /// All, as in kube-proxy.
    #[default]
    All,
    /// No external IP gets rules.
    None,
    /// External IPs in these networks.
    Within(Vec<IpNet>),
}

/// Why a text does not say which external IPs get rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalIpsError {
    /// No entry.
    #[error("is empty, use all, none or CIDRs such as 203.0.113.0/24")]
    Empty,
    /// An entry is not a network.
    #[error("{0:?} is not a CIDR such as 203.0.113.0/24 (`all` and `none` must stand alone)")]
    Network(String),
}

impl ExternalIps {
    /// Reads `all`, `none` or a list of CIDRs.
    ///
    /// # Errors
    /// An entry is neither `all`, `none` nor a CIDR.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, ExternalIpsError> {
        let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
        match texts.as_slice() {
            [] => Err(ExternalIpsError::Empty),
            ["all"] => Ok(Self::All),
            ["none"] => Ok(Self::None),
            texts => {
                let network = |text: &&str| {
                    parse_network(text).ok_or_else(|| ExternalIpsError::Network((*text).to_owned()))
                };
                texts.iter().map(network).collect::<Result<_, _>>().map(Self::Within)
            }
        }
    }

    pub(crate) fn allow(&self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Within(networks) => networks.iter().any(|network| network.contains(&ip)),
        }
    }
}
