//! What the agent shows of itself at /configz and /flagz.

use std::time::Duration;

use clap::CommandFactory;
use rulegen_agent::Options;
use rulegen_config::{BindAddress, DetectLocalMode, NodePortAddresses};
use serde_json::{Value, json};

use crate::args::Cli;

/// What is in effect, as a KubeProxyConfiguration.
pub(crate) fn configuration(options: &Options) -> Value {
    let config = &options.config;
    let periods = json!({
        "minSyncPeriod": seconds(options.min_sync_period),
        "syncPeriod": seconds(options.sync_period),
    });
    let with_periods = |mut section: Value| {
        if let (Some(section), Some(periods)) = (section.as_object_mut(), periods.as_object()) {
            section.extend(periods.clone());
        }
        section
    };
    let addresses: Vec<String> = match &config.node_port_addresses {
        NodePortAddresses::Unset => Vec::new(),
        NodePortAddresses::Primary => vec!["primary".to_owned()],
        NodePortAddresses::Networks(networks) => networks.iter().map(ToString::to_string).collect(),
    };
    let cidrs: Vec<String> = config.cluster_cidrs.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": config.mode.word(),
        "hostnameOverride": config.hostname_override.clone().unwrap_or_default(),
        "clusterCIDR": cidrs.join(","),
        "detectLocalMode": match config.detect_local_mode {
            DetectLocalMode::ClusterCidr => "ClusterCIDR",
            DetectLocalMode::NodeCidr => "NodeCIDR",
            DetectLocalMode::BridgeInterface => "BridgeInterface",
            DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
        },
        "detectLocal": {
            "bridgeInterface": config.bridge_interface.clone().unwrap_or_default(),
            "interfaceNamePrefix": config.interface_name_prefix.clone().unwrap_or_default(),
        },
        "nodePortAddresses": addresses,
        "healthzBindAddress": address(options.healthz),
        "metricsBindAddress": address(options.metrics),
        "bindAddressHardFail": options.bind_address_hard_fail,
        "oomScoreAdj": options.oom_score_adj,
        "iptables": with_periods(json!({
            "masqueradeAll": config.masquerade_all,
            "masqueradeBit": config.masquerade_bit,
            "localhostNodePorts": config.localhost_node_ports,
        })),
        "nftables": with_periods(json!({
            "masqueradeAll": config.nftables_masquerade_all,
            "masqueradeBit": config.nftables_masquerade_bit,
            "counters": config.counts_connections,
        })),
        "conntrack": {
            "maxPerCore": options.conntrack.max_per_core,
            "min": options.conntrack.min,
            "tcpBeLiberal": config.tcp_be_liberal,
            "tcpEstablishedTimeout": seconds(options.conntrack.tcp_established),
            "tcpCloseWaitTimeout": seconds(options.conntrack.tcp_close_wait),
            "udpTimeout": seconds(options.conntrack.udp_timeout),
            "udpStreamTimeout": seconds(options.conntrack.udp_stream_timeout),
        },
    })
}

/// All flags of the agent, with the values that were given or are the default.
pub(crate) fn flags() -> Vec<(String, String)> {
    let Ok(matches) = Cli::command().try_get_matches() else { return Vec::new() };
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let command = Cli::command();
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let flag = |argument: &clap::Arg| {
        let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
        let values: Vec<String> = values
            .into_iter()
            .flatten()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        Some((argument.get_long()?.to_owned(), values.join(",")))
    };
    command.get_arguments().filter_map(flag).collect()
}

/// As Go writes durations.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

fn address(at: BindAddress) -> String {
    match at {
        BindAddress::Off => String::new(),
        BindAddress::At(address) => address.to_string(),
    }
}
