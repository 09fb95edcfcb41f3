//! `rulegen explain`.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use rulegen_inspect::explain::Destination;

use super::{IgnoredRunningArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # What becomes of a client's packet to a node port, on node-1
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --cluster-cidr 10.244.0.0/16 --from 192.168.1.100 --to 192.168.1.10:30080

  # The same in nftables mode, as data
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --proxy-mode nftables --from 192.168.1.100 --to 192.168.1.10:30080 -o json

  # To a Service by its name, from a pod
  rulegen explain -f examples/clusterip.yaml --hostname-override node-1 \\
      --cluster-cidr 10.244.0.0/16 --from 10.244.1.5 --to default/backend-service

  # What the rules in this node's kernel do with it, whoever wrote them
  rulegen explain --live --from 10.244.1.5 --to 10.96.0.10:80

In JSON: packet {from, to, protocol, sender}; frontend {service, kind, address, policy}, or null; \
remarks [{about, code, text, change}]; rules [{table, chain, rule, element, means}], which every packet \
passes; ends [{probability {value, exact, oneIn}, outcome, endpoint, masqueraded, rules}], where \
outcome is endpoint, passes, rejected or dropped; behind [rule], which every packet passes then; \
unknown [rule], what was not followed: rules of others, chains of other tables.";

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The packet's source address: a pod's, the node's own, or any other
    #[arg(long, value_name = "IP")]
    pub(crate) from: IpAddr,

    /// The packet's destination: an address, over TCP unless it says /udp or /sctp (an IPv6 address
    /// stands in brackets), or a Service's cluster IP by name, with the name or number of the port
    /// if it has several
    #[arg(long, value_name = "IP:PORT[/PROTO]|NAMESPACE/NAME[:PORT][/PROTO]", value_parser = Destination::parse)]
    pub(crate) to: Destination,

    /// The interface that the packet comes in from, where pods are told by it
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub(crate) interface: String,

    /// Follow it through the rules that this node's kernel holds, not through those that the
    /// objects make. Objects are not needed then; with them more is told of the Service
    #[arg(long)]
    pub(crate) live: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: ExplainForm,

    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

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
pub(crate) enum ExplainForm {
    /// For people
    Text,
    /// As data
    Json,
}
