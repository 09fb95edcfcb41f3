//! KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), read as kube-proxy reads it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use crate::agent::{go_duration, parse_duration};
use rulegen_model::{
    ExternalIps, IPTABLES_SERVICE_SIZE, LoadBalancing, NFTABLES_SERVICE_SIZE, NodePortScope,
    ObjectName, Problem, Severity, SnapshotOptions, Source, parse_load_balancing, yaml_value,
};
use rulegen_net::{parse_address, parse_network};

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Which kind of rules to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyMode {
    /// iptables chains, rule for rule kube-proxy's.
    #[default]
    Iptables,
    /// An nftables table.
    Nftables,
}

impl ProxyMode {
    /// As a configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        }
    }
}

/// How traffic of this node's pods is told from other traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectLocalMode {
    /// By a source in the cluster's pod network.
    #[default]
    ClusterCidr,
    /// By a source in the node's pod network.
    NodeCidr,
    /// By the bridge it comes in from.
    BridgeInterface,
    /// By the start of the name of the interface it comes in from.
    InterfaceNamePrefix,
}

impl DetectLocalMode {
    /// As flags and files spell it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ClusterCIDR" => Some(Self::ClusterCidr),
            "NodeCIDR" => Some(Self::NodeCidr),
            "BridgeInterface" => Some(Self::BridgeInterface),
            "InterfaceNamePrefix" => Some(Self::InterfaceNamePrefix),
            _ => None,
        }
    }
}

/// At which of the node's addresses node ports are open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Not said: at all of them in iptables mode, at the primary one in nftables mode.
    #[default]
    Unset,
    /// At the node's primary address of each family.
    Primary,
    /// At those in these networks; a family without a network is open at all.
    Networks(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Reads a list of CIDRs or the word `primary`.
    ///
    /// # Errors
    /// Says which entry is neither.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
        match texts.as_slice() {
            [] => Ok(Self::Unset),
            ["primary"] => Ok(Self::Primary),
            texts => {
                let network = |text: &&str| {
                    parse_network(text)
                        .ok_or_else(|| format!("{text:?} is no CIDR such as 192.168.0.0/16 (`primary` must stand alone)"))
                };
                texts.iter().map(network).collect::<Result<_, _>>().map(Self::Networks)
            }
        }
    }
}

/// What of the configuration changes rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct ProxyConfig {
    pub mode: ProxyMode,
    pub hostname_override: Option<String>,
    pub bind_address: Option<IpAddr>,
    pub detect_local_mode: DetectLocalMode,
    pub cluster_cidrs: Vec<IpNet>,
    pub bridge_interface: Option<String>,
    pub interface_name_prefix: Option<String>,
    pub masquerade_all: bool,
    pub masquerade_bit: u8,
    pub nftables_masquerade_all: bool,
    pub nftables_masquerade_bit: u8,
    pub localhost_node_ports: bool,
    pub node_port_addresses: NodePortAddresses,
    pub tcp_be_liberal: bool,
    /// Which external IPs of Services get rules.
    pub external_ips: ExternalIps,
    /// Whether this node's addresses are excluded as external and load-balancer IPs.
    pub refuse_node_addresses: bool,
    /// How endpoints are chosen in nftables mode.
    pub load_balancing: LoadBalancing,
    /// Whether connections are counted for each endpoint in nftables mode.
    pub counts_connections: bool,
    /// How large a Service may be, if not as large as by default: see [`ServiceSize`].
    ///
    /// [`ServiceSize`]: rulegen_model::ServiceSize
    pub max_service_size: Option<usize>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            mode: ProxyMode::Iptables,
            hostname_override: None,
            bind_address: None,
            detect_local_mode: DetectLocalMode::ClusterCidr,
            cluster_cidrs: Vec::new(),
            bridge_interface: None,
            interface_name_prefix: None,
            masquerade_all: false,
            masquerade_bit: 14,
            nftables_masquerade_all: false,
            nftables_masquerade_bit: 14,
            localhost_node_ports: true,
            node_port_addresses: NodePortAddresses::Unset,
            tcp_be_liberal: false,
            external_ips: ExternalIps::All,
            refuse_node_addresses: false,
            load_balancing: LoadBalancing::Random,
            counts_connections: false,
            max_service_size: None,
        }
    }
}

