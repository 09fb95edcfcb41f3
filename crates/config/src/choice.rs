//! Settings with a fixed set of values.

use rulegen_model::LoadBalancing;

use crate::detect_local::DetectLocalMode;
use crate::proxy_mode::ProxyMode;
use crate::value_error::ValueError;

/// A setting with a fixed set of values. The configuration and flags use the same names.
pub trait NamedChoice: Copy + Default + 'static {
    /// Name of the setting in error messages.
    const WHAT: &'static str;
    /// All values.
    const ALL: &'static [Self];

    /// Other names that are accepted, and their values.
    const ALIASES: &'static [(&'static str, Self)] = &[];

    /// The name of the value.
    fn as_str(self) -> &'static str;

    /// Reads a name.
    ///
    /// # Errors
    /// The name is unknown. The message lists the valid names.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let names = Self::ALL.iter().map(|value| (value.as_str(), *value));
        let mut names = names.chain(Self::ALIASES.iter().copied());
        let known = names.find(|(name, _)| *name == text);
        known.map(|(_, value)| value).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
            let (last, others) = names.split_last().map_or(("", [].as_slice()), |(l, o)| (*l, o));
            ValueError::Choice {
                setting: Self::WHAT,
                value: text.to_owned(),
                accepted: format!("{} or {last}", others.join(", ")),
            }
        })
    }
}

impl NamedChoice for ProxyMode {
    const WHAT: &'static str = "mode";
    const ALL: &'static [Self] = &[Self::Iptables, Self::Nftables];

    fn as_str(self) -> &'static str {
        self.word()
    }
}

impl NamedChoice for DetectLocalMode {
    const WHAT: &'static str = "mode";
    const ALL: &'static [Self] =
        &[Self::ClusterCidr, Self::NodeCidr, Self::BridgeInterface, Self::InterfaceNamePrefix];

    fn as_str(self) -> &'static str {
        match self {
            Self::ClusterCidr => "ClusterCIDR",
            Self::NodeCidr => "NodeCIDR",
            Self::BridgeInterface => "BridgeInterface",
            Self::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

impl NamedChoice for LoadBalancing {
    const WHAT: &'static str = "load balancing";
    const ALL: &'static [Self] = &LoadBalancing::ALL;
    const ALIASES: &'static [(&'static str, Self)] = &LoadBalancing::ALIASES;

    fn as_str(self) -> &'static str {
        self.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_mode_error_lists_all_modes() {
        assert_eq!(ProxyMode::parse("nftables"), Ok(ProxyMode::Nftables));
        assert_eq!(
            ProxyMode::parse("IPTables").unwrap_err().to_string(),
            "unsupported mode \"IPTables\" (use iptables or nftables)"
        );
        assert_eq!(
            DetectLocalMode::parse("").unwrap_err().to_string(),
            "unsupported mode \"\" (use ClusterCIDR, NodeCIDR, BridgeInterface or \
             InterfaceNamePrefix)"
        );
    }
}
