//! The command line. Flags that kube-proxy has keep its names and meanings.

mod agent;
mod choice;
mod doctor;
mod exit_status;
mod explain;
mod golden;
mod hint;
mod ignored;
mod instead;
mod lint;
mod list;
mod listen;
mod objects;
mod selector;
mod shared;
mod test;
mod trace;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use rulegen_ruleset::nftables::Name;

pub(crate) use agent::{AgentArgs, RunningArgs};
pub(crate) use choice::Given;
#[cfg(test)]
pub(crate) use doctor::CHECK_NAMES;
pub(crate) use doctor::{DoctorArgs, DoctorForm};
pub(crate) use explain::{ExplainArgs, ExplainForm, SenderArgument};
pub(crate) use golden::GoldenArgs;
pub(crate) use hint::with_hint;
pub(crate) use ignored::{IgnoredArgs, IgnoredRunningArgs};
pub(crate) use instead::{InsteadArgs, VersionArgs, VersionForm};
pub(crate) use lint::{LintArgs, LintForm};
pub(crate) use list::{ListArgs, ListForm, ServiceArg};
pub(crate) use objects::ObjectsArgs;
use shared::parse_table;
pub(crate) use shared::{
    BackendChoice, EmptyArgs, FamilyArgs, FamilyChoice, InputArgs, KernelArgs, LockArgs, LogArgs,
    LoggingFormat, ProxyArgs, VariantChoice, parse_bool,
};
pub(crate) use test::{TestArgs, TestForm};
pub(crate) use trace::{TraceArgs, TraceDestination, TraceForm};

const ABOUT: &str = "Compiles Kubernetes Services into Linux packet rules, as kube-proxy does";

const LONG_ABOUT: &str = "\
Compiles Kubernetes Services and EndpointSlices into Linux packet rules: the same iptables rules \
that kube-proxy writes, or an equivalent nftables table.

Given manifests, rulegen compiles them for one node and applies the rules to the current network \
namespace. Only differences are written. The manifests are the complete desired state: Services \
in the kernel that are not in the manifests are removed, but only with --prune or after you \
confirm. With --dry-run rulegen prints the rules in the format of iptables-save instead; this \
needs no privileges.";

const EXAMPLES: &str = "\
Examples:
  # Print the rules of a cluster for its node node-1
  kubectl get nodes,services,endpointslices -A -o json |
      rulegen --dry-run -f - --hostname-override node-1 --cluster-cidr 10.244.0.0/16

  # The same with kube-proxy's configuration
  rulegen --dry-run -f cluster.yaml --config kube-proxy.yaml --ip-family ipv6

  # Show what would change in this network namespace; apply it; also remove Services that are not
  # in the file; remove everything
  rulegen diff -f cluster.yaml
  rulegen -f cluster.yaml
  rulegen -f cluster.yaml --prune
  rulegen cleanup --dry-run
  rulegen cleanup

  # Explain what happens to a packet; list the Services in the kernel; diagnose this node
  rulegen explain -f examples/nodeport.yaml --hostname-override node-1 \\
      --from 192.168.1.100 --to 192.168.1.10:30080
  rulegen list
  rulegen doctor

  # Run on a node in place of kube-proxy, with its configuration; or from a folder of manifests
  kubectl -n kube-system get configmap kube-proxy -o 'jsonpath={.data.config\\.conf}' > config.conf
  rulegen agent --config config.conf --kubeconfig /etc/kubernetes/admin.conf \\
      --proxy-mode nftables
  rulegen agent --manifests /etc/rulegen --proxy-mode nftables";

const APPLY_EXAMPLES: &str = "\
Examples:
  # The input is the complete desired state: other Services are listed, and removed with --prune
  rulegen apply -f examples/nodeport.yaml --hostname-override node-1
  rulegen apply -f examples/clusterip.yaml --hostname-override node-1 --prune";

const CLEANUP_EXAMPLES: &str = "\
Examples:
  # Show what would be removed; then remove it without asking
  rulegen cleanup --dry-run
  rulegen cleanup --yes

JSON: dryRun; nftables [{family, table}], tables that are deleted; iptables [{family, variant, \
isClean, summary, kept [{table, chain}]}]; failed, whether any part failed.";

const DIFF_EXAMPLES: &str = "\
Examples:
  rulegen diff -f examples/clusterip.yaml --hostname-override node-1
  rulegen diff --kubeconfig /etc/kubernetes/admin.conf

