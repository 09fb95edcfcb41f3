//! The flags of the node agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};
use rulegen_config::{BindAddress, ContentType, parse_duration, parse_listen_address};

use super::choice::{Given, given, one_of};
use super::listen::{ListenAddress, bind_address};
use super::shared::any_path;
use super::{EmptyArgs, InsteadArgs, KernelArgs, LogArgs, ProxyArgs, parse_bool};

pub(super) const EXAMPLES: &str = "\
Examples:
  # Run in place of kube-proxy, with its configuration
  kubectl -n kube-system get configmap kube-proxy -o 'jsonpath={.data.config\\.conf}' > config.conf
  rulegen agent --config config.conf --kubeconfig /etc/kubernetes/admin.conf \\
      --proxy-mode nftables

  # Run from a folder of manifests; read the status page as HTML or JSON
  mkdir manifests && cp examples/nodeport.yaml manifests/
  rulegen agent --manifests manifests --hostname-override node-1 --proxy-mode nftables &
  curl http://127.0.0.1:10249/
  curl 'http://127.0.0.1:10249/services/default/web-service?format=json'";

/// `rulegen agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Watch the manifests in this folder instead of an API server. For an unreadable file the last
    /// good version is used, and nothing is removed meanwhile; without a good version, as at startup,
    /// all rules stay unchanged
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context", "master"], help_heading = "Source")]
    pub(crate) manifests: Option<PathBuf>,

    #[command(flatten, next_help_heading = "Source")]
    pub(crate) empty: EmptyArgs,

    /// Set the sysctls (in iptables mode also route_localnet) and exit. For a privileged init
    /// container, so that the agent needs fewer privileges
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, help_heading = "Options")]
    pub(crate) init_only: Option<bool>,

    /// Write the configuration in effect to this file and exit
    #[arg(long, value_name = "FILE", value_parser = any_path(), help_heading = "Options")]
    pub(crate) write_config_to: Option<PathBuf>,

    /// Folder for what the agent remembers until the next boot: in nftables mode, which rules the
    /// kernel had when it stopped, so that a start need not read them. May be missing or unwritable
    #[arg(long, value_name = "DIR", default_value = "/run/rulegen", value_parser = any_path(), help_heading = "Options")]
    pub(crate) state_dir: PathBuf,

    #[command(flatten)]
    pub(crate) instead: InsteadArgs,

    #[command(flatten)]
    pub(crate) running: RunningArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// kube-proxy's flags for the running agent. They override --config.
#[derive(Debug, Args)]
pub(crate) struct RunningArgs {
    /// Kubeconfig file [default: the configuration's, then KUBECONFIG, then ~/.kube/config, then the
    /// pod's service account]
    #[arg(long, value_name = "FILE", value_parser = any_path(), help_heading = "Source")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current context]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub(crate) context: Option<String>,

    /// Address of the API server; overrides the kubeconfig
    #[arg(long, value_name = "URL", help_heading = "Source")]
    pub(crate) master: Option<String>,

    /// Encoding of the API server's answers [default: application/vnd.kubernetes.protobuf, or JSON
    /// from a server without it]
    #[arg(long, value_name = "TYPE", value_parser = one_of::<ContentType>(), help_heading = "Source")]
    pub(crate) kube_api_content_type: Option<Given<ContentType>>,

    /// Address of /healthz, /livez and /readyz; port 0 disables them [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT", value_parser = given(parse_listen_address), help_heading = "Health and metrics")]
    healthz_bind_address: Option<Given<ListenAddress>>,

    #[arg(long, hide = true, value_parser = value_parser!(u16))]
    healthz_port: Option<u16>,

    /// Address of the status page, /metrics, /configz and similar endpoints; port 0 disables them
    /// [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT", value_parser = given(parse_listen_address), help_heading = "Health and metrics")]
    metrics_bind_address: Option<Given<ListenAddress>>,

    #[arg(long, hide = true, value_parser = value_parser!(u16))]
    metrics_port: Option<u16>,

    /// Exit if one of these two addresses is in use, instead of retrying every 5 s
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, help_heading = "Health and metrics")]
    pub(crate) bind_address_hard_fail: Option<bool>,

    /// Minimum time between two syncs; the first change after a pause is synced immediately. In
    /// nftables mode, a sync is also followed by a pause of ten times its duration, at most 100ms
    /// [default: 100ms, in nftables mode 1ms]
    #[arg(long, visible_alias = "min-sync-period", value_name = "DURATION", value_parser = parse_duration, help_heading = "Syncing")]
    pub(crate) iptables_min_sync_period: Option<Duration>,

    /// If a pending sync is older than twice this period, /healthz fails [default: 30s]
    #[arg(long, visible_alias = "sync-period", value_name = "DURATION", value_parser = parse_duration, help_heading = "Syncing")]
    pub(crate) iptables_sync_period: Option<Duration>,

    /// Maximum number of conntrack entries per CPU core; 0 keeps the current limit. A higher limit is
    /// never lowered [default: 32768]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=MAX_I32), help_heading = "Connection tracking")]
    pub(crate) conntrack_max_per_core: Option<u32>,

    /// Minimum number of conntrack entries to allow [default: 131072]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=MAX_I32), help_heading = "Connection tracking")]
    pub(crate) conntrack_min: Option<u32>,

    /// Timeout for established TCP connections; 0 keeps the current value [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_timeout_established: Option<Duration>,

    /// Timeout for half-closed (CLOSE_WAIT) TCP connections; 0 keeps the current value [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_timeout_close_wait: Option<Duration>,

    /// Timeout for unreplied UDP flows; 0 keeps the current value [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_udp_timeout: Option<Duration>,

    /// Timeout for replied UDP flows; 0 keeps the current value [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_udp_timeout_stream: Option<Duration>,

    /// Delete conntrack entries of TCP connections to removed endpoints, so that their clients get a
    /// reset immediately. In the configuration: rulegen.conntrackTCPResetRemoved [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_reset_removed: Option<bool>,

    /// OOM score adjustment of the agent, -1000 to 1000 [default: -999]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-1000..=1000), help_heading = "Options")]
    pub(crate) oom_score_adj: Option<i16>,
}

/// kube-proxy uses `int32`.
const MAX_I32: i64 = i32::MAX as i64;

impl RunningArgs {
    /// The flags for the healthz server: its address, and its port if there is no address.
    pub(crate) fn healthz(&self) -> (Option<BindAddress>, Option<u16>) {
        let port = self.healthz_port;
        (bind_address(&self.healthz_bind_address, port.unwrap_or(BindAddress::HEALTHZ_PORT)), port)
    }

    /// The same for the metrics server.
    pub(crate) fn metrics(&self) -> (Option<BindAddress>, Option<u16>) {
        let port = self.metrics_port;
        (bind_address(&self.metrics_bind_address, port.unwrap_or(BindAddress::METRICS_PORT)), port)
    }
}
