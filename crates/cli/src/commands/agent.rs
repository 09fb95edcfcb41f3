//! `rulegen agent`: keeps a node's rules in sync.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rulegen_agent::metrics::Build;
use rulegen_agent::{ApiOptions, ConfigFile, ObjectSource, Options};
use rulegen_config::{
    ConntrackConfig, KubeProxyConfiguration, ProxyConfig, ProxyMode, RunningConfig,
    format_duration, to_configz,
};
use rulegen_kernel::iptables::{Access, Variant};
use rulegen_model::{IfEmpty, Severity, write_yaml};
use rulegen_net::IpFamily;
use rulegen_os::sysctl::ConntrackSettings;

use super::{access, given_variant, variant};
use crate::WrongUsage;
use crate::args::AgentArgs;
use crate::{build_info, configuration, families, input, log, problems, shown};

pub(crate) fn run(args: &AgentArgs) -> Result<ExitCode> {
    if let Some(path) = configuration::given_path(&args.write_config_to) {
        return write_config(args, &path);
    }
    let options = options(args)?;
    if args.init_only.unwrap_or_default() {
        rulegen_agent::init_only(&options)?;
    } else {
        rulegen_agent::run(options)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the configuration in effect, in a form that --config reads.
fn write_config(args: &AgentArgs, path: &Path) -> Result<ExitCode> {
    let config_file = configuration::read_file(&args.proxy)?;
    let config = effective(args, config_file.as_ref())?;
    let mut text = Vec::new();
    write_yaml(&mut text, &to_configz(&config))?;
    std::fs::write(path, text).with_context(|| format!("{}: cannot write", path.display()))?;
    tracing::info!(path = %path.display(), "wrote configuration");
    Ok(ExitCode::SUCCESS)
}

/// The configuration in effect. Prints its problems on standard error.
fn effective(args: &AgentArgs, file: Option<&ConfigFile>) -> Result<KubeProxyConfiguration> {
    let flags = configuration::running_overrides(&args.proxy, &args.running)?;
    let table = &args.proxy.nftables.nftables_table;
    let (effective, problems) = configuration::effective(file, flags, table);
    problems::print(&problems);
    if problems.iter().any(|problem| problem.severity >= Severity::Error) {
        bail!("invalid configuration (see above)");
    }
    Ok(effective)
}

fn options(args: &AgentArgs) -> Result<Options> {
    // Read first, so that the agent notices later changes.
    let config_file = configuration::read_file(&args.proxy)?;
    let effective = effective(args, config_file.as_ref())?;
    let (config, running) = (ProxyConfig::from(&effective), RunningConfig::from(&effective));
    check_periods(&running)?;
    let iptables_variant = match (config.mode, given_variant(&args.kernel)?) {
        (ProxyMode::Nftables, _) => None,
        (ProxyMode::Iptables, None) => variant(&args.kernel).ok(),
        (ProxyMode::Iptables, given) => given,
    };
    let iptables_access = access(&args.kernel);
    Ok(Options {
        source: source(args, &running),
        read_folder: input::read_path,
        if_empty: match args.empty.meaning() {
            IfEmpty::Refuse => IfEmpty::RefuseWithoutAddress,
            meaning => meaning,
        },
        read_host: input::host,
        config_file,
        families: families(&config, iptables_variant, iptables_access).to_vec(),
        table: args.proxy.nftables.nftables_table.clone(),
        state_folder: Some(args.state_dir.clone()),
        iptables_variant,
        iptables_access,
        iptables_lock_timeout: args.kernel.lock.timeout(),
        min_sync_period: running.min_sync_period,
        sync_period: running.sync_period,
        healthz: running.healthz_bind_address,
        metrics: running.metrics_bind_address,
        bind_address_hard_fail: running.bind_address_hard_fail,
        oom_score_adj: Some(running.oom_score_adj),
        conntrack: conntrack(&running.conntrack),
        tcp_reset_removed: running.conntrack.tcp_reset_removed,
        shown_config: to_configz(&effective),
        flags: shown::flags(&effective),
        lost_log_lines: log::lost,
        flush_log: log::flush,
        build: Build {
            version: build_info::VERSION.to_owned(),
            commit: build_info::COMMIT.unwrap_or_default().to_owned(),
            date: build_info::DATE.unwrap_or_default().to_owned(),
        },
        config,
    })
}

fn check_periods(running: &RunningConfig) -> Result<()> {
    let (min, max) = (running.min_sync_period, running.sync_period);
    if min <= max {
        return Ok(());
    }
    let message = format!(
        "minSyncPeriod ({}) must not be longer than syncPeriod ({}): /healthz would fail between \
         syncs",
        format_duration(min),
        format_duration(max)
    );
    Err(WrongUsage(message).into())
}

/// If iptables is not installed yet, the agent keeps looking for it.
fn families(config: &ProxyConfig, variant: Option<Variant>, access: Access) -> &'static [IpFamily] {
    match (config.mode, variant) {
        (ProxyMode::Iptables, Some(variant)) => families::on_this_host(None, variant, access),
        _ => families::of_nftables(None),
    }
}

fn source(args: &AgentArgs, running: &RunningConfig) -> ObjectSource {
    if let Some(folder) = &args.manifests {
        return ObjectSource::Folder(folder.clone());
    }
    ObjectSource::Api(ApiOptions {
        kubeconfig: running.kubeconfig.clone(),
        context: args.running.context.clone(),
        master: configuration::given_text(&args.running.master),
        content_types: running.content_types.clone(),
    })
}

fn conntrack(config: &ConntrackConfig) -> ConntrackSettings {
    ConntrackSettings {
        max_per_core: config.max_per_core,
        min: config.min,
        tcp_established: config.tcp_established_timeout,
        tcp_close_wait: config.tcp_close_wait_timeout,
        tcp_be_liberal: config.tcp_be_liberal,
        udp_timeout: config.udp_timeout,
        udp_stream_timeout: config.udp_stream_timeout,
    }
}