JSON: mode; services [{namespace, name, port, protocol, action, frontends, objects}]; shared \
[object]; summary {add, change, remove}, the number of Services. action is add, change or remove; \
frontends are [{kind, frontend, action, removed, added, refusedCode}], with the endpoints removed and \
added, and no-endpoints or no-local-endpoints if the desired rules refuse its traffic; an object is \
{object, change, removed, added}, a table, set or chain with its rules or elements.";

/// The arguments of this process. As in kube-proxy, underscores in the name of a flag count as dashes.
pub(crate) fn command_line() -> Vec<OsString> {
    let mut only_values = false;
    let normalized = |argument: OsString| {
        only_values |= argument == "--";
        match argument.to_str() {
            Some(text) if !only_values && text.starts_with("--") => with_dashes(text).into(),
            _ => argument,
        }
    };
    std::env::args_os().map(normalized).collect()
}

fn with_dashes(flag: &str) -> String {
    match flag.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.replace('_', "-")),
        None => flag.replace('_', "-"),
    }
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "rulegen",
    disable_version_flag = true,
    args_override_self = true,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_status::table()),
    args_conflicts_with_subcommands = true,
    mut_arg("filename", |filename| filename.required(false).required_unless_present_any(["cleanup", "version"])),
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    apply: ApplyArgs,

    #[command(flatten)]
    instead: InsteadArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile manifests and apply the rules to this network namespace (the default)
    ///
    /// The manifests are the complete desired state. Services in the kernel that are not in the
    /// manifests are listed and removed, but only with --prune or after you confirm at a terminal.
    /// Otherwise nothing is changed. The same applies to rules written by kube-proxy.
    #[command(after_long_help = exit_status::with("apply", APPLY_EXAMPLES))]
    Apply(ApplyArgs),
    /// Show what apply would change, without changing anything
    ///
    /// Lists per service port the addresses and endpoints that are added (+), changed (~) and removed
    /// (-), with the rules or elements concerned; then the shared chains and sets; then a summary.
    /// Prints nothing if nothing would change.
    #[command(after_long_help = exit_status::with("diff", DIFF_EXAMPLES))]
    Diff(DiffArgs),
    /// List Services, their addresses and endpoints from the rules in the kernel
    ///
    /// Prints one line per frontend, read from the rules regardless of who wrote them. With manifests
    /// or an API server each frontend is compared with its desired state, and differences are shown.
    /// In nftables mode with counters, also shows the number of connections per service port since
    /// its endpoints were added.
    #[command(after_long_help = exit_status::with("list", list::EXAMPLES))]
    List(Box<ListArgs>),
    /// Explain what the rules do with a packet: matching rules, outcome, probability and reason
    ///
    /// Works offline with the rules compiled from manifests, in either mode, or with --live with the
    /// rules in the kernel. The packet is the first of a new connection from a new client; with
    /// --live in nftables mode, a client with session affinity keeps its endpoint. In nftables mode
    /// only rulegen's table is evaluated, or with --live kube-proxy's own if rulegen's does not exist
    /// or has no Services; in iptables mode, all rules that rulegen understands. Rules that were not
    /// evaluated are listed.
    #[command(after_long_help = exit_status::with("explain", explain::EXAMPLES))]
    Explain(Box<ExplainArgs>),
    /// Diagnose this node and suggest fixes
    ///
    /// Checks the kernel, sysctls and the rules of other programs. With -f or --kubeconfig also checks
    /// the cluster's objects: what lint finds in them, rules out of sync, Services without endpoints,
    /// addresses claimed by two Services, node ports in use by a process. Changes nothing: in nftables mode the check
    /// kernel-features sends a batch of example rules that the kernel validates and rolls back.
    /// Requires root or CAP_NET_ADMIN; naming processes requires root. Notes do not affect the exit
    /// status.
    #[command(after_long_help = exit_status::with("doctor", doctor::EXAMPLES))]
    Doctor(Box<DoctorArgs>),
    /// Run tests of what Services do with packets, for CI
    ///
    /// A test file names manifests, a configuration and a node, and cases: who sends a packet, where to,
    /// and what must happen. The rules of both modes are compiled and followed, as explain does; the
    /// kernel is not used, and no privileges are needed. Each failed case is printed with its explanation.
    #[command(after_long_help = exit_status::with("test", test::EXAMPLES))]
    Test(TestArgs),
    /// Find what is wrong with manifests before they are applied, for CI
    ///
    /// Checks Services, EndpointSlices, Nodes and ServiceCIDRs: invalid, unknown and deprecated fields,
    /// addresses and ports that two Services claim, ports without endpoints, source ranges that allow
    /// nobody, and what kube-proxy would ignore. Manifests need no cluster IPs. The kernel is not used,
    /// and no privileges are needed. docs/linting.md explains all codes.
    #[command(after_long_help = exit_status::with("lint", lint::EXAMPLES))]
    Lint(LintArgs),
    /// Keep the rules of nodes as files, and show how a change of manifests changes them, for CI
    ///
    /// DIR has a file golden.yaml that names manifests, nodes and configurations. The rules of each node
    /// with each configuration, in both modes, are kept as files in DIR/rules, which are committed with
    /// the manifests. --check prints what changes by Service. The kernel is not used, and no privileges
    /// are needed.
    #[command(after_long_help = exit_status::with("golden", golden::EXAMPLES))]
    Golden(GoldenArgs),
    /// Trace live packets through the rules (nftables mode)
    ///
    /// Prints each rule that a packet matches, also in other tables, its Service, the chosen endpoint,
    /// the verdict and the reason. For TCP only the first packet of a connection is shown, because
    /// only that packet reaches the rules that choose an endpoint; see --every-packet.
    ///
    /// Tracing is enabled by a separate table, rulegen-trace-N. The kernel removes it when this command
    /// exits, even if it is killed (before Linux 5.12, not if it is killed with SIGKILL). Rules of
    /// iptables-legacy are not shown. Requires CAP_NET_ADMIN.
    #[command(after_long_help = exit_status::with("trace", trace::EXAMPLES))]
    Trace(TraceArgs),
    /// Keep this node's rules in sync, in place of kube-proxy
    ///
    /// Watches the cluster's Services and EndpointSlices, or a folder of manifests, and applies
    /// changes to the kernel. Changes that other programs make to the rules are reverted within a
    /// second; in iptables mode with many Services, within seconds. After the first sync, rules left
    /// by kube-proxy or the other mode are removed. The rules stay in place when the agent exits, and
    /// a restart writes only differences.
    ///
    /// When the file given by --config changes, the agent exits with status 1 so that it is restarted.
    ///
    /// The status page at http://127.0.0.1:10249/ shows health, recent syncs, each Service with its
    /// endpoints, changes by other programs, and explanations of packets.
    #[command(after_long_help = exit_status::with("agent", agent::EXAMPLES))]
    Agent(Box<AgentArgs>),
    /// Remove all rules of rulegen and kube-proxy from the kernel
    ///
    /// Removes the nftables tables rulegen and kube-proxy, and kube-proxy's KUBE-* chains with the
    /// jumps to them from both variants of iptables. Chains owned by others are left untouched: those
    /// of kubelet (KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, and KUBE-FIREWALL if kubelet runs here),
    /// of network plugins, and your own. At a terminal, lists what would be removed and asks.
    #[command(after_long_help = exit_status::with("cleanup", CLEANUP_EXAMPLES))]
    Cleanup(CleanupArgs),
    /// Print the version
    Version(VersionArgs),
    /// Print a shell completion script
    ///
    /// bash:  source <(rulegen completion bash)
    /// zsh:   rulegen completion zsh > ~/.zfunc/_rulegen
    /// fish:  rulegen completion fish > ~/.config/fish/completions/rulegen.fish
    #[command(verbatim_doc_comment)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a folder, for packages
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
}