impl ProxyConfig {
    /// Whether everything to cluster IPs is masqueraded, in the mode that is set.
    pub fn masquerades_all(&self) -> bool {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_all,
            ProxyMode::Nftables => self.nftables_masquerade_all,
        }
    }

    /// The bit of a packet's mark that asks for masquerading, in the mode that is set.
    pub fn mark_bit(&self) -> u8 {
        match self.mode {
            ProxyMode::Iptables => self.masquerade_bit,
            ProxyMode::Nftables => self.nftables_masquerade_bit,
        }
    }

    /// What of it a snapshot depends on.
    pub fn snapshot_options(&self) -> SnapshotOptions {
        let is_iptables = self.mode == ProxyMode::Iptables;
        let default_size = if is_iptables { IPTABLES_SERVICE_SIZE } else { NFTABLES_SERVICE_SIZE };
        SnapshotOptions {
            hostname_override: self.hostname_override.clone(),
            bind_address: self.bind_address,
            external_ips: self.external_ips.clone(),
            refuse_node_addresses: self.refuse_node_addresses,
            max_service_size: self.max_service_size.unwrap_or(default_size),
            source_ranges_per_port: is_iptables,
            node_ports: match &self.node_port_addresses {
                NodePortAddresses::Unset if is_iptables => NodePortScope::All,
                NodePortAddresses::Unset | NodePortAddresses::Primary => NodePortScope::Primary,
                NodePortAddresses::Networks(networks) => NodePortScope::Within(networks.clone()),
            },
            loopback_node_ports: is_iptables && self.localhost_node_ports,
        }
    }
}

/// Reads a configuration. A field that kube-proxy does not have is a warning; a value it would
/// refuse to start with is an error, and the field keeps its default.
pub fn read_config(file: &str, text: &[u8]) -> (ProxyConfig, Vec<Problem>) {
    let mut reader = Reader::new(file);
    let config = reader.config(text);
    (config, reader.problems)
}

/// Splits a cluster CIDR as kube-proxy takes it: one network, or one of each family.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_cluster_cidrs(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| {
        parse_network(text.trim())
            .ok_or_else(|| format!("{text:?} is no CIDR such as 10.244.0.0/16"))
    };
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let networks: Vec<IpNet> = text.split(',').map(network).collect::<Result<_, _>>()?;
    match networks.as_slice() {
        [_] => Ok(networks),
        [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(networks),
        _ => Err(format!("{text:?} is neither one CIDR nor one of each family")),
    }
}

/// Checks the name of an interface that a rule shall match.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_interface(name: &str, longest: usize) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins_well || name.len() > longest || !name.bytes().all(plain) {
        return Err(format!(
            "{name:?} is no interface name (1 to {longest} of a-z, A-Z, 0-9, _ and, not first, .-@)"
        ));
    }
    Ok(name.to_owned())
}

/// The longest interface name (IFNAMSIZ without its NUL), and the longest start of one that
/// leaves room for the `+` behind it.
pub const LONGEST_INTERFACE: usize = 15;
/// See [`LONGEST_INTERFACE`].
pub const LONGEST_INTERFACE_PREFIX: usize = LONGEST_INTERFACE - 1;

/// What a field may hold.
#[derive(Clone, Copy)]
enum Type {
    Any,
    Bool,
    Number(i64, i64),
    Float,
    Text,
    /// Go's durations: `30s`, `1h15m`.
    Duration,
    List,
    /// A map whose keys are the user's own.
    Map,
    Section,
}

