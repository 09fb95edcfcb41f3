//! Kubernetes Services to Linux packet rules, as kube-proxy makes them: for CI and other tools.
//!
//! ```text
//! text ──read_manifests──▶ Objects ──snapshot──▶ Snapshot ──plan──▶ Plan ─┬─iptables_rules─▶ Rules
//! text ──read_config─────▶ Config ──────┴──────────────────┘              └─nftables_rules─▶ Rules
//!
//! Rules ──to_string──▶ text for iptables-restore or nft      Rules, Rules ──diff──▶ DiffReport
//! iptables-save ──parse_iptables──▶ Rules                    Rules, Packet ──explain──▶ Explanation
//! ```
//!
//! From a manifest to rules:
//!
//! ```
//! use rulegen::has_errors;
//! use rulegen::types::{Config, Host, IpFamily};
//!
//! # let manifest = include_str!("../../../examples/nodeport.yaml");
//! // let manifest = std::fs::read_to_string("examples/nodeport.yaml")?;
//! let mut config = Config::default();
//! config.hostname_override = Some("node-1".to_owned());
//!
//! let (objects, problems) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
//! assert!(!has_errors(&problems));
//! let (snapshot, problems) = rulegen::snapshot(&objects, &config, &Host::default());
//! assert!(problems.is_empty());
//! let plan = rulegen::plan(&snapshot, &config, IpFamily::Ipv4);
//! let rules = rulegen::iptables_rules(&plan).to_string();
//!
//! assert!(rules.contains(
//!     "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp \
//!      -m comment --comment \"default/web-service cluster IP\" -m tcp --dport 80 \
//!      -j KUBE-SVC-"
//! ));
//! ```
//!
//! These ten functions are the library. The types that they need and return are in [`types`].
//!
//! All functions are pure: they perform no I/O (except reading from the readers that they are given),
//! need no root and no C library, and do not panic. Wrong input gives a value for the rest and
//! [`Problem`]s. Equal input gives equal output, byte for byte. Nothing here reads or writes the
//! kernel's rules: pipe the text of [`Rules`] to `iptables-restore --noflush` or `nft -f -`, or use the
//! `rulegen` program, which does it in one transaction and removes stale rules.

mod rules;
pub mod types;

use std::io::BufRead;
use std::net::IpAddr;

pub use rules::{diff, iptables_rules, nftables_rules, parse_iptables};
use types::{
    Config, Explanation, Host, IpFamily, Objects, Packet, Plan, Problem, Rules, Severity, Snapshot,
};

/// Reads manifests: YAML or JSON with any number of documents, Lists, or watch events, as
/// `kubectl get -o yaml`, `-o json` and `--watch` print them. Each item is the name of an input, for the
/// text of problems, and its content; a [`BufReader`](std::io::BufReader) over a file will do.
///
/// The objects that matter are `Service`, `EndpointSlice` (or `Endpoints`), `Node` and `ServiceCIDR`;
/// [`Objects::ignored`] counts the others. An invalid object is skipped and reported as a
/// [`Severity::Warning`]. If [`has_errors`], a part is missing and the result is not to be applied:
/// Services in the missing part would lose their rules.
///
/// # Problems
/// [`Severity::Error`]: a reader failed. [`Severity::Incomplete`]: a document cannot be read or is not a
/// Kubernetes object, or there is no Service.
///
/// ```
/// use rulegen::has_errors;
///
/// let service = r#"{
///     "apiVersion": "v1", "kind": "Service",
///     "metadata": {"name": "web"},
///     "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}
/// }"#;
/// let (objects, problems) = rulegen::read_manifests([("web.json", service.as_bytes())]);
/// assert_eq!(objects.services.len(), 1);
/// // Without endpoints, the Service rejects all traffic. That is a warning.
/// assert!(problems[0].message.starts_with("no EndpointSlice in the input"));
/// assert!(!has_errors(&problems));
///
/// let (_, problems) = rulegen::read_manifests([("web.yaml", "kind: [Service".as_bytes())]);
/// assert!(has_errors(&problems));
/// ```
pub fn read_manifests<N: AsRef<str>, R: BufRead>(
    manifests: impl IntoIterator<Item = (N, R)>,
) -> (Objects, Vec<Problem>) {
    let mut objects = Objects::default();
    let mut problems = Vec::new();
    for (name, content) in manifests {
        problems.extend(rulegen_model::read_manifest(name.as_ref(), content, &mut objects));
    }
    if !has_errors(&problems) {
        problems.extend(objects.complete(rulegen_model::IfEmpty::Refuse));
    }
    (objects, problems)
}

/// Whether a part of the input or configuration could not be used, so that the rules are incomplete and
/// not to be applied. Warnings and notes are not errors.
///
/// ```
/// use rulegen::has_errors;
/// use rulegen::types::{Problem, Severity};
///
/// assert!(!has_errors(&[Problem::warning("spec.ports[0].port", "0 is not a port")]));
/// assert!(has_errors(&[Problem::new(Severity::Incomplete, "no Service in the input")]));
/// ```
pub fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity >= Severity::Incomplete)
}

