//! KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), with rulegen's own fields.
//!
//! ```text
//! file ──read──▶ KubeProxyConfiguration ─┐                        ┌─▶ ProxyConfig    (for rules)
//! flags ───────▶ Overrides ──────────────┴─merge─▶ the effective ─┼─▶ RunningConfig  (for an agent)
//!                                                  configuration  └─to_configz─▶ /configz
//! ```
//!
//! There is one schema (`schema.rs`), from which reading, warnings about unknown fields, defaults
//! and `/configz` follow: what [`to_configz`] prints is read back as the same configuration.

mod agent;
mod choice;
mod duration;
mod overrides;
mod reader;
mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod wire;

pub use agent::{BindAddress, ConntrackConfig, RunningConfig};
pub use choice::Choice;
pub use duration::{format_duration, parse_duration};
pub use overrides::{Overrides, merge};
pub use reader::read_config;
pub use rules::{
    DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX, NodePortAddresses, ProxyConfig,
    ProxyMode, parse_bind_address, parse_cluster_cidrs, parse_interface,
};
pub use schema::{
    ApiVersion, ClientConnection, Conntrack, DetectLocal, Iptables, Kind, KubeProxyConfiguration,
    Nftables, Rulegen, to_configz,
};
