//! The command line. Flags that kube-proxy has keep its names and meanings.

mod agent;
mod choice;
mod doctor;
mod exit_status;
mod explain;
mod list;
mod objects;
mod trace;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use ipnet::IpNet;
use rulegen_config::{
    DetectLocalMode, LONGEST_INTERFACE, LONGEST_INTERFACE_PREFIX, ProxyMode, parse_bind_address,
    parse_cluster_cidrs, parse_interface,
};
use rulegen_model::{IfEmpty, LoadBalancing};
use rulegen_ruleset::nftables::Name;

pub(crate) use agent::{AgentArgs, IgnoredArgs, IgnoredRunningArgs, RunningArgs};
pub(crate) use choice::Given;
use choice::{given, one_of};
#[cfg(test)]
pub(crate) use doctor::CHECK_NAMES;
pub(crate) use doctor::{DoctorArgs, DoctorForm};
pub(crate) use explain::{ExplainArgs, ExplainForm};
pub(crate) use list::{ListArgs, ListForm};
pub(crate) use objects::ObjectsArgs;
pub(crate) use trace::{To, TraceArgs, TraceForm};

const ABOUT: &str = "Turns Kubernetes Services into Linux packet rules, as kube-proxy would";

const LONG_ABOUT: &str = "\
Turns Kubernetes Services and EndpointSlices into Linux packet rules: the iptables rules that \
kube-proxy makes of them, rule for rule, or one nftables table in which packets meet the same.

Given manifests, rulegen compiles them for one node and applies the rules to the network \
namespace it runs in; only what differs is written. The manifests are the whole wanted state: \
Services that the kernel has and they do not are removed, but only with --prune or once you \
confirm it. With --dry-run it prints the rules instead, as iptables-save would print them on that \
node, and needs no privilege.";

const EXAMPLES: &str = "\
Examples:
  # The rules of a cluster, as its node node-1 would have them
  kubectl get nodes,services,endpointslices -A -o json |
      rulegen --dry-run -f - --hostname-override node-1 --cluster-cidr 10.244.0.0/16

  # The same with the configuration that kube-proxy has
  rulegen --dry-run -f cluster.yaml --config kube-proxy.yaml --ip-family ipv6

  # What would change in this network namespace, then change it, also remove Services that are
  # not in the file; then take it all away
  rulegen diff -f cluster.yaml
  rulegen -f cluster.yaml
  rulegen -f cluster.yaml --prune
  rulegen cleanup --dry-run
  rulegen cleanup

  # What becomes of a packet and why; what the kernel holds; what is wrong with this node
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --from 192.168.1.100 --to 192.168.1.10:30080
  rulegen list
  rulegen doctor

  # On a node, in place of kube-proxy with its configuration; or of a folder of manifests
  kubectl -n kube-system get configmap kube-proxy -o 'jsonpath={.data.config\\.conf}' > config.conf
  rulegen agent --config config.conf --kubeconfig /etc/kubernetes/admin.conf \\
      --proxy-mode nftables
  rulegen agent --manifests /etc/rulegen --proxy-mode nftables";

const APPLY_EXAMPLES: &str = "\
Examples:
  # The input is the whole wanted state: what it does not have is named, and stays without --prune
  rulegen apply -f examples/nodeport.yaml --hostname-override node-1
  rulegen apply -f examples/clusterip.yaml --hostname-override node-1 --prune";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  # What would be removed; then remove it, without a question
  rulegen cleanup --dry-run
  rulegen cleanup --yes

In JSON: dryRun; nftables [{family, table}], which are deleted as a whole; iptables [{family, \
variant, isClean, summary, kept [{table, chain}]}]; failed, whether a part was not done.";

const DIFF_EXAMPLES: &str = "\
Example:
  rulegen diff -f examples/clusterip.yaml --hostname-override node-1

