//! The effective configuration: the file, overridden by flags.

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rulegen_agent::ConfigFile;
use rulegen_config::{
    DetectLocalMode, KubeProxyConfiguration, NodePortAddresses, Overrides, ProxyMode, merge,
    read_config,
};
use rulegen_model::{ExternalIps, Problem, Severity};
use rulegen_ruleset::nftables::Name;

use crate::WrongUsage;
use crate::args::{Command, Given, ProxyArgs, RunningArgs};
use crate::mode;

/// One warning about kube-proxy's flags that rulegen ignores, and one note about those that only the
/// agent uses.
pub(crate) fn ignored_flags(command: &Command) -> Vec<Problem> {
    let (unsupported, only_in_agent) = (command.unsupported(), command.only_in_agent());
    let mut problems = Vec::new();
    if !unsupported.is_empty() {
        let message = format!("flags without effect in rulegen: {}", unsupported.join(", "));
        problems.push(Problem::new(Severity::Warning, message));
    }
    if !only_in_agent.is_empty() {
        let message =
            format!("flags used only by `rulegen agent`: --{}", only_in_agent.join(", --"));
        problems.push(Problem::new(Severity::Note, message));
    }
    problems
}

/// Reads the file if there is one, and applies the flags.
pub(crate) fn load(args: &ProxyArgs) -> Result<(KubeProxyConfiguration, Vec<Problem>)> {
    load_with(args, overrides(args)?)
}

/// The same with these flags.
pub(crate) fn load_with(
    args: &ProxyArgs,
    flags: Overrides,
) -> Result<(KubeProxyConfiguration, Vec<Problem>)> {
    let file = read_file(args)?;
    Ok(effective(file.as_ref(), flags, &args.nftables.nftables_table))
}

/// Reads the file of --config, if it is set.
pub(crate) fn read_file(args: &ProxyArgs) -> Result<Option<ConfigFile>> {
    let Some(path) = given_path(&args.config) else { return Ok(None) };
    let content = std::fs::read(&path)
        .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
    Ok(Some(ConfigFile { path, content }))
}

/// The effective configuration, and its problems. The mode is that of the flag, else of the file, else
/// of the rules in the kernel, else kube-proxy's default.
pub(crate) fn effective(
    file: Option<&ConfigFile>,
    mut flags: Overrides,
    table: &Name,
) -> (KubeProxyConfiguration, Vec<Problem>) {
    let (config, mut problems) = match file {
        Some(ConfigFile { path, content }) => read_config(&path.display().to_string(), content),
        None => (KubeProxyConfiguration::default(), Vec::new()),
    };
    match flags.proxy_mode {
        Some(mode) => problems.iter_mut().for_each(|problem| overrule_mode(problem, mode)),
        None if config.mode.is_none() => flags.proxy_mode = mode::detect(table),
        None => {}
    }
    let config = merge(config, &flags);
    if problems.iter().all(|problem| problem.severity < Severity::Error) {
        problems.extend(missing_for_detection(&config));
    }
    (config, problems)
}

/// A mode in the file that is not supported does not matter if the flag sets another.
fn overrule_mode(problem: &mut Problem, mode: ProxyMode) {
    if problem.severity == Severity::Error && problem.field.as_deref() == Some("mode") {
        problem.severity = Severity::Warning;
        problem.message += &format!("; overridden by --proxy-mode {}", mode.word());
    }
}

/// The flags that change rules.
pub(crate) fn overrides(args: &ProxyArgs) -> Result<Overrides> {
    let node_ports = NodePortAddresses::join(args.nodeport_addresses.iter().cloned());
    let node_ports = flag("nodeport-addresses", node_ports)?;
    let external_ips = flag("external-ips", joined_external_ips(&args.external_ips))?;
    Ok(Overrides {
        proxy_mode: value(&args.proxy_mode),
        hostname_override: given_text(&args.hostname_override),
        bind_address: value(&args.bind_address),
        cluster_cidr: value(&args.cluster_cidr),
        detect_local_mode: value(&args.detect_local_mode),
        pod_bridge_interface: value(&args.pod_bridge_interface),
        pod_interface_name_prefix: value(&args.pod_interface_name_prefix),
        masquerade_all: args.masquerade_all,
        iptables_masquerade_bit: args.iptables_masquerade_bit,
        iptables_localhost_nodeports: args.iptables_localhost_nodeports,
        nodeport_addresses: Some(node_ports).filter(|ports| *ports != NodePortAddresses::Unset),
        conntrack_tcp_be_liberal: args.conntrack_tcp_be_liberal,
        external_ips,
        refuse_node_addresses: args.refuse_node_addresses,
        max_service_size: args.max_service_size,
        nftables_counters: args.nftables.nftables_counters,
        load_balancing: value(&args.nftables.load_balancing),
        feature_gates: args.feature_gates.iter().filter_map(|Given(gate)| gate.clone()).collect(),
        ..Overrides::default()
    })
}

/// The same, with the flags of the running agent.
pub(crate) fn running_overrides(args: &ProxyArgs, running: &RunningArgs) -> Result<Overrides> {
    let (healthz_bind_address, healthz_port) = running.healthz();
    let (metrics_bind_address, metrics_port) = running.metrics();
    Ok(Overrides {
        kubeconfig: given_path(&running.kubeconfig),
        kube_api_content_type: value(&running.kube_api_content_type),
        healthz_bind_address,
        healthz_port,
        metrics_bind_address,
        metrics_port,
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

/// The values of a repeated --external-ips.
fn joined_external_ips(values: &[ExternalIps]) -> Result<Option<ExternalIps>, String> {
    let networks = |value: &ExternalIps| match value {
        ExternalIps::Within(networks) => Some(networks.clone()),
        ExternalIps::All | ExternalIps::None => None,
    };
    match values {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => match several.iter().map(networks).collect::<Option<Vec<_>>>() {
            Some(networks) => Ok(Some(ExternalIps::Within(networks.concat()))),
            None => Err("`all` and `none` must stand alone".to_owned()),
        },
    }
}

/// A path that is not the empty string.
pub(crate) fn given_path(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

/// A text that is not empty.
pub(crate) fn given_text(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// The value of a flag that is not the empty string.
pub(crate) fn value<T: Clone>(flag: &Option<Given<T>>) -> Option<T> {
    flag.as_ref().and_then(|Given(value)| value.clone())
}

fn flag<T>(name: &str, value: Result<T, impl Display>) -> Result<T> {
    value.map_err(|message| WrongUsage(format!("--{name}: {message}")).into())
}
