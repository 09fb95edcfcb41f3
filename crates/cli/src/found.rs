//! What a command that looks at the kernel knows besides: objects from manifests or from the API
//! server, if it is told of any.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rulegen_agent::{ApiOptions, list_objects};
use rulegen_kernel::nftables::{Error, NfTables};
use rulegen_model::{
    Objects, Problem, ProxyConfig, ProxyMode, Severity, Snapshot, node_name, read_running_config,
    snapshot,
};
use rulegen_ruleset::Family;

use crate::args::{ObjectsArgs, ProxyArgs};
use crate::input::{host, read_path, warn_of_missing_node};
use crate::problems::say;
use crate::{configuration, problems};

/// What is known before the kernel is looked at.
pub(crate) struct Found {
    /// In the mode that was asked for, else in that of the rules that the kernel holds.
    pub(crate) config: ProxyConfig,
    /// What shall be there, if that is known.
    pub(crate) cluster: Option<Cluster>,
    /// The worst that was wrong with it.
    pub(crate) worst: Option<Severity>,
}

impl Found {
    /// Whether a part of the objects could not be read: what is missing may be of any Service.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.worst >= Some(Severity::Unread)
    }

    /// The cluster, if all of it could be read; says on standard error if not.
    pub(crate) fn whole_cluster(&self) -> Option<&Cluster> {
        if self.is_incomplete() {
            say(
                "note: a part of the objects could not be read (see above), so nothing is compared with them",
            );
            return None;
        }
        self.cluster.as_ref()
    }
}

/// A cluster as this node's proxy sees it.
pub(crate) struct Cluster {
    pub(crate) objects: Objects,
    pub(crate) snapshot: Snapshot,
}

/// Reads manifests if there are any, else asks the API server if one is named, by flags or in the
/// configuration. Tells on standard error what was wrong with them.
pub(crate) fn find(args: &ObjectsArgs, proxy: &ProxyArgs) -> Result<Found> {
    let is_said = proxy.proxy_mode.is_some() || proxy.config.is_some();
    find_in_mode(args, proxy, if is_said { None } else { Some(held_mode(proxy)) })
}

/// The same for what does not look at the kernel: the mode is kube-proxy's default unless it is
/// said.
pub(crate) fn find_without_kernel(args: &ObjectsArgs, proxy: &ProxyArgs) -> Result<Found> {
    find_in_mode(args, proxy, None)
}

fn find_in_mode(args: &ObjectsArgs, proxy: &ProxyArgs, mode: Option<ProxyMode>) -> Result<Found> {
    let (mut config, mut told) = configuration::load(proxy)?;
    config.mode = mode.unwrap_or(config.mode);
    let mut objects = Objects::default();
    let cluster = match (args.filename.as_slice(), api_server(args, proxy, &config)?) {
        ([], None) => None,
        ([], Some(api)) => {
            told.extend(list_objects(&api, &node_name(&config, &host()), &mut objects)?);
            Some(objects)
        }
        (paths, _) => {
            told.extend(paths.iter().flat_map(|path| read_path(path, &mut objects)));
            Some(objects)
        }
    };
    let cluster = cluster.map(|objects| joined(objects, &config, &mut told));
    problems::print(&told);
    let worst = told.iter().map(|problem| problem.severity).max();
    if args.strict && worst >= Some(Severity::Warning) {
        bail!("the input has warnings and --strict is given");
    }
    Ok(Found { config, cluster, worst })
}

fn joined(objects: Objects, config: &ProxyConfig, told: &mut Vec<Problem>) -> Cluster {
    let (snapshot, wrong) = snapshot(&objects, config, &host());
    told.extend(wrong);
    told.extend(warn_of_missing_node(&objects, &snapshot));
    Cluster { objects, snapshot }
}

/// Tells of rules of the other mode, where none was asked for and iptables is meant: what is done
/// then would go beside them.
pub(crate) fn hint_at_held_mode(proxy: &ProxyArgs, config: &ProxyConfig) {
    let is_said = proxy.proxy_mode.is_some() || proxy.config.is_some();
    if !is_said && config.mode == ProxyMode::Iptables && holds_table(proxy).unwrap_or_default() {
        say(&format!(
            "warning: this node has the table {} of nftables mode, and this is about iptables rules: \
             --proxy-mode nftables is probably meant",
            proxy.nftables.nftables_table
        ));
    }
}

/// Where no table of ours is there, or nobody may look, it is the mode that kube-proxy has by
/// default.
fn held_mode(proxy: &ProxyArgs) -> ProxyMode {
    match holds_table(proxy) {
        Ok(true) => ProxyMode::Nftables,
        Ok(false) => ProxyMode::Iptables,
        Err(error) => {
            say(&format!(
                "note: the mode cannot be told ({error}): iptables is assumed (--proxy-mode says otherwise)"
            ));
            ProxyMode::Iptables
        }
    }
}

fn holds_table(proxy: &ProxyArgs) -> Result<bool, Error> {
    let table = &proxy.nftables.nftables_table;
    let mut kernel = NfTables::open()?;
    let mut is_there = |family| kernel.has_all(&[(family, table)]);
    Ok(is_there(Family::Ipv4)? || is_there(Family::Ipv6)?)
}

fn api_server(
    args: &ObjectsArgs,
    proxy: &ProxyArgs,
    config: &ProxyConfig,
) -> Result<Option<ApiOptions>> {
    let is_named = args.kubeconfig.is_some() || args.context.is_some() || args.master.is_some();
    let configured = if args.filename.is_empty() { configured(proxy, config)? } else { None };
    let kubeconfig = args.kubeconfig.clone().or(configured);
    Ok((is_named || kubeconfig.is_some()).then(|| ApiOptions {
        kubeconfig,
        context: args.context.clone(),
        master: args.master.clone(),
    }))
}

/// The kubeconfig that the configuration names.
fn configured(proxy: &ProxyArgs, config: &ProxyConfig) -> Result<Option<PathBuf>> {
    let Some(path) = &proxy.config else { return Ok(None) };
    let file = path.display().to_string();
    let text =
        std::fs::read(path).with_context(|| format!("{file}: the configuration cannot be read"))?;
    // What is wrong with it was told when it was read for the rules.
    Ok(read_running_config(&file, &text, config.mode).0.kubeconfig)
}
