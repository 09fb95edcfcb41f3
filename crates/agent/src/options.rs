//! How an agent runs.

use std::path::PathBuf;
use std::time::Duration;

use rulegen_config::{BindAddress, ProxyConfig};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::sysctl::ConntrackSettings;
use rulegen_model::{Host, IfEmpty};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use serde_json::Value;

use crate::metrics::Build;
use crate::source::{ReadFolder, Source};

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it before it was parsed: a change during the start is a change, too.
    pub content: Vec<u8>,
}

/// Everything that was asked for on the command line and in the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where objects come from.
    pub source: Source,
    /// Reads manifests.
    pub read_folder: ReadFolder,
    /// What a folder without any Service means.
    pub if_empty: IfEmpty,
    /// Reads the machine's own name and addresses.
    pub read_host: fn() -> Host,
    /// What the rules hang on.
    pub config: ProxyConfig,
    /// The file that it was read from; when it changes the agent ends, to be started anew.
    pub config_file: Option<ConfigFile>,
    /// The families to make rules for.
    pub families: Vec<IpFamily>,
    /// The name of the nftables table.
    pub table: Name,
    /// The variant of iptables; none for the one in which kubelet made its chains.
    pub iptables_variant: Option<Variant>,
    /// How long to wait for the lock of iptables.
    pub iptables_lock_timeout: Duration,
    /// The least time between two syncs.
    pub min_sync_period: Duration,
    /// Changes that wait for longer than twice this are told to probers.
    pub sync_period: Duration,
    /// Where `/healthz` and its like are.
    pub healthz: BindAddress,
    /// Where `/metrics` and its like are.
    pub metrics: BindAddress,
    /// Whether not to start at all if one of the two addresses is taken.
    pub bind_address_hard_fail: bool,
    /// For the kernel's choice of whom to kill when memory is short, if it is to be set.
    pub oom_score_adj: Option<i16>,
    /// What connection tracking shall be set to.
    pub conntrack: ConntrackSettings,
    /// Whether connections to endpoints that are gone are reset.
    pub tcp_reset_removed: bool,
    /// What `/configz` shows.
    pub shown_config: Value,
    /// What `/flagz` shows.
    pub flags: Vec<(String, String)>,
    /// Which program this is.
    pub build: Build,
    /// How many lines of the log were lost.
    pub lost_log_lines: fn() -> u64,
    /// Writes what is left of the log, for a bounded time: the process is about to end.
    pub flush_log: fn(),
}