/// Every field of v1alpha1, by path.
const FIELDS: &[(&str, Type)] = &[
    // Looked at before all others, by what they say.
    ("apiVersion", Type::Any),
    ("kind", Type::Any),
    ("bindAddress", Type::Text),
    ("bindAddressHardFail", Type::Bool),
    ("clientConnection", Type::Section),
    ("clientConnection.acceptContentTypes", Type::Text),
    ("clientConnection.burst", Type::Number(0, i32::MAX as i64)),
    ("clientConnection.contentType", Type::Text),
    ("clientConnection.kubeconfig", Type::Text),
    ("clientConnection.qps", Type::Float),
    ("clusterCIDR", Type::Text),
    ("configSyncPeriod", Type::Duration),
    ("conntrack", Type::Section),
    ("conntrack.maxPerCore", Type::Number(0, i32::MAX as i64)),
    ("conntrack.min", Type::Number(0, i32::MAX as i64)),
    ("conntrack.tcpBeLiberal", Type::Bool),
    ("conntrack.tcpCloseWaitTimeout", Type::Duration),
    ("conntrack.tcpEstablishedTimeout", Type::Duration),
    ("conntrack.udpStreamTimeout", Type::Duration),
    ("conntrack.udpTimeout", Type::Duration),
    ("detectLocal", Type::Section),
    ("detectLocal.bridgeInterface", Type::Text),
    ("detectLocal.interfaceNamePrefix", Type::Text),
    ("detectLocalMode", Type::Text),
    ("enableProfiling", Type::Bool),
    ("featureGates", Type::Map),
    ("healthzBindAddress", Type::Text),
    ("hostnameOverride", Type::Text),
    ("iptables", Type::Section),
    ("iptables.localhostNodePorts", Type::Bool),
    ("iptables.masqueradeAll", Type::Bool),
    ("iptables.masqueradeBit", Type::Number(0, 31)),
    ("iptables.minSyncPeriod", Type::Duration),
    ("iptables.syncPeriod", Type::Duration),
    ("ipvs", Type::Map),
    ("logging", Type::Map),
    ("metricsBindAddress", Type::Text),
    ("mode", Type::Text),
    ("nftables", Type::Section),
    ("nftables.masqueradeAll", Type::Bool),
    ("nftables.masqueradeBit", Type::Number(0, 31)),
    ("nftables.minSyncPeriod", Type::Duration),
    // Ours: kube-proxy warns of them and goes on.
    ("nftables.loadBalancing", Type::Text),
    ("nftables.counters", Type::Bool),
    ("nftables.syncPeriod", Type::Duration),
    ("nodePortAddresses", Type::List),
    ("oomScoreAdj", Type::Number(-1000, 1000)),
    ("portRange", Type::Text),
    // Ours.
    ("rulegen", Type::Section),
    ("rulegen.conntrackTCPResetRemoved", Type::Bool),
    ("rulegen.externalIPs", Type::List),
    ("rulegen.maxServiceSize", Type::Number(1, i64::MAX)),
    ("rulegen.refuseNodeAddresses", Type::Bool),
    ("showHiddenMetricsForVersion", Type::Text),
    ("windowsRunAsService", Type::Bool),
    ("winkernel", Type::Map),
];