In JSON: mode; services [{namespace, name, port, protocol, action, frontends, objects}]; shared \
[object]; summary {add, change, remove}, which counts Services. action is add, change or remove; \
frontends are [{kind, frontend, action, removed, added}], what traffic loses and gets; an object is \
{object, change, removed, added}, a table, set or chain with its rules or elements.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "rulegen",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_status::table()),
    args_conflicts_with_subcommands = true,
    mut_arg("filename", |filename| filename.required(false).required_unless_present("cleanup")),
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    apply: ApplyArgs,

    /// Remove all rules and exit, as `rulegen cleanup` does
    #[arg(long, help_heading = "Options")]
    cleanup: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile manifests and apply the rules to this network namespace (the default)
    ///
    /// The manifests are the whole wanted state. Services that the kernel has and they do not are
    /// named and removed, but only with --prune, or once you confirm it at a terminal: without
    /// that nothing is changed. It is the same for rules that a kube-proxy made.
    #[command(after_long_help = exit_status::with("apply", APPLY_EXAMPLES))]
    Apply(ApplyArgs),
    /// Show what apply would change, and change nothing
    ///
    /// By service port: which addresses and endpoints come (+), change (~) and go (-), and the rules
    /// or elements that it takes; then what belongs to no Service alone; then a line with the
    /// numbers. Nothing is printed if nothing would change.
    #[command(after_long_help = exit_status::with("diff", DIFF_EXAMPLES))]
    Diff(DiffArgs),
    /// List Services, their addresses and endpoints as the kernel has them
    ///
    /// A line a frontend: what becomes of traffic to it, told from the rules, whoever made them. With
    /// manifests or an API server each is compared with what it should be: `missing` in the kernel,
    /// `not wanted`, or with other endpoints. In nftables mode with counters the connections of each
    /// service port since its endpoints were put in are listed with it.
    #[command(after_long_help = exit_status::with("list", list::EXAMPLES))]
    List(Box<ListArgs>),
    /// Follow a packet through the rules: which it meets, where it ends, how probably, and why
    ///
    /// Offline, through the rules that manifests make in either mode, or live, through those that
    /// the kernel holds. The packet is the first of a connection, of a client that was not seen
    /// before; live in nftables mode, one that session affinity remembers keeps its endpoint. Of
    /// nftables our own table is followed, of iptables all rules that rulegen can judge; what is not
    /// followed is listed.
    #[command(after_long_help = exit_status::with("explain", explain::EXAMPLES))]
    Explain(Box<ExplainArgs>),
    /// Check this node: say what is wrong, and the remedy
    ///
    /// Looks at the kernel, its settings and the rules of others; with -f, or --kubeconfig and its
    /// like, also at the cluster's objects: rules that differ from what they ask for, Services
    /// without endpoints, addresses that two Services claim, node ports that a process has. Changes
    /// nothing; in nftables mode kernel-features sends a batch of examples that the kernel looks at
    /// and undoes (each by itself, if it refuses them). Takes root, or CAP_NET_ADMIN; to name
    /// processes, root. Notes are not wrong.
    #[command(after_long_help = exit_status::with("doctor", doctor::EXAMPLES))]
    Doctor(Box<DoctorArgs>),
    /// Show real packets on their way through the rules, as it happens (nftables mode)
    ///
    /// Prints each rule that a packet meets, in tables of others too, the Service that it is for,
    /// the endpoint that it gets, and where and why it ends. Of a connection over TCP only the first
    /// packet is shown unless all are asked for: it alone meets the rules that choose an endpoint.
    ///
    /// What has the kernel tell of packets is a table of its own, rulegen-trace-N, which the kernel
    /// takes away when this ends, also by kill -9 (before Linux 5.12 not then). Rules of
    /// iptables-legacy are not shown. It takes the capability NET_ADMIN.
    #[command(after_long_help = exit_status::with("trace", trace::EXAMPLES))]
    Trace(TraceArgs),
    /// Keep the rules of this node right, in place of kube-proxy
    ///
    /// Watches the cluster's Services and EndpointSlices, or a folder of manifests, and writes what
    /// changes into the kernel. What others change in the rules is put right within a second, in
    /// iptables mode with many Services within seconds. Once the rules are in, what kube-proxy or the
    /// other mode left is removed. The rules stay when it ends, and what is right already is not
    /// written again when it starts.
    ///
    /// When the file of --config changes it ends with status 1, to be started anew.
    ///
    /// A browser finds its status page at http://127.0.0.1:10249/: how it is, what it did, each
    /// Service's way to its endpoints, what others changed, and explanations of packets.
    #[command(after_long_help = exit_status::with("agent", agent::EXAMPLES))]
    Agent(Box<AgentArgs>),
    /// Remove everything that rulegen or kube-proxy put into the kernel
    ///
    /// Removes the nftables tables rulegen and kube-proxy, and the KUBE-* chains of kube-proxy
    /// and the jumps to them from both variants of iptables. What belongs to others stays as it is: chains of kubelet (KUBE-KUBELET-CANARY,
    /// KUBE-IPTABLES-HINT, and KUBE-FIREWALL where kubelet is), of network plugins, and yours.
    /// At a terminal it says what would go and asks.
    #[command(after_long_help = exit_status::with("cleanup", CLEANUP_EXAMPLES))]
    Cleanup(CleanupArgs),
    /// Print the completion script of a shell
    ///
    /// bash:  source <(rulegen completion bash)
    /// zsh:   rulegen completion zsh > ~/.zfunc/_rulegen
    /// fish:  rulegen completion fish > ~/.config/fish/completions/rulegen.fish
    #[command(verbatim_doc_comment)]
    Completion {
        /// The shell
        shell: Shell,
    },
}

