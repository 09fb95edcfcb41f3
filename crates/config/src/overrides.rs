//! Command-line flags that override the configuration file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rulegen_model::{ExternalIps, LoadBalancing};

use crate::bind_address::BindAddress;
use crate::content_type::ContentType;
use crate::detect_local::DetectLocalMode;
use crate::node_port_addresses::NodePortAddresses;
use crate::proxy_mode::ProxyMode;
use crate::schema::KubeProxyConfiguration;

/// Values of flags. Each overrides the file. The names are kube-proxy's.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "kube-proxy's reference documents its flags; --help the others")]
pub struct Overrides {
    pub proxy_mode: Option<ProxyMode>,
    pub hostname_override: Option<String>,
    pub bind_address: Option<IpAddr>,
    pub cluster_cidr: Option<Vec<IpNet>>,
    pub detect_local_mode: Option<DetectLocalMode>,
    pub pod_bridge_interface: Option<String>,
    pub pod_interface_name_prefix: Option<String>,
    /// For both modes.
    pub masquerade_all: Option<bool>,
    pub iptables_masquerade_bit: Option<u8>,
    pub iptables_localhost_nodeports: Option<bool>,
    pub nodeport_addresses: Option<NodePortAddresses>,
    pub conntrack_tcp_be_liberal: Option<bool>,
    /// Not in kube-proxy.
    pub external_ips: Option<ExternalIps>,
    /// Not in kube-proxy.
    pub refuse_node_addresses: Option<bool>,
    /// Not in kube-proxy.
    pub max_service_size: Option<usize>,
    /// Not in kube-proxy.
    pub nftables_counters: Option<bool>,
    /// Not in kube-proxy.
    pub load_balancing: Option<LoadBalancing>,
    pub kubeconfig: Option<PathBuf>,
    pub kube_api_content_type: Option<ContentType>,
    pub healthz_bind_address: Option<BindAddress>,
    pub metrics_bind_address: Option<BindAddress>,
    /// Port of the healthz server, if no address is set; 0 disables the server.
    pub healthz_port: Option<u16>,
    /// Port of the metrics server, if no address is set; 0 disables the server.
    pub metrics_port: Option<u16>,
    pub bind_address_hard_fail: Option<bool>,
    pub feature_gates: BTreeMap<String, bool>,
    /// For both modes. Zero means no pause between syncs.
    pub min_sync_period: Option<Duration>,
    /// For both modes. Zero means the value of the file.
    pub sync_period: Option<Duration>,
    pub oom_score_adj: Option<i16>,
    pub conntrack_max_per_core: Option<u32>,
    pub conntrack_min: Option<u32>,
    pub conntrack_tcp_timeout_established: Option<Duration>,
    pub conntrack_tcp_timeout_close_wait: Option<Duration>,
    pub conntrack_udp_timeout: Option<Duration>,
    pub conntrack_udp_timeout_stream: Option<Duration>,
    /// Not in kube-proxy.
    pub conntrack_tcp_reset_removed: Option<bool>,
}

/// No pause between syncs. Zero in a file means the default.
const NO_PAUSE: Duration = Duration::from_nanos(1);

/// The effective configuration: flags override the file, and defaults fill in the rest.
pub fn merge(mut config: KubeProxyConfiguration, flags: &Overrides) -> KubeProxyConfiguration {
    let KubeProxyConfiguration { iptables, nftables, conntrack, detect_local, rulegen, .. } =
        &mut config;
    set(&mut iptables.masquerade_all, &flags.masquerade_all);
    set(&mut nftables.masquerade_all, &flags.masquerade_all);
    set(&mut iptables.masquerade_bit, &flags.iptables_masquerade_bit);
    set(&mut iptables.localhost_node_ports, &flags.iptables_localhost_nodeports);
    set(&mut nftables.counters, &flags.nftables_counters);
    set(&mut nftables.load_balancing, &flags.load_balancing);
    let min_sync_period = flags.min_sync_period.map(|period| period.max(NO_PAUSE));
    let sync_period = flags.sync_period.filter(|period| !period.is_zero());
    for period in [&mut iptables.min_sync_period, &mut nftables.min_sync_period] {
        *period = min_sync_period.or(*period);
    }
    for period in [&mut iptables.sync_period, &mut nftables.sync_period] {
        *period = sync_period.or(*period);
    }
    set(&mut conntrack.tcp_be_liberal, &flags.conntrack_tcp_be_liberal);
    set(&mut conntrack.max_per_core, &flags.conntrack_max_per_core);
    set(&mut conntrack.min, &flags.conntrack_min);
    set(&mut conntrack.tcp_established_timeout, &flags.conntrack_tcp_timeout_established);
    set(&mut conntrack.tcp_close_wait_timeout, &flags.conntrack_tcp_timeout_close_wait);
    set(&mut conntrack.udp_timeout, &flags.conntrack_udp_timeout);
    set(&mut conntrack.udp_stream_timeout, &flags.conntrack_udp_timeout_stream);
    set_some(&mut detect_local.bridge_interface, &flags.pod_bridge_interface);
    set_some(&mut detect_local.interface_name_prefix, &flags.pod_interface_name_prefix);
    set(&mut rulegen.conntrack_tcp_reset_removed, &flags.conntrack_tcp_reset_removed);
    set_some(&mut rulegen.external_ips, &flags.external_ips);
    set_some(&mut rulegen.max_service_size, &flags.max_service_size);
    set(&mut rulegen.refuse_node_addresses, &flags.refuse_node_addresses);
    set_some(&mut config.mode, &flags.proxy_mode);
    set(&mut config.hostname_override, &flags.hostname_override);
    set(&mut config.cluster_cidrs, &flags.cluster_cidr);
    set(&mut config.detect_local_mode, &flags.detect_local_mode);
    set(&mut config.node_port_addresses, &flags.nodeport_addresses);
    set(&mut config.client_connection.kubeconfig, &flags.kubeconfig);
    set(&mut config.client_connection.content_type, &flags.kube_api_content_type);
    set(&mut config.bind_address_hard_fail, &flags.bind_address_hard_fail);
    set_some(&mut config.bind_address, &flags.bind_address);
    set_some(&mut config.healthz_bind_address, &flags.healthz_bind_address);
    set_some(&mut config.metrics_bind_address, &flags.metrics_bind_address);
    set_ports(&mut config, flags);
    set_some(&mut config.oom_score_adj, &flags.oom_score_adj);
    let gates = flags.feature_gates.iter().map(|(name, enabled)| (name.clone(), *enabled));
    config.feature_gates.extend(gates);
    config.with_defaults()
}

/// Applies kube-proxy's old port flags. An address wins over them, but not over port 0.
fn set_ports(config: &mut KubeProxyConfiguration, flags: &Overrides) {
    let primary = config.bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    if let Some(port) = flags.healthz_port {
        let address = BindAddress::healthz(primary, Some(port));
        set_port(&mut config.healthz_bind_address, address);
    }
    if let Some(port) = flags.metrics_port {
        let address = BindAddress::metrics(primary, Some(port));
        set_port(&mut config.metrics_bind_address, address);
    }
}

fn set_port(address: &mut Option<BindAddress>, by_port: BindAddress) {
    if address.is_none() || by_port == BindAddress::Off {
        *address = Some(by_port);
    }
}

fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        field.clone_from(value);
    }
}

fn set_some<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        field.clone_from(flag);
    }
}