/// Reads a configuration, and collects what is wrong with it.
pub(crate) struct Reader {
    source: Source,
    problems: Vec<Problem>,
}

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self { source: Source { file: file.into(), document: 1 }, problems: Vec::new() }
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn config(&mut self, text: &[u8]) -> ProxyConfig {
        let Some(root) = self.root(text) else { return ProxyConfig::default() };
        self.check("", &root);
        let root = Section::root(&root);
        let (iptables, nftables) = (root.section("iptables"), root.section("nftables"));
        let detect_local = root.section("detectLocal");
        let default = ProxyConfig::default();
        ProxyConfig {
            mode: self.parsed(root, "mode", parse_mode).unwrap_or_default(),
            hostname_override: root.text("hostnameOverride").map(str::to_owned),
            bind_address: self.parsed(root, "bindAddress", parse_bind_address),
            detect_local_mode: self
                .parsed(root, "detectLocalMode", parse_detect_local_mode)
                .unwrap_or_default(),
            cluster_cidrs: self
                .parsed(root, "clusterCIDR", parse_cluster_cidrs)
                .unwrap_or_default(),
            bridge_interface: self.parsed(detect_local, "bridgeInterface", |name| {
                parse_interface(name, LONGEST_INTERFACE)
            }),
            interface_name_prefix: self.parsed(detect_local, "interfaceNamePrefix", |name| {
                parse_interface(name, LONGEST_INTERFACE_PREFIX)
            }),
            masquerade_all: iptables.bool("masqueradeAll").unwrap_or(default.masquerade_all),
            masquerade_bit: iptables.bit("masqueradeBit").unwrap_or(default.masquerade_bit),
            nftables_masquerade_all: nftables
                .bool("masqueradeAll")
                .unwrap_or(default.nftables_masquerade_all),
            nftables_masquerade_bit: nftables
                .bit("masqueradeBit")
                .unwrap_or(default.nftables_masquerade_bit),
            external_ips: self.external_ips(root),
            refuse_node_addresses: root
                .section("rulegen")
                .bool("refuseNodeAddresses")
                .unwrap_or(default.refuse_node_addresses),
            max_service_size: root.section("rulegen").number("maxServiceSize"),
            load_balancing: self
                .parsed(nftables, "loadBalancing", parse_load_balancing)
                .unwrap_or_default(),
            counts_connections: nftables.bool("counters").unwrap_or(default.counts_connections),
            localhost_node_ports: iptables
                .bool("localhostNodePorts")
                .unwrap_or(default.localhost_node_ports),
            node_port_addresses: self.node_port_addresses(root),
            tcp_be_liberal: root
                .section("conntrack")
                .bool("tcpBeLiberal")
                .unwrap_or(default.tcp_be_liberal),
        }
    }

    pub(crate) fn root(&mut self, text: &[u8]) -> Option<Value> {
        let value = std::str::from_utf8(text)
            .map_err(|error| format!("is not text: byte {} is not UTF-8", error.valid_up_to()))
            .and_then(|text| {
                yaml_value(text).map_err(|error| format!("is not valid YAML: {error}"))
            });
        let value = match value {
            Ok(value) => value,
            Err(message) => {
                self.problems.push(Problem::new(Severity::Error, message).at(&self.source));
                return None;
            }
        };
        match &value {
            Value::Object(_) => {}
            Value::Null => {
                self.error("", format!("is empty: a {KIND} is needed"));
                return None;
            }
            _ => {
                self.error("", format!("is not an object: a {KIND} is needed"));
                return None;
            }
        }
        for (field, wanted) in [("kind", KIND), ("apiVersion", API_VERSION)] {
            match value.get(field).and_then(Value::as_str) {
                Some(given) if given == wanted => {}
                Some(given) => self.error(field, format!("{given:?} is not {wanted}")),
                None => self.error(field, format!("is missing: {wanted} is needed")),
            }
        }
        Some(value)
    }

    /// Compares what is there with [`FIELDS`].
    fn check(&mut self, path: &str, value: &Value) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match FIELDS.iter().find(|(known, _)| *known == path) {
                None => {
                    let problem = Problem::warning(
                        &path,
                        "is no field of a KubeProxyConfiguration: it is ignored",
                    );
                    self.push(problem);
                }
                Some(_) if value.is_null() => {}
                Some((_, kind)) => match kind.mismatch(value) {
                    Some(expected) => {
                        self.error(&path, format!("expected {expected}, found {value}"))
                    }
                    None if matches!(kind, Type::Section) => self.check(&path, value),
                    None => {}
                },
            }
        }
    }

    /// A text field through its parser; empty is absent.
    pub(crate) fn parsed<T>(
        &mut self,
        section: Section<'_>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = section.text(name)?;
        parse(text).map_err(|message| self.error(&section.path_of(name), message)).ok()
    }

    /// A length of time; kube-proxy takes no negative ones either.
    pub(crate) fn duration(&mut self, section: Section<'_>, name: &str) -> Option<Duration> {
        // What is no duration at all was told where types are looked at.
        let is_duration = section.text(name).and_then(go_duration).is_some();
        if is_duration { self.parsed(section, name, parse_duration) } else { None }
    }

    fn node_port_addresses(&mut self, root: Section<'_>) -> NodePortAddresses {
        let texts = root.texts("nodePortAddresses");
        NodePortAddresses::parse(texts.iter().map(String::as_str)).unwrap_or_else(|message| {
            self.error("nodePortAddresses", message);
            NodePortAddresses::Unset
        })
    }

    /// kube-proxy has a feature gate for all or none; ours says which.
    fn external_ips(&mut self, root: Section<'_>) -> ExternalIps {
        let section = root.section("rulegen");
        if section.get("externalIPs").is_none_or(Value::is_null) {
            let gate = root.section("featureGates").bool("AllowServiceExternalIPs");
            return if gate == Some(false) { ExternalIps::None } else { ExternalIps::All };
        }
        let texts = section.texts("externalIPs");
        ExternalIps::parse(texts.iter().map(String::as_str)).unwrap_or_else(|message| {
            self.error("rulegen.externalIPs", message);
            ExternalIps::None
        })
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        self.push(Problem::new(Severity::Error, message).field(field));
    }

    fn push(&mut self, problem: Problem) {
        let object = ObjectName { kind: KIND, namespace: String::new(), name: String::new() };
        self.problems.push(problem.of(&self.source, &object));
    }
}