impl Cli {
    /// The command that was given, or meant by giving none.
    pub(crate) fn into_command(self) -> Command {
        match self.command {
            Some(command) => command,
            None if self.cleanup => Command::Cleanup(CleanupArgs {
                dry_run: self.apply.dry_run,
                yes: self.apply.yes,
                output: None,
                nftables_table: self.apply.proxy.nftables.nftables_table,
                keep_kube_proxy: false,
                lock: self.apply.kernel.lock,
                log: self.apply.log,
            }),
            None => Command::Apply(self.apply),
        }
    }

    /// Whether it is the agent that runs.
    pub(crate) fn is_agent(&self) -> bool {
        matches!(self.command, Some(Command::Agent(_)))
    }

    /// How much to log, and how.
    pub(crate) fn logging(&self) -> (u8, LoggingFormat) {
        let (log, default) = match &self.command {
            Some(Command::Apply(args)) => (&args.log, 0),
            Some(Command::Diff(args)) => (&args.log, 0),
            Some(Command::List(args)) => (&args.log, 0),
            Some(Command::Explain(args)) => (&args.log, 0),
            Some(Command::Trace(args)) => (&args.log, 0),
            Some(Command::Cleanup(args)) => (&args.log, 0),
            Some(Command::Doctor(args)) => (&args.log, 0),
            // It runs for months, and each sync is a line.
            Some(Command::Agent(args)) => (&args.log, 2),
            Some(Command::Completion { .. }) => return (0, LoggingFormat::Text),
            None => (&self.apply.log, 0),
        };
        (log.verbosity.unwrap_or(default), log.logging_format)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Print the rules instead of applying them; touches nothing and needs no privilege
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Remove Services that the kernel has and the input does not. Without it they are named, and
    /// nothing is changed unless you confirm it at a terminal
    #[arg(long)]
    pub(crate) prune: bool,

    #[command(flatten)]
    pub(crate) yes: YesArgs,

    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// The form in which --dry-run prints [default: that of the proxy mode]
    #[arg(short, long, value_name = "FORM", requires = "dry_run", help_heading = "Output")]
    pub(crate) output: Option<OutputForm>,

    #[command(flatten)]
    pub(crate) family: FamilyArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) ignored: IgnoredArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct YesArgs {
    /// Answer the question whether to remove something with yes
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// json: the same as data
    #[arg(short, long, value_name = "FORM", help_heading = "Output")]
    pub(crate) output: Option<DiffForm>,

    #[command(flatten)]
    pub(crate) family: FamilyArgs,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    #[command(flatten)]
    pub(crate) ignored: IgnoredArgs,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) yes: YesArgs,

