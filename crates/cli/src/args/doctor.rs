//! The flags of the doctor.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use rulegen_config::{BindAddress, parse_listen_address};

use super::choice::{Given, given};
use super::ignored::{AgentOnlyFlags, Ignored};
use super::listen::{ListenAddress, bind_address};
use super::{FamilyArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # Check the node only: kernel, sysctls, rules of other programs
  rulegen doctor

  # Check a manifest's Services too: do they have endpoints, and are their node ports free?
  rulegen doctor -f examples/nodeport.yaml --hostname-override node-1
  rulegen doctor -f examples/nodeport.yaml --check endpoints node-ports

  # Check against the cluster, with JSON output
  rulegen doctor --kubeconfig /etc/kubernetes/admin.conf -o json

JSON: mode; node, if objects are given; checks [{check, about, result, reason, findings}]; result is \
ok, note, warning, error, unknown or notChecked; reason is set for the last two; findings are \
[{code, severity, what, remedy}]; code is stable, what may change; summary {ok, note, warning, error, \
unknown, notChecked}, the number of checks with each result.";

/// The names of all checks. They are stable across versions.
pub(crate) const CHECK_NAMES: [&str; 28] = [
    "kernel-features",
    "ip-forward",
    "ipv6-forward",
    "cluster-ip-routes",
    "bridge-netfilter",
    "hairpin",
    "rp-filter",
    "route-localnet",
    "tcp-be-liberal",
    "conntrack-table",
    "kube-proxy",
    "other-mode",
    "iptables-variants",
    "nat-order",
    "firewall",
    "rules-present",
    "drift",
    "service-size",
    "left-out",
    "affinity-sets",
    "node-name",
    "pod-network",
    "objects",
    "endpoints",
    "address-claims",
    "node-addresses",
    "node-ports",
    "ephemeral-ports",
];

/// `rulegen doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Run only these checks (see --list-checks); may be repeated
    #[arg(long = "check", value_name = "NAME", num_args = 1.., value_parser = PossibleValuesParser::new(CHECK_NAMES), hide_possible_values = true, help_heading = "Checks")]
    pub(crate) checks: Vec<String>,

    /// List all checks and exit
    #[arg(long, help_heading = "Checks")]
    pub(crate) list_checks: bool,

    /// Address of the agent's status page, for the check left-out [default: the configuration's, else
    /// 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT", value_parser = given(parse_listen_address), help_heading = "Checks")]
    metrics_bind_address: Option<Given<ListenAddress>>,

    #[arg(long, hide = true)]
    metrics_port: Option<u16>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub(crate) output: DoctorForm,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    #[command(flatten)]
    pub(crate) family: FamilyArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) ignored: Ignored<AgentOnlyFlags>,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

impl DoctorArgs {
    /// The agent's flags for its metrics server: its address, and its port if there is no address.
    pub(crate) fn metrics(&self) -> (Option<BindAddress>, Option<u16>) {
        let port = self.metrics_port;
        let default_port = port.unwrap_or(BindAddress::METRICS_PORT);
        (bind_address(&self.metrics_bind_address, default_port), port)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorForm {
    /// One line per check, with findings and remedies
    Text,
    /// JSON; its fields are described below
    Json,
}
