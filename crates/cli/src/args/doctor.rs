//! The flags of the doctor.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::{FamilyArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # The node alone: the kernel, its settings, the rules of others
  rulegen doctor

  # And the objects: have the Services of a manifest endpoints, and their node ports to themselves?
  rulegen doctor -f examples/nodeport.yaml --hostname-override node-1
  rulegen doctor -f examples/nodeport.yaml --check endpoints node-ports

  # The same against the cluster, for a program
  rulegen doctor --kubeconfig /etc/kubernetes/admin.conf -o json

In JSON: mode; node, if there are objects; checks [{check, about, result, reason, findings}], where \
result is ok, note, warning, error, unknown or notChecked, reason says why of the last two, and \
findings are [{severity, what, remedy}]; summary {ok, note, warning, error, unknown, notChecked}, \
each the number of checks.";

/// The names of all checks, kept from version to version.
pub(crate) const CHECK_NAMES: [&str; 21] = [
    "kernel-features",
    "ip-forward",
    "ipv6-forward",
    "bridge-netfilter",
    "rp-filter",
    "route-localnet",
    "tcp-be-liberal",
    "conntrack-table",
    "kube-proxy",
    "other-mode",
    "iptables-variants",
    "nat-order",
    "rules-present",
    "drift",
    "service-size",
    "left-out",
    "affinity-sets",
    "endpoints",
    "address-claims",
    "node-addresses",
    "node-ports",
];

/// `rulegen doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Make only these checks (--list-checks names them); may be repeated
    #[arg(long = "check", value_name = "NAME", num_args = 1.., value_parser = PossibleValuesParser::new(CHECK_NAMES), hide_possible_values = true, help_heading = "Checks")]
    pub(crate) checks: Vec<String>,

    /// Print the names of all checks with what they look at, and exit
    #[arg(long, help_heading = "Checks")]
    pub(crate) list_checks: bool,

    /// The form in which findings are printed
    #[arg(short, long, value_name = "FORM", default_value = "text", help_heading = "Output")]
    pub(crate) output: DoctorForm,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    #[command(flatten)]
    pub(crate) family: FamilyArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorForm {
    /// A line a check, with the remedies below
    Text,
    /// An object; its fields are below
    Json,
}