    /// json: what was removed, or would be, as data
    #[arg(short, long, value_name = "FORM", help_heading = "Output")]
    pub(crate) output: Option<CleanupForm>,

    /// The name of rulegen's nftables table, if it was given another
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    /// Remove rulegen's nftables table only. The table and the chains that kube-proxy makes too
    /// stay: for going back to it, once it is at work again
    #[arg(long)]
    pub(crate) keep_kube_proxy: bool,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct InputArgs {
    /// Manifests: files, folders (*.yaml, *.yml, *.json) or - for standard input; YAML or JSON,
    /// any number of documents, lists of any kind; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) filename: Vec<PathBuf>,

    /// Exit with status 1 if anything in the input had to be left out or is warned of
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) empty: EmptyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EmptyArgs {
    /// Take manifests without any Service, which are refused otherwise: mostly the namespace
    /// that kubectl was asked for is mistyped
    #[arg(long)]
    allow_empty: bool,
}

impl EmptyArgs {
    /// What manifests without any Service mean.
    pub(crate) fn meaning(&self) -> IfEmpty {
        if self.allow_empty { IfEmpty::Allow } else { IfEmpty::Refuse }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FamilyArgs {
    /// The families to work on [default: dual; ipv4 for --dry-run in the form of iptables-save,
    /// which holds one family]
    #[arg(long, value_name = "FAMILY", help_heading = "Output")]
    pub(crate) ip_family: Option<FamilyChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyChoice {
    Ipv4,
    Ipv6,
    Dual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CleanupForm {
    /// JSON
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffForm {
    /// JSON
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputForm {
    /// As iptables-save prints it
    IptablesSave,
    /// As `nft -f` reads it
    Nft,
    /// The tables as data
    Json,
}

/// kube-proxy's flags that change rules. One that is given wins over --config.
#[derive(Debug, Args)]
#[command(next_help_heading = "kube-proxy's flags (one that is given wins over --config)")]
pub(crate) struct ProxyArgs {
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The kind of rules [default: the configuration's mode, else iptables]
    #[arg(long, value_name = "MODE", value_parser = one_of::<ProxyMode>())]
    pub(crate) proxy_mode: Option<Given<ProxyMode>>,

    /// The name of the node to make rules for [default: the host name]. If there is a Node of this
    /// name, its addresses, labels and podCIDRs count, else this host's own
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,

    /// The node's primary address, in place of the Node object's
    #[arg(long, value_name = "IP", value_parser = given(parse_bind_address))]
    pub(crate) bind_address: Option<Given<IpAddr>>,

    /// The network of the cluster's pods: one CIDR, or one of each family with a comma between
    #[arg(long, value_name = "CIDR", value_parser = given(parse_cluster_cidrs))]
    pub(crate) cluster_cidr: Option<Given<Vec<IpNet>>>,

    /// How traffic of this node's pods is detected [default: ClusterCIDR]
    #[arg(long, value_name = "MODE", value_parser = one_of::<DetectLocalMode>())]
    pub(crate) detect_local_mode: Option<Given<DetectLocalMode>>,

    /// The bridge of the node's pods, for --detect-local-mode BridgeInterface
    #[arg(long, value_name = "NAME", value_parser = given(bridge_interface))]
    pub(crate) pod_bridge_interface: Option<Given<String>>,

    /// How the interfaces of the node's pods begin, for --detect-local-mode InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX", value_parser = given(interface_prefix))]
    pub(crate) pod_interface_name_prefix: Option<Given<String>>,

    /// Masquerade all traffic to cluster IPs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) masquerade_all: Option<bool>,

    /// The bit of a packet's mark that asks for masquerading (0 to 31), in iptables mode; that of
    /// nftables mode stands in the configuration (nftables.masqueradeBit) [default: 14]
    #[arg(long, value_name = "BIT", value_parser = value_parser!(u8).range(0..=31))]
    pub(crate) iptables_masquerade_bit: Option<u8>,

    /// Whether node ports are open at 127.0.0.1 too, in iptables mode [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) iptables_localhost_nodeports: Option<bool>,

    /// At which of the node's addresses node ports are open: CIDRs with commas between, or
    /// `primary` [default: at all; in nftables mode primary]
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub(crate) nodeport_addresses: Option<Vec<String>>,

    /// Do not drop INVALID packets
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) conntrack_tcp_be_liberal: Option<bool>,

    /// Which externalIPs of Services get rules: all, none, or those within CIDRs with commas
    /// between. Whoever may write a Service may otherwise take any address's traffic. In the
    /// configuration: rulegen.externalIPs [default: all]
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub(crate) external_ips: Option<Vec<String>>,

    /// Make no rules for external and load-balancer IPs that are addresses of this node, so that no
    /// Service takes the traffic of the API server, kubelet or sshd there. Not for nodes that get
    /// load-balancer IPs by k3s's ServiceLB, kube-vip or keepalived. In the configuration:
    /// rulegen.refuseNodeAddresses [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) refuse_node_addresses: Option<bool>,

    /// Leave a Service out whole that is larger than this. Its size is the sum, over its ports and
    /// families, of addresses and endpoints, plus its source ranges (in iptables mode once for each
    /// port). In the configuration: rulegen.maxServiceSize [default: 300000, in iptables mode 100000]
    #[arg(long, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_SERVICE_SIZE))]
    pub(crate) max_service_size: Option<usize>,

    #[command(flatten)]
    pub(crate) nftables: NftablesArgs,
}

/// What rulegen adds to kube-proxy's nftables mode.
#[derive(Debug, Args)]
#[command(next_help_heading = "nftables mode")]
pub(crate) struct NftablesArgs {
    /// The name of the table. Some programs look for `kube-proxy`
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    /// Count the connections to each endpoint; `nft list map ip rulegen endpoints` shows them. In
    /// the configuration: nftables.counters [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(crate) nftables_counters: Option<bool>,

    /// How endpoints are chosen: at random; one after the other (round-robin), where Services with
    /// the same number of endpoints take their turns together; or by the client's address. In the configuration: nftables.loadBalancing; for one Service its annotation
    /// rulegen/load-balancing, which wins [default: random]
    #[arg(long, value_name = "WAY", value_parser = one_of::<LoadBalancing>())]
    pub(crate) load_balancing: Option<Given<LoadBalancing>>,
}

/// A configuration's numbers are signed.
const MAX_SERVICE_SIZE: u64 = i64::MAX as u64;

fn bridge_interface(text: &str) -> Result<String, String> {
    parse_interface(text, LONGEST_INTERFACE)
}

fn interface_prefix(text: &str) -> Result<String, String> {
    parse_interface(text, LONGEST_INTERFACE_PREFIX)
}

fn parse_table(text: &str) -> Result<Name, String> {
    let name = Name::from(text);
    let fits = name.as_str() == text && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let message = "a name is up to 255 letters, digits and _ . / -, a letter first";
    if fits { Ok(name) } else { Err(message.to_owned()) }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(crate) struct KernelArgs {
    /// The variant of iptables [default: the one in which kubelet made its chains, else nft]
    #[arg(long, value_name = "VARIANT")]
    pub(crate) iptables_variant: Option<VariantChoice>,

    #[command(flatten)]
    pub(crate) lock: LockArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantChoice {
    Nft,
    Legacy,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// How long to wait for the lock of iptables, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = DEFAULT_LOCK_SECONDS,
        value_parser = value_parser!(u32).range(1..)
    )]
    pub(crate) iptables_lock_timeout: u32,
}

/// What kube-proxy waits.
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
    /// How much to say on standard error: 0 problems, 2 what is done, 4 every step [default: 0; of
    /// the agent 2]
    #[arg(short = 'v', long = "v", value_name = "LEVEL", action = ArgAction::Set)]
    pub(crate) verbosity: Option<u8>,

    /// How to say it: text, or a JSON object a line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) logging_format: LoggingFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoggingFormat {
    Text,
    Json,
}

/// As Go reads it, and kube-proxy with it.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is needed".to_owned()),
    }
}
