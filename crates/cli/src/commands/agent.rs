//! `rulegen agent`: keeps the rules of a node right.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rulegen_agent::metrics::Build;
use rulegen_agent::{ApiOptions, ConfigFile, Options, Source};
use rulegen_config::{
    BindAddress, ConntrackConfig, ProxyConfig, ProxyMode, RunningConfig, read_running_config,
};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::sysctl::ConntrackSettings;
use rulegen_model::{IfEmpty, Severity};
use rulegen_net::IpFamily;
use serde_json::Value;

use super::variant;
use crate::WrongUsage;
use crate::args::AgentArgs;
use crate::configuration::{self, flag};
use crate::{families, input, log, problems, shown};

/// Ours: a change that waited for others for longer would be felt.
const MIN_SYNC_PERIOD: Duration = Duration::from_millis(100);

/// kube-proxy's.
const SYNC_PERIOD: Duration = Duration::from_secs(30);
const OOM_SCORE_ADJ: i16 = -999;

pub(crate) fn run(args: &AgentArgs) -> Result<ExitCode> {
    let mut options = options(args)?;
    options.shown_config = shown::configuration(&options);
    options.flags = shown::flags();
    if args.init_only {
        rulegen_agent::init_only(&options)?;
    } else {
        rulegen_agent::run(options)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &AgentArgs) -> Result<Options> {
    // First of all: what changes from here on is a change that the agent must notice.
    let config_file = config_file(args)?;
    let (config, mut found) = configuration::load(&args.proxy)?;
    let running = match &config_file {
        None => RunningConfig::default(),
        Some(ConfigFile { path, content }) => {
            let file = path.display().to_string();
            let (running, wrong) = read_running_config(&file, content, config.mode);
            found.extend(wrong);
            running
        }
    };
    problems::print(&found);
    if found.iter().any(|problem| problem.severity >= Severity::Error) {
        bail!("the configuration cannot be used (see above)");
    }
    let flags = &args.running;
    let bind =
        |name, text: &Option<String>, configured: Option<BindAddress>, port, default| match text {
            Some(text) => flag(name, BindAddress::parse(text, port)),
            None => Ok(configured.unwrap_or(default)),
        };
    // On the command line zero means no rest between syncs, as in kube-proxy.
    let min_sync_period =
        flags.iptables_min_sync_period.or(running.min_sync_period).unwrap_or(MIN_SYNC_PERIOD);
    let sync_period = flags.iptables_sync_period.filter(|period| !period.is_zero());
    let sync_period = sync_period.or(running.sync_period).unwrap_or(SYNC_PERIOD);
    if min_sync_period > sync_period {
        let message = "minSyncPeriod must not be longer than syncPeriod: the node would be unhealthy while it waits";
        return Err(WrongUsage(format!("{message} ({min_sync_period:?}, {sync_period:?})")).into());
    }
    let iptables_variant = match config.mode {
        ProxyMode::Nftables => None,
        ProxyMode::Iptables => variant(&args.kernel).ok(),
    };
    Ok(Options {
        source: source(args, &running),
        read_folder: input::read_path,
        if_empty: match args.empty.meaning() {
            IfEmpty::Refuse => IfEmpty::RefuseWithoutAddress,
            meaning => meaning,
        },
        read_host: input::host,
        config_file,
        families: families(&config, iptables_variant).to_vec(),
        table: args.proxy.nftables.nftables_table.clone(),
        iptables_variant,
        iptables_lock_timeout: args.kernel.lock.timeout(),
        min_sync_period,
        sync_period,
        healthz: bind(
            "healthz-bind-address",
            &flags.healthz_bind_address,
            running.healthz_bind_address,
            BindAddress::HEALTHZ_PORT,
            BindAddress::healthz(config.bind_address),
        )?,
        metrics: bind(
            "metrics-bind-address",
            &flags.metrics_bind_address,
            running.metrics_bind_address,
            BindAddress::METRICS_PORT,
            BindAddress::metrics(config.bind_address),
        )?,
        bind_address_hard_fail: flags
            .bind_address_hard_fail
            .unwrap_or(running.bind_address_hard_fail),
        oom_score_adj: flags.oom_score_adj.or(running.oom_score_adj).or(Some(OOM_SCORE_ADJ)),
        conntrack: conntrack(args, &running.conntrack, &config),
        tcp_reset_removed: flags
            .conntrack_tcp_reset_removed
            .unwrap_or(running.conntrack.tcp_reset_removed),
        shown_config: Value::Null,
        flags: Vec::new(),
        lost_log_lines: log::lost,
        flush_log: log::flush,
        build: Build { version: env!("CARGO_PKG_VERSION").to_owned(), ..Build::default() },
        config,
    })
}

fn config_file(args: &AgentArgs) -> Result<Option<ConfigFile>> {
    let Some(path) = args.proxy.config.clone() else { return Ok(None) };
    let content = std::fs::read(&path)
        .with_context(|| format!("{}: the configuration cannot be read", path.display()))?;
    Ok(Some(ConfigFile { path, content }))
}

/// Where no iptables is there yet, the agent looks for it until it is.
fn families(config: &ProxyConfig, variant: Option<Variant>) -> &'static [IpFamily] {
    match (config.mode, variant) {
        (ProxyMode::Iptables, Some(variant)) => families::on_this_host(None, variant),
        _ => families::of_nftables(None),
    }
}

fn source(args: &AgentArgs, running: &RunningConfig) -> Source {
    if let Some(folder) = &args.manifests {
        return Source::Folder(folder.clone());
    }
    Source::Api(ApiOptions {
        kubeconfig: args.running.kubeconfig.clone().or_else(|| running.kubeconfig.clone()),
        context: args.running.context.clone(),
        master: args.running.master.clone(),
    })
}

/// What is not said is kube-proxy's default.
fn conntrack(
    args: &AgentArgs,
    configured: &ConntrackConfig,
    config: &ProxyConfig,
) -> ConntrackSettings {
    let (flags, default) = (&args.running, ConntrackSettings::default());
    let either =
        |flag: Option<Duration>, file: Option<Duration>, default| flag.or(file).unwrap_or(default);
    ConntrackSettings {
        max_per_core: flags
            .conntrack_max_per_core
            .or(configured.max_per_core)
            .unwrap_or(default.max_per_core),
        min: flags.conntrack_min.or(configured.min).unwrap_or(default.min),
        tcp_established: either(
            flags.conntrack_tcp_timeout_established,
            configured.tcp_established_timeout,
            default.tcp_established,
        ),
        tcp_close_wait: either(
            flags.conntrack_tcp_timeout_close_wait,
            configured.tcp_close_wait_timeout,
            default.tcp_close_wait,
        ),
        tcp_be_liberal: config.tcp_be_liberal,
        udp_timeout: either(
            flags.conntrack_udp_timeout,
            configured.udp_timeout,
            default.udp_timeout,
        ),
        udp_stream_timeout: either(
            flags.conntrack_udp_timeout_stream,
            configured.udp_stream_timeout,
            default.udp_stream_timeout,
        ),
    }
}
