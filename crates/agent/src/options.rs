//! The options of an agent.

use std::path::PathBuf;
use std::time::Duration;

use rulegen_config::{BindAddress, ProxyConfig};
use rulegen_kernel::iptables::{Access, Variant};
use rulegen_model::{Host, IfEmpty};
use rulegen_net::IpFamily;
use rulegen_os::sysctl::ConntrackSettings;
use rulegen_ruleset::nftables::Name;
use serde_json::Value;

use crate::metrics::Build;
use crate::source::{ObjectSource, ReadFolder};

/// The configuration file, which the agent watches: it exits when the file changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// The path as given with `--config`.
    pub path: PathBuf,
    /// Its content before parsing, so that a change during startup is detected too.
    pub content: Vec<u8>,
}

/// All settings from the command line and the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source of objects.
    pub source: ObjectSource,
    /// The function that reads manifests.
    pub read_folder: ReadFolder,
    /// How to treat a folder without any Service.
    pub if_empty: IfEmpty,
    /// The function that reads the machine's name and addresses.
    pub read_host: fn() -> Host,
    /// The settings that determine the rules.
    pub config: ProxyConfig,
    /// The configuration file. The agent exits when it changes, to be restarted.
    pub config_file: Option<ConfigFile>,
    /// The IP families to program.
    pub families: Vec<IpFamily>,
    /// The name of the nftables table.
    pub table: Name,
    /// The folder for what the agent remembers until the next boot; `None` to remember nothing.
    pub state_folder: Option<PathBuf>,
    /// The iptables variant; `None` to use the one with kubelet's chains.
    pub iptables_variant: Option<Variant>,
    /// How rules of iptables are read and written.
    pub iptables_access: Access,
    /// How long to wait for the iptables lock.
    pub iptables_lock_timeout: Duration,
    /// The minimum time between two syncs.
    pub min_sync_period: Duration,
    /// `/healthz` fails if changes are pending for more than twice this period.
    pub sync_period: Duration,
    /// The address of `/healthz`, `/livez` and `/readyz`.
    pub healthz: BindAddress,
    /// The address of `/metrics` and similar endpoints.
    pub metrics: BindAddress,
    /// Whether startup fails if one of the two addresses is taken.
    pub bind_address_hard_fail: bool,
    /// The OOM score adjustment, if it is to be set.
    pub oom_score_adj: Option<i16>,
    /// The conntrack sysctls.
    pub conntrack: ConntrackSettings,
    /// Whether TCP connections to removed endpoints are reset.
    pub tcp_reset_removed: bool,
    /// The response of `/configz`.
    pub shown_config: Value,
    /// The response of `/flagz`.
    pub flags: Vec<(String, String)>,
    /// The build information.
    pub build: Build,
    /// The function that returns the number of lost log lines.
    pub lost_log_lines: fn() -> u64,
    /// The function that flushes the log, within a bounded time, before the process exits.
    pub flush_log: fn(),
}
