//! Loads the inputs of commands that inspect the kernel: the configuration, and objects from manifests
//! or the API server.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rulegen_agent::{ApiOptions, list_objects};
use rulegen_config::{BindAddress, ProxyConfig, ProxyMode, RunningConfig};
use rulegen_kernel::nftables::{Error, NfTables};
use rulegen_model::{Cluster, IfEmpty, Objects, Problem, Severity, node_name};
use rulegen_net::IpFamily;

use crate::args::{ObjectsArgs, ProxyArgs};
use crate::configuration::{given_path, given_text};
use crate::input::{completed, host, read_path, refuse_incomplete, warn_of_missing_node};
use crate::problems::say;
use crate::{configuration, problems};

/// The inputs of a command.
pub(crate) struct Inputs {
    /// The configuration. Its mode is the configured one, else that of the rules in the kernel.
    pub(crate) config: ProxyConfig,
    /// Configured address of the agent's metrics and status page.
    pub(crate) metrics_address: BindAddress,
    /// The objects, if a source was given. They were read completely.
    pub(crate) cluster: Option<Cluster>,
}

/// Reads manifests if there are any, else lists objects from the API server if flags or the
/// configuration name one. Prints problems on standard error. Fails if the input is incomplete.
pub(crate) fn find(args: &ObjectsArgs, proxy: &ProxyArgs) -> Result<Inputs> {
    let is_said = proxy.proxy_mode.is_some() || proxy.config.is_some();
    let mode = if is_said { None } else { Some(held_mode(proxy)) };
    find_in_mode(args, proxy, mode, args.empty.meaning())
}

/// The same for `explain`, which accepts a node without Services. The mode is kube-proxy's default
/// unless it is configured or read from the kernel.
pub(crate) fn find_for_packet(
    args: &ObjectsArgs,
    proxy: &ProxyArgs,
    is_live: bool,
) -> Result<Inputs> {
    let is_said = proxy.proxy_mode.is_some() || proxy.config.is_some();
    let mode = if is_said || !is_live { None } else { Some(held_mode(proxy)) };
    let if_empty = match args.empty.meaning() {
        IfEmpty::Refuse => IfEmpty::RefuseWithoutNode,
        meaning => meaning,
    };
    find_in_mode(args, proxy, mode, if_empty)
}

/// The API server cannot be reached. The input itself may be valid.
#[derive(Debug)]
pub(crate) struct Unreachable;

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot list the cluster's objects")
    }
}

fn find_in_mode(
    args: &ObjectsArgs,
    proxy: &ProxyArgs,
    mode: Option<ProxyMode>,
    if_empty: IfEmpty,
) -> Result<Inputs> {
    let (config, mut told) = configuration::load(proxy, mode)?;
    let running = RunningConfig::from(&config);
    let (kubeconfig, metrics_address) = (running.kubeconfig, running.metrics_bind_address);
    let config = ProxyConfig::from(&config);
    let mut objects = Objects::default();
    let cluster = match (args.filename.as_slice(), api_server(args, kubeconfig)) {
        ([], None) => None,
        ([], Some(api)) => {
            let node = node_name(&config.snapshot_options(), &host());
            let wrong = list_objects(&api, &node, &mut objects).context(Unreachable)?;
            told.extend(wrong);
            Some(objects)
        }
        (paths, _) => {
            told.extend(paths.iter().flat_map(|path| read_path(path, &mut objects)));
            let wrong = completed(&mut objects, &told, if_empty);
            told.extend(wrong);
            Some(objects)
        }
    };
    let cluster = cluster.map(|objects| joined(objects, &config, &mut told));
    problems::print(&told);
    refuse_incomplete(&told, "nothing is printed")?;
    let has_warnings = told.iter().any(|problem| problem.severity == Severity::Warning);
    if args.strict && has_warnings {
        bail!("the input has warnings and --strict is set");
    }
    Ok(Inputs { config, metrics_address, cluster })
}

fn joined(objects: Objects, config: &ProxyConfig, told: &mut Vec<Problem>) -> Cluster {
    let (snapshot, wrong) = rulegen::snapshot(&objects, config, &host());
    told.extend(wrong);
    told.extend(warn_of_missing_node(&objects, &snapshot));
    Cluster { objects, snapshot }
}

/// Warns if no mode is configured, so that iptables is used, but the kernel has rules of nftables mode.
pub(crate) fn hint_at_held_mode(proxy: &ProxyArgs, config: &ProxyConfig) {
    let is_said = proxy.proxy_mode.is_some() || proxy.config.is_some();
    if !is_said && config.mode == ProxyMode::Iptables && holds_table(proxy).unwrap_or_default() {
        say(&format!(
            "warning: using iptables mode, but this node has the table {} of nftables mode: did you \
             mean --proxy-mode nftables?",
            proxy.nftables.nftables_table
        ));
    }
}

/// The mode of the rules in the kernel. Without rulegen's table, or without permission to read it, this
/// is kube-proxy's default.
fn held_mode(proxy: &ProxyArgs) -> ProxyMode {
    match holds_table(proxy) {
        Ok(true) => ProxyMode::Nftables,
        Ok(false) => ProxyMode::Iptables,
        Err(error) => {
            say(&format!(
                "note: cannot detect the proxy mode ({error}): using iptables (set --proxy-mode)"
            ));
            ProxyMode::Iptables
        }
    }
}

fn holds_table(proxy: &ProxyArgs) -> Result<bool, Error> {
    let table = &proxy.nftables.nftables_table;
    let mut kernel = NfTables::open()?;
    let mut is_there = |family| kernel.has_all(&[(family, table)]);
    Ok(is_there(IpFamily::Ipv4)? || is_there(IpFamily::Ipv6)?)
}

/// The API server named by flags, or by the configuration if there are no manifests.
fn api_server(args: &ObjectsArgs, configured: Option<PathBuf>) -> Option<ApiOptions> {
    let (named, master) = (given_path(&args.kubeconfig), given_text(&args.master));
    let is_named = named.is_some() || args.context.is_some() || master.is_some();
    let configured = configured.filter(|_| args.filename.is_empty());
    let kubeconfig = named.or(configured);
    (is_named || kubeconfig.is_some()).then(|| ApiOptions {
        kubeconfig,
        context: args.context.clone(),
        master,
    })
}