impl Cli {
    /// The given command; `apply` if there is none. kube-proxy's flags --version and --cleanup stand
    /// for the commands of these names.
    ///
    /// # Errors
    /// There is no manifest to apply: --cleanup=false or --version=false does not replace it.
    pub(crate) fn into_command(self) -> Result<Command, clap::Error> {
        let command = match self.command {
            Some(Command::Agent(args)) => return Ok(agent_or_instead(args)),
            Some(command) => return Ok(command),
            None => self.apply,
        };
        if let Some(version) = self.instead.version() {
            return Ok(Command::Version(version));
        }
        if self.instead.cleanup() {
            return Ok(Command::Cleanup(CleanupArgs {
                dry_run: command.dry_run,
                yes: command.yes,
                ..CleanupArgs::with(command.proxy, command.kernel, command.log)
            }));
        }
        if command.input.filename.is_empty() {
            let message = "the following required arguments were not provided: --filename <PATH>";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message));
        }
        Ok(Command::Apply(command))
    }

    /// Whether the command is `agent`.
    pub(crate) fn is_agent(&self) -> bool {
        matches!(self.command, Some(Command::Agent(_)))
    }

    /// Log verbosity and format.
    pub(crate) fn logging(&self) -> (u8, LoggingFormat) {
        let (log, default) = match &self.command {
            Some(Command::Apply(args)) => (&args.log, 0),
            Some(Command::Diff(args)) => (&args.log, 0),
            Some(Command::List(args)) => (&args.log, 0),
            Some(Command::Explain(args)) => (&args.log, 0),
            Some(Command::Test(args)) => (&args.log, 0),
            Some(Command::Lint(args)) => (&args.log, 0),
            Some(Command::Golden(args)) => (&args.log, 0),
            Some(Command::Trace(args)) => (&args.log, 0),
            Some(Command::Cleanup(args)) => (&args.log, 0),
            Some(Command::Doctor(args)) => (&args.log, 0),
            // At level 2 each sync is one line.
            Some(Command::Agent(args)) => (&args.log, 2),
            Some(Command::Version(_) | Command::Completion { .. } | Command::Man { .. }) => {
                return (0, LoggingFormat::Text);
            }
            None => (&self.apply.log, 0),
        };
        (log.verbosity.unwrap_or(default), log.logging_format)
    }
}

