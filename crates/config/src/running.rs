//! The settings of an agent, apart from those for rules.

use std::path::PathBuf;
use std::time::Duration;

use crate::bind_address::BindAddress;
use crate::content_type::{ContentType, accepted};
use crate::proxy_mode::ProxyMode;
use crate::schema::{self, KubeProxyConfiguration};

/// The settings of an agent, with all defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct RunningConfig {
    pub kubeconfig: Option<PathBuf>,
    /// The encodings of the API server's answers, the first preferably.
    pub content_types: Vec<ContentType>,
    pub healthz_bind_address: BindAddress,
    pub metrics_bind_address: BindAddress,
    pub bind_address_hard_fail: bool,
    pub oom_score_adj: i16,
    /// `minSyncPeriod` of the configured mode.
    pub min_sync_period: Duration,
    /// `syncPeriod` of the configured mode.
    pub sync_period: Duration,
    pub conntrack: ConntrackConfig,
}

/// Conntrack settings. Zero leaves the kernel's setting unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct ConntrackConfig {
    pub max_per_core: u32,
    pub min: u32,
    pub tcp_be_liberal: bool,
    pub tcp_established_timeout: Duration,
    pub tcp_close_wait_timeout: Duration,
    pub udp_timeout: Duration,
    pub udp_stream_timeout: Duration,
    /// Whether TCP connections to removed endpoints are reset. Not in kube-proxy.
    pub tcp_reset_removed: bool,
}

impl From<&KubeProxyConfiguration> for RunningConfig {
    fn from(config: &KubeProxyConfiguration) -> Self {
        let config = config.clone().with_defaults();
        let [iptables, nftables] = [
            (config.iptables.min_sync_period, config.iptables.sync_period),
            (config.nftables.min_sync_period, config.nftables.sync_period),
        ];
        let (min_sync_period, sync_period) = match config.mode.unwrap_or_default() {
            ProxyMode::Iptables => iptables,
            ProxyMode::Nftables => nftables,
        };
        let client = config.client_connection;
        let content_types = accepted(client.content_type, &client.accept_content_types);
        let conntrack = config.conntrack;
        Self {
            kubeconfig: Some(client.kubeconfig).filter(|path| !path.as_os_str().is_empty()),
            content_types,
            healthz_bind_address: config.healthz_bind_address.unwrap_or(BindAddress::Off),
            metrics_bind_address: config.metrics_bind_address.unwrap_or(BindAddress::Off),
            bind_address_hard_fail: config.bind_address_hard_fail,
            oom_score_adj: config.oom_score_adj.unwrap_or(schema::OOM_SCORE_ADJ),
            // Both have a value by default.
            min_sync_period: min_sync_period.unwrap_or_default(),
            sync_period: sync_period.unwrap_or(schema::SYNC_PERIOD),
            conntrack: ConntrackConfig {
                max_per_core: conntrack.max_per_core,
                min: conntrack.min,
                tcp_be_liberal: conntrack.tcp_be_liberal,
                tcp_established_timeout: conntrack.tcp_established_timeout,
                tcp_close_wait_timeout: conntrack.tcp_close_wait_timeout,
                udp_timeout: conntrack.udp_timeout,
                udp_stream_timeout: conntrack.udp_stream_timeout,
                tcp_reset_removed: config.rulegen.conntrack_tcp_reset_removed,
            },
        }
    }
}
