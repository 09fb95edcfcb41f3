//! Loads the inputs of commands that inspect the kernel: the configuration, and objects from manifests
//! or the API server.

use std::fmt;

use anyhow::{Context, Result, bail};
use rulegen_agent::{ApiOptions, list_objects};
use rulegen_config::{BindAddress, Overrides, ProxyConfig, RunningConfig};
use rulegen_model::{
    Cluster, IfEmpty, KnownNodes, Objects, Problem, Severity, Snapshot, node_name,
};

use crate::args::{ObjectsArgs, ProxyArgs};
use crate::configuration::{given_path, given_text, value};
use crate::input::{completed, host, read_path, refuse_incomplete, warn_of_missing_node};
use crate::{configuration, problems};

/// The inputs of a command.
pub(crate) struct Inputs {
    /// The configuration in effect.
    pub(crate) config: ProxyConfig,
    /// Configured address of the agent's metrics and status page.
    pub(crate) metrics_address: BindAddress,
    /// The objects, if a source was given. They were read completely.
    pub(crate) cluster: Option<Cluster>,
    /// The problems of the input, which were printed.
    pub(crate) problems: Vec<Problem>,
    /// Whether the API server was asked for them.
    pub(crate) is_from_api_server: bool,
}

impl Inputs {
    /// The Nodes of which objects are known.
    pub(crate) fn known_nodes(&self) -> KnownNodes {
        if self.is_from_api_server { KnownNodes::OnlyThis } else { KnownNodes::OfInput }
    }
}

/// Reads manifests if there are any, else lists objects from the API server if flags or the
/// configuration name one. Prints problems on standard error. Fails if the input is incomplete.
pub(crate) fn find(args: &ObjectsArgs, proxy: &ProxyArgs) -> Result<Inputs> {
    find_with(args, proxy, configuration::overrides(proxy)?)
}

/// The same, with the labels of Services.
pub(crate) fn find_with_labels(args: &ObjectsArgs, proxy: &ProxyArgs) -> Result<Inputs> {
    let flags = configuration::overrides(proxy)?;
    find_objects(args, proxy, flags, args.empty.meaning(), Objects::with_details())
}

/// The same with flags that override the configuration.
pub(crate) fn find_with(args: &ObjectsArgs, proxy: &ProxyArgs, flags: Overrides) -> Result<Inputs> {
    find_objects(args, proxy, flags, args.empty.meaning(), Objects::default())
}

/// The same for `explain`, which accepts a node without Services. Pods are kept if `has_pods`.
pub(crate) fn find_for_packet(
    args: &ObjectsArgs,
    proxy: &ProxyArgs,
    has_pods: bool,
) -> Result<Inputs> {
    let if_empty = match args.empty.meaning() {
        IfEmpty::Refuse => IfEmpty::RefuseWithoutNode,
        meaning => meaning,
    };
    let objects = if has_pods { Objects::with_details() } else { Objects::default() };
    find_objects(args, proxy, configuration::overrides(proxy)?, if_empty, objects)
}

/// The API server cannot be reached. The input itself may be valid.
#[derive(Debug)]
pub(crate) struct ApiUnreachable;

impl fmt::Display for ApiUnreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot list the cluster's objects")
    }
}

fn find_objects(
    args: &ObjectsArgs,
    proxy: &ProxyArgs,
    flags: Overrides,
    if_empty: IfEmpty,
    mut objects: Objects,
) -> Result<Inputs> {
    let kube_api_content_type = value(&args.kube_api_content_type);
    let flags = Overrides { kube_api_content_type, ..flags };
    let (config, mut problems) = configuration::load_with(proxy, flags)?;
    let running = RunningConfig::from(&config);
    let metrics_address = running.metrics_bind_address;
    let config = ProxyConfig::from(&config);
    let api = api_server(args, &running);
    let is_from_api_server = args.filename.is_empty() && api.is_some();
    let cluster = match (args.filename.as_slice(), api) {
        ([], None) => None,
        ([], Some(api)) => {
            let node = node_name(&config.snapshot_options(), &host());
            problems.extend(list_objects(&api, &node, &mut objects).context(ApiUnreachable)?);
            Some(objects)
        }
        (paths, _) => {
            problems.extend(paths.iter().flat_map(|path| read_path(path, &mut objects)));
            let incomplete = completed(&mut objects, &problems, if_empty);
            problems.extend(incomplete);
            Some(objects)
        }
    };
    let cluster =
        cluster.map(|objects| joined(objects, &config, is_from_api_server, &mut problems));
    problems::print(&problems);
    refuse_incomplete(&problems, "nothing is printed")?;
    let has_warnings = problems.iter().any(|problem| problem.severity == Severity::Warning);
    if args.strict && has_warnings {
        bail!("the input has warnings and --strict is set");
    }
    Ok(Inputs { config, metrics_address, cluster, problems, is_from_api_server })
}

fn joined(
    objects: Objects,
    config: &ProxyConfig,
    is_from_api_server: bool,
    problems: &mut Vec<Problem>,
) -> Cluster {
    let (snapshot, invalid) = rulegen::snapshot(&objects, config, &host());
    problems.extend(invalid);
    problems.extend(match is_from_api_server {
        true => warn_of_unknown_node(&objects, &snapshot),
        false => warn_of_missing_node(&objects, &snapshot),
    });
    Cluster { objects, snapshot }
}

/// The API server was asked only for the Node with this node's name.
fn warn_of_unknown_node(objects: &Objects, snapshot: &Snapshot) -> Option<Problem> {
    objects.nodes.is_empty().then(|| {
        let message = format!(
            "the API server has no Node {:?}: using this host's addresses, and no endpoint counts as \
             local (select one of `kubectl get nodes` with --hostname-override)",
            snapshot.node.name
        );
        Problem::new(Severity::Note, message)
    })
}

/// The API server named by flags, or by the configuration if there are no manifests.
fn api_server(args: &ObjectsArgs, running: &RunningConfig) -> Option<ApiOptions> {
    let (named, master) = (given_path(&args.kubeconfig), given_text(&args.master));
    let is_named = named.is_some() || args.context.is_some() || master.is_some();
    let configured = running.kubeconfig.as_ref().filter(|_| args.filename.is_empty());
    let kubeconfig = named.or(configured.cloned());
    (is_named || kubeconfig.is_some()).then(|| ApiOptions {
        kubeconfig,
        context: args.context.clone(),
        master,
        content_types: running.content_types.clone(),
    })
}
