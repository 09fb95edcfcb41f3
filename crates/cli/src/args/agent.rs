//! The flags of the node agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rulegen_config::{BindAddress, parse_duration};

use super::{EmptyArgs, KernelArgs, LogArgs, ProxyArgs, parse_bool};

pub(super) const EXAMPLES: &str = "\
Examples:
  # In place of kube-proxy, with its configuration
  kubectl -n kube-system get configmap kube-proxy -o 'jsonpath={.data.config\\.conf}' > config.conf
  rulegen agent --config config.conf --kubeconfig /etc/kubernetes/admin.conf \\
      --proxy-mode nftables

  # Of a folder of manifests; and its status page, for people or as data
  mkdir manifests && cp examples/nodeport.yaml manifests/
  rulegen agent --manifests manifests --hostname-override node-1 --proxy-mode nftables &
  curl http://127.0.0.1:10249/
  curl 'http://127.0.0.1:10249/services/default/web-service?format=json'";

/// `rulegen agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Watch the manifests of this folder instead of an API server. A file that cannot be read
    /// keeps its last good state, and nothing is removed meanwhile. Without any such state, as at
    /// the start, all rules stay as they are
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context", "master"], help_heading = "Where objects come from")]
    pub(crate) manifests: Option<PathBuf>,

    #[command(flatten, next_help_heading = "Where objects come from")]
    pub(crate) empty: EmptyArgs,

    /// Set sysctls (also route_localnet, in iptables mode), which takes more privileges than the agent needs later, and exit: for an init
    /// container
    #[arg(long, help_heading = "Options")]
    pub(crate) init_only: bool,

    #[command(flatten)]
    pub(crate) running: RunningArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How the agent runs: kube-proxy's flags. One that is given wins over --config.
#[derive(Debug, Args)]
pub(crate) struct RunningArgs {
    /// Credentials for the API server [default: the configuration's, then KUBECONFIG, then
    /// ~/.kube/config, then those of the pod]
    #[arg(long, value_name = "FILE", help_heading = "Where objects come from")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", help_heading = "Where objects come from")]
    pub(crate) context: Option<String>,

    /// The API server's address, whatever the kubeconfig says
    #[arg(long, value_name = "URL", help_heading = "Where objects come from")]
    pub(crate) master: Option<String>,

    /// Where /healthz, /livez and /readyz are, port 0 for nowhere [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT", value_parser = healthz_address, help_heading = "Health and metrics")]
    pub(crate) healthz_bind_address: Option<BindAddress>,

    /// Where the status page, /metrics, /configz and their like are, port 0 for nowhere
    /// [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT", value_parser = metrics_address, help_heading = "Health and metrics")]
    pub(crate) metrics_bind_address: Option<BindAddress>,

    /// Do not start if one of these two is taken, instead of trying again every 5 s
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, help_heading = "Health and metrics")]
    pub(crate) bind_address_hard_fail: Option<bool>,

    /// The least time between two syncs; the first change after a quiet time goes at once
    /// [default: 100ms]
    #[arg(long, visible_alias = "min-sync-period", value_name = "DURATION", value_parser = parse_duration, help_heading = "Syncing")]
    pub(crate) iptables_min_sync_period: Option<Duration>,

    /// A sync that is due for longer than twice this makes the node unhealthy [default: 30s]
    #[arg(long, visible_alias = "sync-period", value_name = "DURATION", value_parser = parse_duration, help_heading = "Syncing")]
    pub(crate) iptables_sync_period: Option<Duration>,

    /// Flows that conntrack has room for, for each CPU; 0 leaves the limit as it is. A limit that is
    /// higher already stays [default: 32768]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=MAX_I32), help_heading = "Connection tracking")]
    pub(crate) conntrack_max_per_core: Option<u32>,

    /// Flows that it has room for at least [default: 131072]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=MAX_I32), help_heading = "Connection tracking")]
    pub(crate) conntrack_min: Option<u32>,

    /// How long an idle TCP connection is remembered; 0 leaves it [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_timeout_established: Option<Duration>,

    /// Timeout of CLOSE_WAIT connections; 0 leaves it [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_timeout_close_wait: Option<Duration>,

    /// How long a UDP flow without an answer is; 0 leaves it [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_udp_timeout: Option<Duration>,

    /// How long one with answers is; 0 leaves it [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Connection tracking")]
    pub(crate) conntrack_udp_timeout_stream: Option<Duration>,

    /// Forget TCP connections to endpoints that are gone, so that their clients are reset at once.
    /// In the configuration: rulegen.conntrackTCPResetRemoved [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, help_heading = "Connection tracking")]
    pub(crate) conntrack_tcp_reset_removed: Option<bool>,

    /// OOM score adjustment of the agent, -1000 to 1000 [default: -999]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-1000..=1000), help_heading = "Options")]
    pub(crate) oom_score_adj: Option<i16>,
}

