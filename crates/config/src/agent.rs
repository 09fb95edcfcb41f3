//! What of the configuration an agent needs to run, besides that for the rules.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rulegen_net::parse_address;

use crate::rules::ProxyMode;
use crate::schema::{self, KubeProxyConfiguration};

/// How an agent runs, with all defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct RunningConfig {
    pub kubeconfig: Option<PathBuf>,
    pub healthz_bind_address: BindAddress,
    pub metrics_bind_address: BindAddress,
    pub bind_address_hard_fail: bool,
    pub oom_score_adj: i16,
    /// The mode's `minSyncPeriod`.
    pub min_sync_period: Duration,
    /// The mode's `syncPeriod`.
    pub sync_period: Duration,
    pub conntrack: ConntrackConfig,
}

/// How connections are tracked. A number or time of zero leaves the kernel's setting as it is.
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
    /// Whether TCP connections to endpoints that are gone are reset. Rulegen's own.
    pub tcp_reset_removed: bool,
}

impl From<&KubeProxyConfiguration> for RunningConfig {
    fn from(config: &KubeProxyConfiguration) -> Self {
        let config = config.clone().with_defaults();
        let [iptables, nftables] = [
            (config.iptables.min_sync_period, config.iptables.sync_period),
            (config.nftables.min_sync_period, config.nftables.sync_period),
        ];
        let (min_sync_period, sync_period) = match config.mode {
            ProxyMode::Iptables => iptables,
            ProxyMode::Nftables => nftables,
        };
        let kubeconfig = config.client_connection.kubeconfig;
        let conntrack = config.conntrack;
        Self {
            kubeconfig: Some(kubeconfig).filter(|path| !path.as_os_str().is_empty()),
            healthz_bind_address: config.healthz_bind_address.unwrap_or(BindAddress::Off),
            metrics_bind_address: config.metrics_bind_address.unwrap_or(BindAddress::Off),
            bind_address_hard_fail: config.bind_address_hard_fail,
            oom_score_adj: config.oom_score_adj.unwrap_or(schema::OOM_SCORE_ADJ),
            min_sync_period: min_sync_period.unwrap_or(schema::MIN_SYNC_PERIOD),
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

/// Where a server listens, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAddress {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl BindAddress {
    /// Kube-proxy's port for `/healthz`.
    pub const HEALTHZ_PORT: u16 = 10256;
    /// Kube-proxy's port for `/metrics`.
    pub const METRICS_PORT: u16 = 10249;

    /// Reads `IP` or `IP:PORT`. The empty string and port 0 switch it off, as in kube-proxy.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Off);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = match parse_address(bare) {
            Some(ip) => SocketAddr::new(ip, default_port),
            None => text.parse().map_err(|_| {
                format!(
                    "invalid address {text:?} (want IP:PORT, for example 0.0.0.0:{default_port})"
                )
            })?,
        };
        Ok(if address.port() == 0 { Self::Off } else { Self::At(address) })
    }

    /// Kube-proxy's default for `/healthz`: all addresses, IPv6 too if the node's primary address
    /// is one.
    pub(crate) fn healthz(primary: IpAddr) -> Self {
        let ip = match primary {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self::At(SocketAddr::new(ip, Self::HEALTHZ_PORT))
    }

    /// Kube-proxy's default for `/metrics`: loopback, in the family of the node's primary address.
    pub(crate) fn metrics(primary: IpAddr) -> Self {
        let ip = match primary {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        Self::At(SocketAddr::new(ip, Self::METRICS_PORT))
    }
}

impl fmt::Display for BindAddress {
    /// In a file the empty string means the default, so that port 0 stands for `Off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0.0.0.0:0"),
            Self::At(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_are_read_as_kube_proxy_reads_them() {
        let at = |text: &str| Ok(BindAddress::At(text.parse().unwrap()));
        assert_eq!(BindAddress::parse("", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("0.0.0.0:0", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("10.0.0.1", 1), at("10.0.0.1:1"));
        assert_eq!(BindAddress::parse("::", 1), at("[::]:1"));
        assert_eq!(BindAddress::parse("[::1]", 1), at("[::1]:1"));
        assert_eq!(BindAddress::parse("[::1]:2", 1), at("[::1]:2"));
        assert!(BindAddress::parse("localhost:1", 1).is_err());
    }
}