/// Reads a `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`, YAML or JSON). Fields have
/// kube-proxy's names, meaning and defaults.
///
/// # Problems
/// [`Severity::Warning`]: an unknown field. [`Severity::Error`]: a value with which kube-proxy does not
/// start; the field has its default.
///
/// ```
/// use rulegen::types::ProxyMode;
///
/// let text = "
/// apiVersion: kubeproxy.config.k8s.io/v1alpha1
/// kind: KubeProxyConfiguration
/// mode: nftables
/// clusterCIDR: 10.244.0.0/16
/// ";
/// let (config, problems) = rulegen::read_config("config.yaml", text);
/// assert_eq!(config.mode, ProxyMode::Nftables);
/// assert_eq!(config.cluster_cidrs[0].to_string(), "10.244.0.0/16");
/// assert!(problems.is_empty());
///
/// let (_, problems) = rulegen::read_config("config.yaml", &text.replace("nftables", "ipvs"));
/// assert!(rulegen::has_errors(&problems));
/// ```
pub fn read_config(name: &str, text: &str) -> (Config, Vec<Problem>) {
    let (config, problems) = rulegen_config::read_config(name, text.as_bytes());
    (Config::from(&config), problems)
}

/// Joins Services with their EndpointSlices, for one node. That is the Node object whose name is
/// [`Config::hostname_override`], else `host.name`. If there is none, the node has `host.addresses`, and
/// no endpoint counts as local.
///
/// # Problems
/// [`Severity::Warning`]: an object or field that is skipped, or contradicts another.
/// [`Severity::Note`]: a Service that has no rules, for example because it is headless.
///
/// ```
/// use rulegen::types::{Config, Host};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let mut config = Config::default();
/// config.hostname_override = Some("node-1".to_owned());
/// let (snapshot, problems) = rulegen::snapshot(&objects, &config, &Host::default());
///
/// assert_eq!(snapshot.node.ipv4.primary.to_string(), "192.168.1.10");
/// let web = &snapshot.ipv4[1];
/// assert_eq!(web.name.to_string(), "default/web-service");
/// assert_eq!(web.endpoints.len(), 3);
/// assert!(web.endpoints[0].local);
/// assert!(problems.is_empty());
/// ```
pub fn snapshot(objects: &Objects, config: &Config, host: &Host) -> (Snapshot, Vec<Problem>) {
    rulegen_model::snapshot(objects, &config.snapshot_options(), host)
}

/// Makes all decisions for one IP family: which endpoints each policy selects, what is masqueraded, what
/// is dropped or rejected. The plan is the same for both modes, except for settings that only one mode
/// has ([`Config::mode`]).
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let mut config = Config::default();
/// config.hostname_override = Some("node-1".to_owned());
/// let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
/// let plan = rulegen::plan(&snapshot, &config, IpFamily::Ipv4);
///
/// let web = &plan.services[1];
/// assert_eq!(web.name.to_string(), "default/web-service");
/// assert_eq!(web.cluster_endpoints.len(), 3);
/// assert_eq!(web.cluster_endpoints[0].address.to_string(), "10.244.1.5:8080");
/// // The Services of the file have IPv4 addresses only.
/// assert!(rulegen::plan(&snapshot, &config, IpFamily::Ipv6).services.is_empty());
/// ```
pub fn plan(snapshot: &Snapshot, config: &Config, family: IpFamily) -> Plan {
    rulegen_compiler::plan(snapshot, config, family)
}

/// Explains what the rules do with the first packet of a connection, and why. `local` are all
/// addresses of the node, from [`Snapshot::node`] or from the machine. With a plan, the explanation also
/// says what rules do not show, such as the traffic policy.
///
/// ```
/// use rulegen::types::{Config, Host, IpFamily, Origin, Outcome, Packet, Protocol};
///
/// # let manifest = include_str!("../../../examples/nodeport.yaml");
/// let (objects, _) = rulegen::read_manifests([("nodeport.yaml", manifest.as_bytes())]);
/// let mut config = Config::default();
/// config.hostname_override = Some("node-1".to_owned());
/// let (snapshot, _) = rulegen::snapshot(&objects, &config, &Host::default());
/// let plan = rulegen::plan(&snapshot, &config, IpFamily::Ipv4);
/// let rules = rulegen::nftables_rules(&plan, "rulegen");
///
/// let packet = Packet {
///     origin: Origin::Interface("eth0".to_owned()),
///     source: "192.168.1.100".parse()?,
///     destination: "192.168.1.10:30080".parse()?,
///     protocol: Protocol::Tcp,
/// };
/// let explanation =
///     rulegen::explain(&rules, &snapshot.node.ipv4.local, &packet, Some(&plan));
///
/// let frontend = explanation.frontend.unwrap();
/// assert_eq!(frontend.service.to_string(), "default/web-service");
/// assert_eq!(explanation.ends.len(), 3);
/// assert_eq!(explanation.ends[0].probability.one_in, Some(3));
/// assert_eq!(
///     explanation.ends[0].outcome,
///     Outcome::Endpoint { endpoint: "10.244.1.5:8080".parse()?, masqueraded: true }
/// );
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn explain(
    rules: &Rules,
    local: &[IpAddr],
    packet: &Packet,
    plan: Option<&Plan>,
) -> Explanation {
    match rules {
        Rules::Iptables(ruleset) => {
            rulegen_inspect::explain::by_ruleset(ruleset, local, packet, plan)
        }
        Rules::Nftables(table) => rulegen_inspect::explain::by_table(table, local, packet, plan),
    }
}

/// Runs the example of the page.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct LibraryPage;
