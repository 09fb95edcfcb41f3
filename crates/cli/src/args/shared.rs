//! Flags that several commands have.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum, value_parser};
use ipnet::IpNet;
use rulegen_config::{
    DetectLocalMode, EXTERNAL_IPS_GATE, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX,
    NodePortAddresses, ProxyMode, ValueError, parse_bind_address, parse_cluster_cidrs,
    parse_interface,
};
use rulegen_model::{ExternalIps, ExternalIpsError, IfEmpty, LoadBalancing};
use rulegen_ruleset::nftables::Name;

use super::choice::{Given, given, one_of};
use super::ignored::{Ignored, Unsupported};

#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct InputArgs {
    /// Manifests: files, folders (*.yaml, *.yml, *.json) or - for standard input. YAML or JSON, with
    /// any number of documents and lists of any kind; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    pub(crate) filename: Vec<PathBuf>,

    /// Exit with status 1 if the input causes warnings or errors
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) empty: EmptyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EmptyArgs {
    /// Accept manifests without any Service. They are rejected by default because they usually come
    /// from a mistyped namespace
    #[arg(long)]
    allow_empty: bool,
}

impl EmptyArgs {
    /// Whether manifests without any Service are accepted.
    pub(crate) fn meaning(&self) -> IfEmpty {
        if self.allow_empty { IfEmpty::Allow } else { IfEmpty::Refuse }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FamilyArgs {
    /// IP families to use [default: dual; ipv4 for --dry-run in iptables-save format, which holds one
    /// family]
    #[arg(long, value_name = "FAMILY", help_heading = "Output")]
    pub(crate) ip_family: Option<FamilyChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyChoice {
    Ipv4,
    Ipv6,
    Dual,
}

/// kube-proxy's flags that change rules. They override --config.
#[derive(Debug, Args)]
#[command(next_help_heading = "kube-proxy flags (override --config)")]
pub(crate) struct ProxyArgs {
    /// Configuration file, a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)
    #[arg(long, value_name = "FILE", value_parser = any_path())]
    pub(crate) config: Option<PathBuf>,

    /// Proxy mode [default: the configuration's mode; else nftables if the kernel has the table of
    /// rulegen or kube-proxy, else iptables]
    #[arg(long, value_name = "MODE", value_parser = one_of::<ProxyMode>())]
    pub(crate) proxy_mode: Option<Given<ProxyMode>>,

    /// Name of the node to compile rules for [default: the host name]. The addresses, labels and
    /// podCIDRs of the Node with this name are used; without one, this host's addresses
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,

    /// The node's primary address; overrides that of the Node object
    #[arg(long, value_name = "IP", value_parser = given(parse_bind_address))]
    pub(crate) bind_address: Option<Given<IpAddr>>,

    /// The cluster's pod network: one CIDR, or one per IP family, comma-separated
    #[arg(long, value_name = "CIDR", value_parser = given(parse_cluster_cidrs))]
    pub(crate) cluster_cidr: Option<Given<Vec<IpNet>>>,

    /// How to detect traffic from local pods [default: ClusterCIDR]
    #[arg(long, value_name = "MODE", value_parser = one_of::<DetectLocalMode>())]
    pub(crate) detect_local_mode: Option<Given<DetectLocalMode>>,

    /// Bridge of the local pods, for --detect-local-mode BridgeInterface
    #[arg(long, value_name = "NAME", value_parser = given(interface))]
    pub(crate) pod_bridge_interface: Option<Given<String>>,

    /// Name prefix of the local pods' interfaces, for --detect-local-mode InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX", value_parser = given(interface_prefix))]
    pub(crate) pod_interface_name_prefix: Option<Given<String>>,

    /// Masquerade all traffic to cluster IPs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) masquerade_all: Option<bool>,

    /// Bit of the packet mark that requests masquerading (0 to 31), in iptables mode. For nftables
    /// mode set nftables.masqueradeBit in the configuration [default: 14]
    #[arg(long, value_name = "BIT", value_parser = value_parser!(u8).range(0..=31))]
    pub(crate) iptables_masquerade_bit: Option<u8>,

    /// Accept node port connections at 127.0.0.1, in iptables mode [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) iptables_localhost_nodeports: Option<bool>,

    /// Node addresses that accept node port connections: a comma-separated list of CIDRs, or `primary`
    /// [default: all addresses; in nftables mode primary]
    #[arg(long, value_name = "CIDRS", value_parser = parse_nodeport_addresses)]
    pub(crate) nodeport_addresses: Vec<NodePortAddresses>,

    /// Do not drop INVALID packets
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) conntrack_tcp_be_liberal: Option<bool>,

    /// externalIPs of Services that get rules: all, none, or a comma-separated list of CIDRs.
    /// Without a restriction, anyone who can create a Service can capture traffic to any address. In
    /// the configuration: rulegen.externalIPs [default: all]
    #[arg(long, value_name = "CIDRS", value_parser = parse_external_ips)]
    pub(crate) external_ips: Vec<ExternalIps>,

    /// Ignore externalIPs and load-balancer IPs that are addresses of this node, so that no Service
    /// can capture traffic of the API server, kubelet or sshd. Do not use on nodes that own
    /// load-balancer IPs (k3s ServiceLB, kube-vip, keepalived). In the configuration:
    /// rulegen.refuseNodeAddresses [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) refuse_node_addresses: Option<bool>,

    /// Skip Services larger than this. The size of a Service is the number of addresses and endpoints,
    /// summed over ports and IP families, plus its source ranges (in iptables mode, per port). In the
    /// configuration: rulegen.maxServiceSize [default: 300000, in iptables mode 100000]
    #[arg(long, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_SERVICE_SIZE))]
    pub(crate) max_service_size: Option<usize>,

    /// Feature gates: a comma-separated list of NAME=BOOL. AllowServiceExternalIPs=false is the same
    /// as --external-ips none; others have no effect
    #[arg(long, value_name = "GATES", value_delimiter = ',', value_parser = given(parse_feature_gate))]
    pub(crate) feature_gates: Vec<Given<(String, bool)>>,

    #[command(flatten)]
    pub(crate) nftables: NftablesArgs,

    #[command(flatten)]
    unsupported: Ignored<Unsupported>,
}

impl ProxyArgs {
    /// Flags and feature gates without effect in any command.
    pub(crate) fn unsupported(&self) -> Vec<String> {
        let flags = self.unsupported.given().into_iter().map(|flag| format!("--{flag}"));
        let gates = self.feature_gates.iter().filter_map(|Given(gate)| gate.as_ref());
        let gates = gates.filter(|(name, _)| name != EXTERNAL_IPS_GATE);
        flags.chain(gates.map(|(name, _)| format!("--feature-gates {name}"))).collect()
    }
}

/// A path, or an empty string, which kube-proxy takes as not given.
pub(super) fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn parse_nodeport_addresses(text: &str) -> Result<NodePortAddresses, ValueError> {
    NodePortAddresses::parse(text.split(','))
}

fn parse_external_ips(text: &str) -> Result<ExternalIps, ExternalIpsError> {
    ExternalIps::parse(text.split(','))
}

fn parse_feature_gate(text: &str) -> Result<(String, bool), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=BOOL")?;
    Ok((name.trim().to_owned(), parse_bool(value.trim())?))
}

/// What rulegen adds to kube-proxy's nftables mode.
#[derive(Debug, Args)]
#[command(next_help_heading = "nftables mode")]
pub(crate) struct NftablesArgs {
    /// Name of the table. Some programs look for `kube-proxy`
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    /// Count connections per endpoint; see `nft list map ip rulegen endpoints`. In the configuration:
    /// nftables.counters [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) nftables_counters: Option<bool>,

