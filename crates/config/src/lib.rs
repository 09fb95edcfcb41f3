//! KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), with rulegen's own fields.
//!
//! ```text
//! file ──read──▶ KubeProxyConfiguration ─┐                        ┌─▶ ProxyConfig    (for rules)
//! flags ───────▶ Overrides ──────────────┴─merge─▶ the effective ─┼─▶ RunningConfig  (for an agent)
//!                                                  configuration  └─to_configz─▶ /configz
//! ```
//!
//! There is one schema (`schema.rs`). Reading, warnings about unknown fields, defaults and
//! `/configz` are derived from it: the output of [`to_configz`] can be read back as the same
//! configuration.

mod bind_address;
mod choice;
mod content_type;
mod detect_local;
mod duration;
mod node_port_addresses;
mod overrides;
mod proxy_mode;
mod reader;
mod rules;
mod running;
mod schema;
#[cfg(test)]
mod tests;
mod value_error;
mod wire;

pub use bind_address::{BindAddress, parse_bind_address, parse_listen_address};
pub use choice::NamedChoice;
pub use content_type::ContentType;
pub use detect_local::{
    DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX, parse_cluster_cidrs,
    parse_interface,
};
pub use duration::{format_duration, parse_duration};
pub use node_port_addresses::NodePortAddresses;
pub use overrides::{Overrides, merge};
pub use proxy_mode::ProxyMode;
pub use reader::read_config;
pub use rules::ProxyConfig;
pub use running::{ConntrackConfig, RunningConfig};
pub use schema::{
    ApiVersion, ClientConnection, ConfigurationKind, ConntrackConfiguration, DetectLocal,
    EXTERNAL_IPS_GATE, IptablesConfiguration, KubeProxyConfiguration, NftablesConfiguration,
    Rulegen, to_configz,
};
pub use value_error::ValueError;
