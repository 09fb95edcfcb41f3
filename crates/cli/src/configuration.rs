//! The effective configuration: the file, overridden by flags.

use anyhow::{Context, Result};
use rulegen_agent::ConfigFile;
use rulegen_config::{
    DetectLocalMode, KubeProxyConfiguration, NodePortAddresses, Overrides, ProxyMode, merge,
    read_config,
};
use rulegen_model::{ExternalIps, Problem, Severity};

use crate::WrongUsage;
use crate::args::{Given, ProxyArgs, RunningArgs};

/// Notes about flags without effect in this command.
pub(crate) fn notes(ignored: &[&str]) -> Vec<Problem> {
    let note = |flag: &&str| {
        let message = format!("--{flag} has no effect here, only in a running agent");
        Problem::new(Severity::Note, message)
    };
    ignored.iter().map(note).collect()
}

/// Reads the file if there is one, and applies the flags. `mode` is used if neither sets a mode.
pub(crate) fn load(
    args: &ProxyArgs,
    mode: Option<ProxyMode>,
) -> Result<(KubeProxyConfiguration, Vec<Problem>)> {
    let file = read_file(args)?;
    let mut flags = overrides(args)?;
    flags.proxy_mode = flags.proxy_mode.or(mode);
    Ok(effective(file.as_ref(), &flags))
}

/// Reads the file of --config, if it is set.
pub(crate) fn read_file(args: &ProxyArgs) -> Result<Option<ConfigFile>> {
    let Some(path) = args.config.clone() else { return Ok(None) };
    let content = std::fs::read(&path)
        .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
    Ok(Some(ConfigFile { path, content }))
}

/// The effective configuration, and its problems.
pub(crate) fn effective(
    file: Option<&ConfigFile>,
    flags: &Overrides,
) -> (KubeProxyConfiguration, Vec<Problem>) {
    let (config, mut problems) = match file {
        Some(ConfigFile { path, content }) => read_config(&path.display().to_string(), content),
        None => (KubeProxyConfiguration::default(), Vec::new()),
    };
    let config = merge(config, flags);
    if problems.iter().all(|problem| problem.severity < Severity::Error) {
        problems.extend(missing_for_detection(&config));
    }
    (config, problems)
}

/// The flags that change rules.
pub(crate) fn overrides(args: &ProxyArgs) -> Result<Overrides> {
    let node_ports = args.nodeport_addresses.as_ref().map(|texts| {
        flag("nodeport-addresses", NodePortAddresses::parse(texts.iter().map(String::as_str)))
    });
    let external_ips = args
        .external_ips
        .as_ref()
        .map(|texts| flag("external-ips", ExternalIps::parse(texts.iter().map(String::as_str))));
    Ok(Overrides {
        proxy_mode: value(&args.proxy_mode),
        hostname_override: args.hostname_override.clone().filter(|name| !name.is_empty()),
        bind_address: value(&args.bind_address),
        cluster_cidr: value(&args.cluster_cidr),
        detect_local_mode: value(&args.detect_local_mode),
        pod_bridge_interface: value(&args.pod_bridge_interface),
        pod_interface_name_prefix: value(&args.pod_interface_name_prefix),
        masquerade_all: args.masquerade_all,
        iptables_masquerade_bit: args.iptables_masquerade_bit,
        iptables_localhost_nodeports: args.iptables_localhost_nodeports,
        nodeport_addresses: node_ports.transpose()?,
        conntrack_tcp_be_liberal: args.conntrack_tcp_be_liberal,
        external_ips: external_ips.transpose()?,
        refuse_node_addresses: args.refuse_node_addresses,
        max_service_size: args.max_service_size,
        nftables_counters: args.nftables.nftables_counters,
        load_balancing: value(&args.nftables.load_balancing),
        ..Overrides::default()
    })
}

/// The same, with the flags of the running agent.
pub(crate) fn running_overrides(args: &ProxyArgs, running: &RunningArgs) -> Result<Overrides> {
    Ok(Overrides {
        kubeconfig: running.kubeconfig.clone(),
        healthz_bind_address: running.healthz_bind_address,
        metrics_bind_address: running.metrics_bind_address,
        bind_address_hard_fail: running.bind_address_hard_fail,
        min_sync_period: running.iptables_min_sync_period,
        sync_period: running.iptables_sync_period,
        oom_score_adj: running.oom_score_adj,
        conntrack_max_per_core: running.conntrack_max_per_core,
        conntrack_min: running.conntrack_min,
        conntrack_tcp_timeout_established: running.conntrack_tcp_timeout_established,
        conntrack_tcp_timeout_close_wait: running.conntrack_tcp_timeout_close_wait,
        conntrack_udp_timeout: running.conntrack_udp_timeout,
        conntrack_udp_timeout_stream: running.conntrack_udp_timeout_stream,
        conntrack_tcp_reset_removed: running.conntrack_tcp_reset_removed,
        ..overrides(args)?
    })
}

/// Checks that the detectLocalMode has the field that it needs. Without it, kube-proxy does not start
/// either.
fn missing_for_detection(config: &KubeProxyConfiguration) -> Option<Problem> {
    let needed = &config.detect_local;
    let (field, flag) = match config.detect_local_mode {
        DetectLocalMode::BridgeInterface if needed.bridge_interface.is_none() => {
            ("detectLocal.bridgeInterface", "--pod-bridge-interface")
        }
        DetectLocalMode::InterfaceNamePrefix if needed.interface_name_prefix.is_none() => {
            ("detectLocal.interfaceNamePrefix", "--pod-interface-name-prefix")
        }
        _ => return None,
    };
    let message = format!("missing: the detectLocalMode requires it (set this field or {flag})");
    Some(Problem::new(Severity::Error, message).field(field))
}

fn value<T: Clone>(flag: &Option<Given<T>>) -> Option<T> {
    flag.as_ref().and_then(|Given(value)| value.clone())
}

fn flag<T>(name: &str, value: Result<T, String>) -> Result<T> {
    value.map_err(|message| WrongUsage(format!("--{name}: {message}")).into())
}
