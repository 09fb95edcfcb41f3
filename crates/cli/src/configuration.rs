//! The configuration in force: the file's, under the flags that were given.

use std::path::Path;

use anyhow::{Context, Result};
use rulegen_config::{
    DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX, NodePortAddresses, ProxyConfig,
    parse_cluster_cidrs, parse_detect_local_mode, parse_interface, parse_mode, read_config,
};
use rulegen_model::{ExternalIps, Problem, Severity};

use crate::WrongUsage;
use crate::args::ProxyArgs;

/// Tells of flags that have no effect here.
pub(crate) fn notes(ignored: &[&str]) -> Vec<Problem> {
    let note = |flag: &&str| {
        let message = format!("--{flag} says how kube-proxy runs, which has no effect here");
        Problem::new(Severity::Note, message)
    };
    ignored.iter().map(note).collect()
}

/// Reads the file if there is one, and lays the flags over it.
pub(crate) fn load(args: &ProxyArgs) -> Result<(ProxyConfig, Vec<Problem>)> {
    let (mut config, mut problems) = match &args.config {
        Some(path) => read_file(path)?,
        None => (ProxyConfig::default(), Vec::new()),
    };
    lay_flags(args, &mut config)?;
    if problems.iter().all(|problem| problem.severity < Severity::Error) {
        problems.extend(missing_for_detection(&config));
    }
    Ok((config, problems))
}

fn read_file(path: &Path) -> Result<(ProxyConfig, Vec<Problem>)> {
    let file = path.display().to_string();
    let text =
        std::fs::read(path).with_context(|| format!("{file}: the configuration cannot be read"))?;
    Ok(read_config(&file, &text))
}

fn lay_flags(args: &ProxyArgs, config: &mut ProxyConfig) -> Result<()> {
    if let Some(mode) = given(&args.proxy_mode) {
        config.mode = flag("proxy-mode", parse_mode(mode))?;
    }
    if let Some(name) = given(&args.hostname_override) {
        config.hostname_override = Some(name.to_owned());
    }
    config.bind_address = args.bind_address.or(config.bind_address);
    if let Some(cidr) = given(&args.cluster_cidr) {
        config.cluster_cidrs = flag("cluster-cidr", parse_cluster_cidrs(cidr))?;
    }
    if let Some(mode) = given(&args.detect_local_mode) {
        config.detect_local_mode = flag("detect-local-mode", parse_detect_local_mode(mode))?;
    }
    if let Some(name) = given(&args.pod_bridge_interface) {
        let name = flag("pod-bridge-interface", parse_interface(name, LONGEST_INTERFACE))?;
        config.bridge_interface = Some(name);
    }
    if let Some(start) = given(&args.pod_interface_name_prefix) {
        let start = parse_interface(start, LONGEST_INTERFACE_PREFIX);
        config.interface_name_prefix = Some(flag("pod-interface-name-prefix", start)?);
    }
    if let Some(addresses) = &args.nodeport_addresses {
        let addresses = NodePortAddresses::parse(addresses.iter().map(String::as_str));
        config.node_port_addresses = flag("nodeport-addresses", addresses)?;
    }
    if let Some(networks) = &args.external_ips {
        let networks = ExternalIps::parse(networks.iter().map(String::as_str));
        config.external_ips = flag("external-ips", networks)?;
    }
    config.refuse_node_addresses =
        args.refuse_node_addresses.unwrap_or(config.refuse_node_addresses);
    config.masquerade_all = args.masquerade_all.unwrap_or(config.masquerade_all);
    config.nftables_masquerade_all = args.masquerade_all.unwrap_or(config.nftables_masquerade_all);
    config.masquerade_bit = args.iptables_masquerade_bit.unwrap_or(config.masquerade_bit);
    config.localhost_node_ports =
        args.iptables_localhost_nodeports.unwrap_or(config.localhost_node_ports);
    config.load_balancing = args.nftables.load_balancing.unwrap_or(config.load_balancing);
    config.counts_connections =
        args.nftables.nftables_counters.unwrap_or(config.counts_connections);
    config.max_service_size = args.max_service_size.or(config.max_service_size);
    config.tcp_be_liberal = args.conntrack_tcp_be_liberal.unwrap_or(config.tcp_be_liberal);
    Ok(())
}

/// A mode without what it looks for would find nothing: kube-proxy does not start so either.
fn missing_for_detection(config: &ProxyConfig) -> Option<Problem> {
    let (field, flag) = match config.detect_local_mode {
        DetectLocalMode::BridgeInterface if config.bridge_interface.is_none() => {
            ("detectLocal.bridgeInterface", "--pod-bridge-interface")
        }
        DetectLocalMode::InterfaceNamePrefix if config.interface_name_prefix.is_none() => {
            ("detectLocal.interfaceNamePrefix", "--pod-interface-name-prefix")
        }
        _ => return None,
    };
    let message = format!("is missing, and {flag} is not given: the detectLocalMode needs it");
    Some(Problem::new(Severity::Error, message).field(field))
}

/// A flag's value; empty means that it is not given, as in kube-proxy.
pub(crate) fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

pub(crate) fn flag<T>(name: &str, value: Result<T, String>) -> Result<T> {
    value.map_err(|message| WrongUsage(format!("--{name}: {message}")).into())
}
