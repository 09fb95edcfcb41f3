//! Arguments of `rulegen list`.

use std::fmt;
use std::net::IpAddr;

use clap::{Args, ValueEnum};
use rulegen_agent::Selector;
use rulegen_config::parse_bind_address;
use rulegen_net::{ServicePortName, ServiceRef};

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

  # List the names of the Services in kube-system, and the Services with a label
  rulegen list -n kube-system -o name
  rulegen list --kubeconfig /etc/kubernetes/admin.conf -l app=web,tier!=test

Without objects, KIND is External for load-balancer IPs without source ranges and for external IPs, and the \
policy of cluster IPs is unknown: rules of nftables mode are the same for both. The output is the same in \
both modes.

To test for differences, use the exit status of `rulegen diff`.

In nftables mode, kube-proxy's own table is listed if rulegen's does not exist or has no Services; \
--nftables-table kube-proxy lists it in any case.

JSON and YAML: mode; kubeProxyTables, the tables of kube-proxy that were listed; services [{namespace, name, port, protocol, state, connections, frontends, \
endpoints}]; of these frontends [{kind, family, address, protocol, port, policy, refusedCode, endpoints, \
endpointsFromNode, sourceRanges, sessionAffinitySeconds, state, desired, missingEndpoints, \
extraEndpoints}] and endpoints [{address, policies, connections}]. state is set if objects are \
given: inSync, missing, extra, endpointsDiffer or differs; desired is the desired outcome, if \
it differs; refusedCode is no-endpoints (rejected) or no-local-endpoints (dropped).";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these Services: name, namespace/name or namespace/name:port. The exit status is 1 if one
    /// is not found
    #[arg(value_name = "SERVICE", value_parser = ServiceArg::parse)]
    pub(crate) services: Vec<ServiceArg>,

    /// Only Services in this namespace
    #[arg(short, long, value_name = "NAME", help_heading = "Filters")]
    pub(crate) namespace: Option<String>,

    /// Services in all namespaces, the default; overrides --namespace
    #[arg(short = 'A', long, help_heading = "Filters")]
    pub(crate) all_namespaces: bool,

    /// Only Services with these labels, as in kubectl: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin
    /// (A,B), KEY or !KEY, separated by commas. Needs objects; Services that
    /// only the kernel has are left out
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = super::selector::parse,
          conflicts_with = "services", help_heading = "Filters")]
    pub(crate) selector: Option<Selector>,

    /// Only service ports with a frontend or endpoint at this address
    #[arg(long, value_name = "IP", value_parser = parse_bind_address, help_heading = "Filters")]
    pub(crate) address: Option<IpAddr>,

    /// Only service ports with a frontend or endpoint at this port
    #[arg(long, value_name = "PORT", help_heading = "Filters")]
    pub(crate) port: Option<u16>,

    /// Only frontends that differ from the objects
    #[arg(long, help_heading = "Filters")]
    pub(crate) differing: bool,

    /// After the list, print each frontend that changes in the kernel. Objects are read once
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) watch: bool,

    /// List the desired state without reading the kernel; needs no privileges
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output: Option<ListForm>,

    /// Omit the header of the table
    #[arg(long, help_heading = "Output")]
    pub(crate) no_headers: bool,

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

/// A Service to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceArg {
    /// In any namespace.
    Name(String),
    Ref(ServiceRef),
}

impl ServiceArg {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('/') {
            return Ok(Self::Name(text.to_owned()));
        }
        let message = "expected NAME, NAMESPACE/NAME or NAMESPACE/NAME:PORT";
        text.parse().map(Self::Ref).map_err(|_| message.to_owned())
    }

    /// Whether it names this service port.
    pub(crate) fn means(&self, name: &ServicePortName) -> bool {
        match self {
            Self::Name(text) => **text == *name.service,
            Self::Ref(service) => service.means(name, &[]),
        }
    }
}

impl fmt::Display for ServiceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => f.write_str(text),
            Self::Ref(service) => service.fmt(f),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    /// A table with all endpoints, session affinity and source ranges
    Wide,
    /// The namespace/name of each Service
    Name,
    /// JSON
    Json,
    /// YAML
    Yaml,
}