    /// How endpoints are chosen: at random; round-robin, with one counter for all Services with the
    /// same number of endpoints; or by consistent hashing of the client's address (maglev) or of
    /// its address and port (maglev-5tuple). In the configuration: nftables.loadBalancing; a
    /// Service's annotation rulegen/load-balancing overrides it
    /// [default: random]
    #[arg(long, value_name = "METHOD", value_parser = one_of::<LoadBalancing>())]
    pub(crate) load_balancing: Option<Given<LoadBalancing>>,
}

/// The configuration uses signed integers.
const MAX_SERVICE_SIZE: u64 = i64::MAX as u64;

pub(super) fn interface(text: &str) -> Result<String, ValueError> {
    parse_interface(text, LONGEST_INTERFACE)
}

fn interface_prefix(text: &str) -> Result<String, ValueError> {
    parse_interface(text, LONGEST_INTERFACE_PREFIX)
}

pub(super) fn parse_table(text: &str) -> Result<Name, String> {
    let name = Name::from(text);
    let fits = name.as_str() == text && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let message =
        "invalid table name (expected a letter, then letters, digits, _ . / -; at most 255)";
    if fits { Ok(name) } else { Err(message.to_owned()) }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(crate) struct KernelArgs {
    /// Variant of iptables [default: kubelet's, else nft; list, explain and doctor prefer the one
    /// that has rules of Services]
    #[arg(long, value_name = "VARIANT")]
    pub(crate) iptables_variant: Option<VariantChoice>,

    /// How rules of iptables are read and written: `netlink` needs no iptables program and implies
    /// the variant nft, `exec` runs iptables-save and iptables-restore [default: netlink for the
    /// variant nft, exec for legacy]
    #[arg(long, value_name = "BACKEND", default_value = "auto", hide_default_value = true)]
    pub(crate) iptables_backend: BackendChoice,

    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    Auto,
    Netlink,
    Exec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantChoice {
    Nft,
    Legacy,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Time to wait for the iptables lock, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = DEFAULT_LOCK_SECONDS,
        value_parser = value_parser!(u32).range(1..)
    )]
    pub(crate) iptables_lock_timeout: u32,
}

/// kube-proxy's default, in seconds.
const DEFAULT_LOCK_SECONDS: u32 = 5;

impl LockArgs {
    /// How long to wait for the lock.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.iptables_lock_timeout.into())
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// Log verbosity: 0 = errors, 2 = info, 4 = debug [default: 0; agent: 2]
    #[arg(short = 'v', long = "v", value_name = "LEVEL", action = ArgAction::Set)]
    pub(crate) verbosity: Option<u8>,

    /// Log format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) logging_format: LoggingFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoggingFormat {
    Text,
    Json,
}

/// The spellings of Go's `strconv.ParseBool`, which kube-proxy uses.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