fn agent_or_instead(args: Box<AgentArgs>) -> Command {
    if let Some(version) = args.instead.version() {
        return Command::Version(version);
    }
    if args.instead.cleanup() {
        return Command::Cleanup(CleanupArgs::with(args.proxy, args.kernel, args.log));
    }
    Command::Agent(args)
}

impl Command {
    /// kube-proxy's flags without effect in any command of rulegen.
    pub(crate) fn unsupported(&self) -> Vec<String> {
        match self {
            Command::Apply(args) => args.proxy.unsupported(),
            Command::Diff(args) => args.proxy.unsupported(),
            Command::List(args) => args.proxy.unsupported(),
            Command::Explain(args) => args.proxy.unsupported(),
            Command::Doctor(args) => args.proxy.unsupported(),
            Command::Agent(args) => args.proxy.unsupported(),
            Command::Test(_)
            | Command::Lint(_)
            | Command::Golden(_)
            | Command::Trace(_)
            | Command::Cleanup(_)
            | Command::Version(_)
            | Command::Completion { .. }
            | Command::Man { .. } => Vec::new(),
        }
    }

    /// kube-proxy's flags that only the agent uses.
    pub(crate) fn only_in_agent(&self) -> Vec<&'static str> {
        match self {
            Command::Apply(args) => args.ignored.given(),
            Command::Diff(args) => args.ignored.given(),
            Command::List(args) => args.ignored.given(),
            Command::Explain(args) => args.ignored.given(),
            Command::Doctor(args) => args.ignored.given(),
            Command::Agent(_)
            | Command::Test(_)
            | Command::Lint(_)
            | Command::Golden(_)
            | Command::Trace(_)
            | Command::Cleanup(_)
            | Command::Version(_)
            | Command::Completion { .. }
            | Command::Man { .. } => Vec::new(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Print the rules instead of applying them; needs no privileges
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Remove Services that are in the kernel but not in the input. Without this flag they are
    /// listed, and nothing is changed unless you confirm at a terminal
    #[arg(long)]
    pub(crate) prune: bool,

    #[command(flatten)]
    pub(crate) yes: YesArgs,

    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// Output format of --dry-run [default: depends on the proxy mode]
    #[arg(short, long, value_name = "FORMAT", requires = "dry_run", help_heading = "Output")]
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
    /// Do not ask before removing anything
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) objects: ObjectsArgs,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output: Option<DiffForm>,

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

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Show what would be removed, without removing anything
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) yes: YesArgs,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output: Option<CleanupForm>,

    /// Name of rulegen's nftables table
    #[arg(long, value_name = "NAME", default_value = "rulegen", value_parser = parse_table)]
    pub(crate) nftables_table: Name,

    /// Remove only rulegen's nftables table. Keeps kube-proxy's table and chains, for a rollback to
    /// kube-proxy
    #[arg(long)]
    pub(crate) keep_kube_proxy: bool,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

impl CleanupArgs {
    /// The arguments that other commands have too.
    fn with(proxy: ProxyArgs, kernel: KernelArgs, log: LogArgs) -> Self {
        Self {
            dry_run: false,
            yes: YesArgs { yes: false },
            output: None,
            nftables_table: proxy.nftables.nftables_table,
            keep_kube_proxy: false,
            lock: kernel.lock,
            log,
        }
    }
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
    /// The format of iptables-save
    IptablesSave,
    /// The format of `nft -f`
    Nft,
    /// The tables as JSON
    Json,
}
