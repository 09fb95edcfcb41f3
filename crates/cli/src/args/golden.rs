//! `rulegen golden`.

use std::path::PathBuf;

use clap::Args;

use super::LogArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  # Show what changes in the rules of the nodes, by Service
  rulegen golden --check examples/golden

  # Write the rules after a change of the manifests, then review and commit them
  rulegen golden --update examples/golden

golden.yaml in DIR:
  manifests: [cluster.yaml]         # files or folders, relative to DIR
  nodes: [node-1, node-2]           # default: all Nodes of the manifests
  modes: [iptables, nftables]       # default: both
  configurations:                   # default: one, named default
  - name: default
    configuration: {clusterCIDR: 10.244.0.0/16}
  - name: production
    config: kube-proxy.yaml         # a file, relative to DIR";

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("action").required(true)))]
pub(crate) struct GoldenArgs {
    /// Compare the files with the rules; exit with status 1 if they differ
    #[arg(long, group = "action")]
    pub(crate) check: bool,

    /// Write the files, and remove files of nodes and configurations that are gone. Files that this
    /// command did not write are never changed
    #[arg(long, group = "action")]
    pub(crate) update: bool,

    /// Folder with golden.yaml. The rules are in its folder `rules`
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}
