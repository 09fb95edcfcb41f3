//! The schema: each field with its type and default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rulegen_model::{ExternalIps, IPTABLES_SERVICE_SIZE, LoadBalancing, NFTABLES_SERVICE_SIZE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bind_address::BindAddress;
use crate::content_type::ContentType;
use crate::detect_local::{DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX};
use crate::node_port_addresses::NodePortAddresses;
use crate::proxy_mode::ProxyMode;
use crate::wire;

/// A KubeProxyConfiguration. Names, meanings and defaults are kube-proxy's, except for the fields
/// that are marked as rulegen's; kube-proxy ignores these with a warning.
///
/// The default of an `Option` depends on other fields; [`KubeProxyConfiguration::with_defaults`]
/// sets it. Fields of the type `()` are accepted and have no effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "kube-proxy's reference documents its own fields")]
pub struct KubeProxyConfiguration {
    pub api_version: ApiVersion,
    pub kind: ConfigurationKind,
    #[serde(serialize_with = "wire::text", deserialize_with = "wire::ip")]
    pub bind_address: Option<IpAddr>,
    pub bind_address_hard_fail: bool,
    #[serde(deserialize_with = "wire::section")]
    pub client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR", with = "wire::cluster_cidrs")]
    pub cluster_cidrs: Vec<IpNet>,
    #[serde(skip_serializing, deserialize_with = "wire::unused_duration")]
    config_sync_period: (),
    #[serde(deserialize_with = "wire::section")]
    pub conntrack: ConntrackConfiguration,
    #[serde(deserialize_with = "wire::section")]
    pub detect_local: DetectLocal,
    #[serde(with = "wire::choice")]
    pub detect_local_mode: DetectLocalMode,
    #[serde(skip_serializing, deserialize_with = "wire::unused::<bool, _>")]
    enable_profiling: (),
    /// Only `AllowServiceExternalIPs` has an effect.
    pub feature_gates: BTreeMap<String, bool>,
    #[serde(
        serialize_with = "wire::text",
        deserialize_with = "wire::address::<{ BindAddress::HEALTHZ_PORT }, _>"
    )]
    pub healthz_bind_address: Option<BindAddress>,
    pub hostname_override: String,
    #[serde(deserialize_with = "wire::section")]
    pub iptables: IptablesConfiguration,
    #[serde(skip_serializing, deserialize_with = "wire::unused::<Map<String, Value>, _>")]
    ipvs: (),
    #[serde(skip_serializing, deserialize_with = "wire::unused::<Map<String, Value>, _>")]
    logging: (),
    #[serde(
        serialize_with = "wire::text",
        deserialize_with = "wire::address::<{ BindAddress::METRICS_PORT }, _>"
    )]
    pub metrics_bind_address: Option<BindAddress>,
    /// The empty string means unset.
    #[serde(with = "wire::optional_choice")]
    pub mode: Option<ProxyMode>,
    #[serde(deserialize_with = "wire::section")]
    pub nftables: NftablesConfiguration,
    #[serde(with = "wire::node_port_addresses")]
    pub node_port_addresses: NodePortAddresses,
    #[serde(deserialize_with = "wire::optional_number::<-1000, 1000, _, _>")]
    pub oom_score_adj: Option<i16>,
    #[serde(skip_serializing, deserialize_with = "wire::unused::<String, _>")]
    port_range: (),
    /// Not in kube-proxy.
    #[serde(deserialize_with = "wire::section")]
    pub rulegen: Rulegen,
    #[serde(skip_serializing, deserialize_with = "wire::unused::<String, _>")]
    show_hidden_metrics_for_version: (),
    #[serde(skip_serializing, deserialize_with = "wire::unused::<bool, _>")]
    windows_run_as_service: (),
    #[serde(skip_serializing, deserialize_with = "wire::unused::<Map<String, Value>, _>")]
    winkernel: (),
}

/// The supported version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiVersion {
    /// kube-proxy's only version.
    #[default]
    #[serde(rename = "kubeproxy.config.k8s.io/v1alpha1")]
    V1alpha1,
}