impl Type {
    /// What was expected, if the value is something else.
    fn mismatch(self, value: &Value) -> Option<String> {
        let (fits, expected) = match self {
            Type::Any => return None,
            Type::Bool => (value.is_boolean(), "true or false".to_owned()),
            Type::Number(least, most) => (
                value.as_i64().is_some_and(|n| (least..=most).contains(&n)),
                format!("a number from {least} to {most}"),
            ),
            Type::Float => (value.is_number(), "a number".to_owned()),
            Type::Text => (value.is_string(), "a text".to_owned()),
            Type::Duration => (
                value.as_str().and_then(go_duration).is_some(),
                "a duration such as 30s or 1h15m".to_owned(),
            ),
            Type::List => (value.is_array(), "a list".to_owned()),
            Type::Map | Type::Section => (value.is_object(), "an object".to_owned()),
        };
        (!fits).then_some(expected)
    }
}

/// A part of the configuration; what is of the wrong type is absent, [`Reader::check`] told it.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    value: &'a Value,
    path: &'a str,
}

impl<'a> Section<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, path: "" }
    }

    fn get(self, name: &str) -> Option<&'a Value> {
        self.value.get(name)
    }

    pub(crate) fn section(self, name: &'a str) -> Section<'a> {
        Section { value: self.get(name).unwrap_or(&Value::Null), path: name }
    }

    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn texts(self, name: &str) -> Vec<String> {
        let list = self.get(name).and_then(Value::as_array).into_iter().flatten();
        list.map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned)).collect()
    }

    pub(crate) fn bool(self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    pub(crate) fn number<T: TryFrom<i64>>(self, name: &str) -> Option<T> {
        self.get(name).and_then(Value::as_i64).and_then(|number| T::try_from(number).ok())
    }

    fn bit(self, name: &str) -> Option<u8> {
        self.get(name)
            .and_then(Value::as_u64)
            .and_then(|bit| u8::try_from(bit).ok())
            .filter(|bit| *bit < 32)
    }

    fn path_of(self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Reads a proxy mode.
///
/// # Errors
/// Says which modes there are.
pub fn parse_mode(text: &str) -> Result<ProxyMode, String> {
    match text {
        "iptables" => Ok(ProxyMode::Iptables),
        "nftables" => Ok(ProxyMode::Nftables),
        other => Err(format!("{other:?} is no mode that rulegen has (iptables, nftables)")),
    }
}

fn parse_bind_address(text: &str) -> Result<IpAddr, String> {
    parse_address(text).ok_or_else(|| format!("{text:?} is no IP address"))
}

/// Reads how traffic of pods is told.
///
/// # Errors
/// Says which ways there are.
pub fn parse_detect_local_mode(text: &str) -> Result<DetectLocalMode, String> {
    DetectLocalMode::parse(text).ok_or_else(|| {
        format!("{text:?} is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix")
    })
}
