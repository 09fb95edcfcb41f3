//! `rulegen explain`.

use std::fmt;
use std::net::IpAddr;

use clap::{Args, ValueEnum};
use rulegen_inspect::explain::Destination;

use super::{FamilyChoice, IgnoredRunningArgs, KernelArgs, LogArgs, ObjectsArgs, ProxyArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  # Explain a client's packet to a node port, on node-1
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --cluster-cidr 10.244.0.0/16 --from 192.168.1.100 --to 192.168.1.10:30080

  # The same in nftables mode, as JSON
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --proxy-mode nftables --from 192.168.1.100 --to 192.168.1.10:30080 -o json

  # From a pod to a Service by name
  rulegen explain -f examples/clusterip.yaml --hostname-override node-1 \\
      --cluster-cidr 10.244.0.0/16 --from 10.244.1.5 --to default/backend-service

  # Evaluate the rules in this node's kernel, regardless of who wrote them
  rulegen explain --live --from 10.244.1.5 --to 10.96.0.10:80

In JSON: packet {from, to, protocol, sender}; frontend {service, kind, address, policy}, or null; \
remarks [{about, code, text, change}]; rules [{table, chain, rule, element, role, means}], which every packet \
passes; ends [{probability {value, exact, oneIn}, outcome, endpoint, masqueraded, cause \
{code, text, endpoint, table, chain, rule}, conditions [{code, text, chains}], rules}], where outcome is endpoint, passes, \
rejected, dropped or unreachable, cause is what else than the rules of Services leads there, and conditions are what \
is not certain and may lead to another end; behind [rule], which every packet passes then; unknown [rule], rules of \
other programs that are not understood.";

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Source of the packet: the IP address of a pod, of this node or any other; or NAMESPACE/NAME of a pod,
    /// if a Pod or an EndpointSlice (targetRef) in the input has its address
    #[arg(long, value_name = "SOURCE", value_parser = SenderArgument::parse)]
    pub(crate) from: SenderArgument,

    /// Destination of the packet: IP:PORT (IPv6 in brackets), with /udp or /sctp if not
    /// TCP; NAMESPACE/NAME of a Service, also as NAME.NAMESPACE.svc, with the name or number of the port
    /// (:PORT) if it has several; NAMESPACE/NAME:PORT of a pod, also as POD.NAME.NAMESPACE.svc:PORT with
    /// the NAME of its headless Service; or an IP or a name with /icmp
    #[arg(long, value_name = "DESTINATION", value_parser = Destination::parse)]
    pub(crate) to: Destination,

    /// IP family of the packet, if --from is the name of a pod that has both. dual leaves the choice
    /// to the addresses [default: that of --to if it is an address, else ipv4 if the pod has it]
    #[arg(long, value_name = "FAMILY")]
    pub(crate) ip_family: Option<FamilyChoice>,

    /// Input interface of the packet; a port of a bridge or bond stands for the bridge or bond. Default: with --live, the interface of the kernel's route back
    /// to the source; else that of local pods, if --detect-local-mode names it, and unknown otherwise
    #[arg(long, value_name = "NAME", value_parser = super::shared::interface)]
    pub(crate) interface: Option<String>,

    /// Evaluate the rules in this node's kernel instead of those compiled from objects. Objects are
    /// optional then; they add details about the Service
    #[arg(long)]
    pub(crate) live: bool,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
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

/// The sender of a packet, as written by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SenderArgument {
    /// An address.
    Address(IpAddr),
    /// A pod: namespace and name.
    Pod(String, String),
}

impl fmt::Display for SenderArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Pod(namespace, name) => write!(f, "{namespace}/{name}"),
        }
    }
}

impl SenderArgument {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Address(ip));
        }
        let is_name = |name: &str| {
            let is_part =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            !name.is_empty() && name.bytes().all(is_part)
        };
        let text = text.to_ascii_lowercase();
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self::Pod(namespace.to_owned(), name.to_owned()))
            }
            _ => Err("invalid IP address, or NAMESPACE/NAME of a pod".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainForm {
    /// Text
    Text,
    /// JSON; its fields are described below
    Json,
}