/// The supported kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigurationKind {
    /// kube-proxy's.
    #[default]
    KubeProxyConfiguration,
}

/// Connection to the API server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientConnection {
    /// The encodings of the API server's answers, the first preferably; empty if `content_type`
    /// decides.
    #[serde(with = "wire::content_types")]
    pub accept_content_types: Vec<ContentType>,
    #[serde(skip_serializing, deserialize_with = "wire::unused_number::<0, MAX_I32, _>")]
    burst: (),
    /// The preferred encoding of the API server's answers.
    #[serde(with = "wire::choice")]
    pub content_type: ContentType,
    /// Path of the kubeconfig file; empty if there is none.
    #[serde(serialize_with = "wire::path")]
    pub kubeconfig: PathBuf,
    #[serde(skip_serializing, deserialize_with = "wire::unused::<f64, _>")]
    qps: (),
}

/// Conntrack settings. Zero leaves the kernel's setting unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "kube-proxy's reference documents its own fields")]
pub struct ConntrackConfiguration {
    #[serde(deserialize_with = "wire::number::<0, MAX_I32, _, _>")]
    pub max_per_core: u32,
    #[serde(deserialize_with = "wire::number::<0, MAX_I32, _, _>")]
    pub min: u32,
    pub tcp_be_liberal: bool,
    #[serde(with = "wire::duration")]
    pub tcp_close_wait_timeout: Duration,
    #[serde(with = "wire::duration")]
    pub tcp_established_timeout: Duration,
    #[serde(with = "wire::duration")]
    pub udp_stream_timeout: Duration,
    #[serde(with = "wire::duration")]
    pub udp_timeout: Duration,
}

/// Kube-proxy's numbers are `int32`.
const MAX_I32: i64 = i32::MAX as i64;

impl Default for ConntrackConfiguration {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_be_liberal: false,
            tcp_close_wait_timeout: Duration::from_secs(60 * 60),
            tcp_established_timeout: Duration::from_secs(24 * 60 * 60),
            udp_stream_timeout: Duration::ZERO,
            udp_timeout: Duration::ZERO,
        }
    }
}

/// Settings that some values of `detectLocalMode` need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "kube-proxy's reference documents its own fields")]
pub struct DetectLocal {
    #[serde(
        serialize_with = "wire::text",
        deserialize_with = "wire::interface::<LONGEST_INTERFACE, _>"
    )]
    pub bridge_interface: Option<String>,
    #[serde(
        serialize_with = "wire::text",
        deserialize_with = "wire::interface::<LONGEST_INTERFACE_PREFIX, _>"
    )]
    pub interface_name_prefix: Option<String>,
}

/// Settings of iptables mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "kube-proxy's reference documents its own fields")]
pub struct IptablesConfiguration {
    pub localhost_node_ports: bool,
    pub masquerade_all: bool,
    #[serde(deserialize_with = "wire::number::<0, 31, _, _>")]
    pub masquerade_bit: u8,
    #[serde(with = "wire::period")]
    pub min_sync_period: Option<Duration>,
    #[serde(with = "wire::period")]
    pub sync_period: Option<Duration>,
}

/// Kube-proxy's default of `masqueradeBit`.
const MASQUERADE_BIT: u8 = 14;

impl Default for IptablesConfiguration {
    fn default() -> Self {
        Self {
            localhost_node_ports: true,
            masquerade_all: false,
            masquerade_bit: MASQUERADE_BIT,
            min_sync_period: None,
            sync_period: None,
        }
    }
}

/// Settings of nftables mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "kube-proxy's reference documents its own fields")]
pub struct NftablesConfiguration {
    /// Whether connections are counted per endpoint. Not in kube-proxy.
    pub counters: bool,
    /// Load balancing method. Not in kube-proxy.
    #[serde(with = "wire::choice")]
    pub load_balancing: LoadBalancing,
    pub masquerade_all: bool,
    #[serde(deserialize_with = "wire::number::<0, 31, _, _>")]
    pub masquerade_bit: u8,
    #[serde(with = "wire::period")]
    pub min_sync_period: Option<Duration>,
    #[serde(with = "wire::period")]
    pub sync_period: Option<Duration>,
}

