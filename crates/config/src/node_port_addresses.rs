//! Addresses of the node at which node ports are open.

use ipnet::IpNet;
use rulegen_net::parse_network;

use crate::value_error::ValueError;

/// Addresses of the node at which node ports are open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Not set: all addresses in iptables mode, the primary addresses in nftables mode.
    #[default]
    Unset,
    /// The node's primary address of each family.
    Primary,
    /// The addresses in these networks; all addresses of a family without a network.
    Networks(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Joins the values of a repeated flag.
    ///
    /// # Errors
    /// `primary` and CIDRs are mixed.
    pub fn join(values: impl IntoIterator<Item = Self>) -> Result<Self, ValueError> {
        values.into_iter().try_fold(Self::Unset, |all, value| match (all, value) {
            (Self::Unset, one) | (one, Self::Unset) => Ok(one),
            (Self::Networks(some), Self::Networks(more)) => {
                Ok(Self::Networks([some, more].concat()))
            }
            (Self::Primary, Self::Primary) => Ok(Self::Primary),
            _ => Err(ValueError::PrimaryAndNetworks),
        })
    }

    /// Parses a list of CIDRs or the word `primary`.
    ///
    /// # Errors
    /// An entry is neither.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, ValueError> {
        let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
        match texts.as_slice() {
            [] => Ok(Self::Unset),
            ["primary"] => Ok(Self::Primary),
            texts => {
                let network = |text: &&str| {
                    parse_network(text)
                        .ok_or_else(|| ValueError::NodePortNetwork((*text).to_owned()))
                };
                texts.iter().map(network).collect::<Result<_, _>>().map(Self::Networks)
            }
        }
    }
}
