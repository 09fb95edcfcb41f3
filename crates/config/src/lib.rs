//! KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), with rulegen's own fields.

mod agent;
mod rules;

pub use agent::{BindAddress, ConntrackConfig, RunningConfig, parse_duration, read_running_config};
pub use rules::{
    DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX, NodePortAddresses, ProxyConfig,
    ProxyMode, parse_cluster_cidrs, parse_detect_local_mode, parse_interface, parse_mode,
    read_config,
};