impl Default for NftablesConfiguration {
    fn default() -> Self {
        Self {
            counters: false,
            load_balancing: LoadBalancing::Random,
            masquerade_all: false,
            masquerade_bit: MASQUERADE_BIT,
            min_sync_period: None,
            sync_period: None,
        }
    }
}

/// Settings for both modes that kube-proxy does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rulegen {
    /// Whether TCP connections to removed endpoints are reset.
    #[serde(rename = "conntrackTCPResetRemoved")]
    pub conntrack_tcp_reset_removed: bool,
    /// Which external IPs of Services are used. By default the feature gate
    /// `AllowServiceExternalIPs` decides: all or none.
    #[serde(rename = "externalIPs", with = "wire::external_ips")]
    pub external_ips: Option<ExternalIps>,
    /// Maximum size of a Service; the default depends on the mode.
    #[serde(deserialize_with = "wire::optional_number::<1, { i64::MAX }, _, _>")]
    pub max_service_size: Option<usize>,
    /// Whether this node's addresses are excluded as external and load-balancer IPs.
    pub refuse_node_addresses: bool,
}

/// The feature gate of kube-proxy that has an effect: without it, externalIPs get no rules.
pub const EXTERNAL_IPS_GATE: &str = "AllowServiceExternalIPs";

/// Kube-proxy waits for a second. Ours is shorter: people feel a change that waits for longer.
pub(crate) const IPTABLES_MIN_SYNC_PERIOD: Duration = Duration::from_millis(100);
/// The agent also rests after each sync for a multiple of its duration, which is short. Zero would be
/// read as the default.
pub(crate) const NFTABLES_MIN_SYNC_PERIOD: Duration = Duration::from_millis(1);
/// Kube-proxy's.
pub(crate) const SYNC_PERIOD: Duration = Duration::from_secs(30);
/// Kube-proxy's.
pub(crate) const OOM_SCORE_ADJ: i16 = -999;

impl KubeProxyConfiguration {
    /// The same with all defaults filled in. Kube-proxy's for its own fields, but for
    /// `minSyncPeriod`.
    pub fn with_defaults(mut self) -> Self {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let primary = *self.bind_address.get_or_insert(unspecified);
        self.healthz_bind_address.get_or_insert(BindAddress::healthz(primary, None));
        self.metrics_bind_address.get_or_insert(BindAddress::metrics(primary, None));
        self.oom_score_adj.get_or_insert(OOM_SCORE_ADJ);
        self.iptables.min_sync_period.get_or_insert(IPTABLES_MIN_SYNC_PERIOD);
        self.iptables.sync_period.get_or_insert(SYNC_PERIOD);
        self.nftables.min_sync_period.get_or_insert(NFTABLES_MIN_SYNC_PERIOD);
        self.nftables.sync_period.get_or_insert(SYNC_PERIOD);
        let mode = *self.mode.get_or_insert_default();
        self.rulegen.max_service_size.get_or_insert(match mode {
            ProxyMode::Iptables => IPTABLES_SERVICE_SIZE,
            ProxyMode::Nftables => NFTABLES_SERVICE_SIZE,
        });
        let allows = self.feature_gates.get(EXTERNAL_IPS_GATE) != Some(&false);
        let by_gate = if allows { ExternalIps::All } else { ExternalIps::None };
        self.rulegen.external_ips.get_or_insert(by_gate);
        self
    }
}

/// The configuration as `/configz` shows it: in kube-proxy's format, with every field that has an
/// effect.
pub fn to_configz(config: &KubeProxyConfiguration) -> Value {
    // This fails only for maps with keys that are not strings, and if a `serialize_with` function
    // fails.
    serde_json::to_value(config).unwrap_or_default()
}
