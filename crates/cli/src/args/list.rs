//! Arguments of `rulegen list`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::{FamilyArgs, IgnoredRunningArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # What would be there; needs no privilege
  rulegen list --dry-run -f examples/nodeport.yaml --hostname-override node-1

  # What is there, and who serves 10.96.0.10
  rulegen list
  rulegen list --address 10.96.0.10 -o wide

  # What is not as the cluster wants it
  rulegen list --kubeconfig /etc/kubernetes/admin.conf --differing

The mode is that of --proxy-mode or --config, else nftables if there is a table of rulegen's, else \
iptables. Whether something differs is the exit status of `rulegen diff`.

In JSON and YAML: mode; services [{namespace, name, port, protocol, state, connections, frontends, \
endpoints}]; of these frontends [{kind, family, address, protocol, port, policy, refused, endpoints, \
endpointsFromNode, sourceRanges, sessionAffinitySeconds, state, wanted, missingEndpoints, \
endpointsNotWanted}] and endpoints [{address, policies, connections}]. state is asWanted, missing, \
notWanted, endpointsDiffer or differs, where objects are known; wanted is what should become of the \
traffic, where that is something else; refused is noEndpoints (rejected) or noLocalEndpoints \
(dropped).";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only Services of these names, or namespace/name, or namespace/name:port
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// Only Services of this namespace
    #[arg(short, long, value_name = "NAME", help_heading = "Filters")]
    pub(crate) namespace: Option<String>,

    /// Only service ports with this address, be it a frontend's or an endpoint's
    #[arg(long, value_name = "IP", help_heading = "Filters")]
    pub(crate) address: Option<IpAddr>,

    /// Only service ports with this port, be it a frontend's or an endpoint's
    #[arg(long, value_name = "PORT", help_heading = "Filters")]
    pub(crate) port: Option<u16>,

    /// Only frontends that are not as the objects want them
    #[arg(long, help_heading = "Filters")]
    pub(crate) differing: bool,

    /// List what the objects make, and do not look at the kernel; needs no privilege
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    /// wide: all endpoints, session affinity, source ranges; json, yaml: the same as data
    #[arg(short, long, value_name = "FORM", help_heading = "Output")]
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
    /// A table with all columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}