/// Kube-proxy's numbers are `int32`.
const MAX_I32: i64 = i32::MAX as i64;

fn healthz_address(text: &str) -> Result<BindAddress, String> {
    BindAddress::parse(text, BindAddress::HEALTHZ_PORT)
}

fn metrics_address(text: &str) -> Result<BindAddress, String> {
    BindAddress::parse(text, BindAddress::METRICS_PORT)
}

/// Flags of kube-proxy that say how it runs, not which rules there are. They are taken where
/// nothing runs on, so that its command line can be used as it is, and told to be without effect.
#[derive(Debug, Args)]
pub(crate) struct IgnoredArgs {
    #[arg(long, hide = true)]
    kubeconfig: Option<String>,
    #[arg(long, hide = true)]
    master: Option<String>,
    #[command(flatten)]
    running: IgnoredRunningArgs,
}

/// The same where the API server is asked.
#[derive(Debug, Args)]
pub(crate) struct IgnoredRunningArgs {
    #[arg(long, hide = true)]
    healthz_bind_address: Option<String>,
    #[arg(long, hide = true)]
    metrics_bind_address: Option<String>,
    #[arg(long, hide = true)]
    iptables_sync_period: Option<String>,
    #[arg(long, hide = true)]
    iptables_min_sync_period: Option<String>,
    #[arg(long, hide = true)]
    conntrack_max_per_core: Option<String>,
    #[arg(long, hide = true)]
    conntrack_min: Option<String>,
    #[arg(long, hide = true)]
    conntrack_tcp_timeout_established: Option<String>,
    #[arg(long, hide = true)]
    conntrack_tcp_timeout_close_wait: Option<String>,
    #[arg(long, hide = true)]
    conntrack_udp_timeout: Option<String>,
    #[arg(long, hide = true)]
    conntrack_udp_timeout_stream: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    oom_score_adj: Option<String>,
}

impl IgnoredArgs {
    /// The names of those that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let client = [("kubeconfig", &self.kubeconfig), ("master", &self.master)];
        names(client).chain(self.running.given()).collect()
    }
}

impl IgnoredRunningArgs {
    /// The names of those that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let all = [
            ("healthz-bind-address", &self.healthz_bind_address),
            ("metrics-bind-address", &self.metrics_bind_address),
            ("iptables-sync-period", &self.iptables_sync_period),
            ("iptables-min-sync-period", &self.iptables_min_sync_period),
            ("conntrack-max-per-core", &self.conntrack_max_per_core),
            ("conntrack-min", &self.conntrack_min),
            ("conntrack-tcp-timeout-established", &self.conntrack_tcp_timeout_established),
            ("conntrack-tcp-timeout-close-wait", &self.conntrack_tcp_timeout_close_wait),
            ("conntrack-udp-timeout", &self.conntrack_udp_timeout),
            ("conntrack-udp-timeout-stream", &self.conntrack_udp_timeout_stream),
            ("oom-score-adj", &self.oom_score_adj),
        ];
        names(all).collect()
    }
}

fn names<const N: usize>(
    flags: [(&'static str, &Option<String>); N],
) -> impl Iterator<Item = &'static str> {
    flags.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name)
}
