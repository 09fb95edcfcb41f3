//! Arguments of `rulegen list`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::{FamilyArgs, IgnoredRunningArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # List the desired state; needs no privileges
  rulegen list --dry-run -f examples/nodeport.yaml --hostname-override node-1

  # List the Services in the kernel, and the endpoints of 10.96.0.10
  rulegen list
  rulegen list --address 10.96.0.10 -o wide

  # List differences from the cluster's objects
  rulegen list --kubeconfig /etc/kubernetes/admin.conf --differing

To test for differences, use the exit status of `rulegen diff`.

JSON and YAML: mode; services [{namespace, name, port, protocol, state, connections, frontends, \
endpoints}]; of these frontends [{kind, family, address, protocol, port, policy, refused, endpoints, \
endpointsFromNode, sourceRanges, sessionAffinitySeconds, state, wanted, missingEndpoints, \
endpointsNotWanted}] and endpoints [{address, policies, connections}]. state is set if objects are \
given: asWanted, missing, notWanted, endpointsDiffer or differs; wanted is the desired outcome, if \
it differs; refused is noEndpoints (rejected) or noLocalEndpoints (dropped).";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these Services: name, namespace/name or namespace/name:port
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// Only Services in this namespace
    #[arg(short, long, value_name = "NAME", help_heading = "Filters")]
    pub(crate) namespace: Option<String>,

    /// Only service ports with a frontend or endpoint at this address
    #[arg(long, value_name = "IP", help_heading = "Filters")]
    pub(crate) address: Option<IpAddr>,

    /// Only service ports with a frontend or endpoint at this port
    #[arg(long, value_name = "PORT", help_heading = "Filters")]
    pub(crate) port: Option<u16>,

    /// Only frontends that differ from the objects
    #[arg(long, help_heading = "Filters")]
    pub(crate) differing: bool,

    /// List the desired state without reading the kernel; needs no privileges
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output: Option<ListForm>,

    #[command(flatten)]
    pub(crate) family: FamilyArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) ignored: IgnoredRunningArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    /// A table with all endpoints, session affinity and source ranges
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}
