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

    /// What to use in place of a value that kube-proxy accepts and rulegen does not.
    fn replacement(_: &str) -> Option<&'static str> {
        None
    }

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
            if let Some(instead) = Self::replacement(text) {
                let (setting, value) = (Self::WHAT, text.to_owned());
                return ValueError::OfKubeProxy { setting, value, instead };
            }
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

    fn replacement(text: &str) -> Option<&'static str> {
        match text.to_ascii_lowercase().as_str() {
            "ipvs" => Some(
                "use nftables: its cost per packet does not grow with the number of Services either; \
                 --load-balancing round-robin and maglev replace the schedulers rr and sh or mh; see \
                 docs/replacing-kube-proxy.md, \"From ipvs mode\"",
            ),
            "kernelspace" | "winkernel" => {
                Some("for Windows nodes: keep kube-proxy there; on Linux use nftables or iptables")
            }
            "userspace" => Some("kube-proxy removed it in 1.26; use nftables or iptables"),
            _ => None,
        }
    }

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
        for (mode, instead) in [
            ("ipvs", "use nftables: "),
            ("IPVS", "use nftables: "),
            ("kernelspace", "keep kube-proxy there"),
            ("userspace", "use nftables or iptables"),
        ] {
            let error = ProxyMode::parse(mode).unwrap_err().to_string();
            let names_it = error.starts_with(&format!("unsupported mode {mode:?} ("));
            assert!(names_it && error.contains(instead), "{error}");
        }
        assert_eq!(
            DetectLocalMode::parse("").unwrap_err().to_string(),
            "unsupported mode \"\" (use ClusterCIDR, NodeCIDR, BridgeInterface or \
             InterfaceNamePrefix)"
        );
    }
}
