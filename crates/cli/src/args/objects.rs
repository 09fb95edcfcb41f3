//! The source of objects for commands that inspect the kernel.

use std::path::PathBuf;

use clap::Args;
use rulegen_config::ContentType;

use super::EmptyArgs;
use super::choice::{Given, one_of};

/// Manifests, the API server, or none.
#[derive(Debug, Args)]
#[command(next_help_heading = "Source")]
pub(crate) struct ObjectsArgs {
    /// Manifests: files, folders (*.yaml, *.yml, *.json) or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", conflicts_with_all = ["kubeconfig", "context", "master"])]
    pub(crate) filename: Vec<PathBuf>,

    /// Exit with status 1 if the input causes warnings or errors
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) empty: EmptyArgs,

    /// Kubeconfig file, used if there are no manifests [default: the configuration's; without any,
    /// only the kernel is inspected]
    #[arg(long, value_name = "FILE", value_parser = super::shared::any_path())]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current context]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Address of the API server; overrides the kubeconfig
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,

    #[arg(long, hide = true, value_parser = one_of::<ContentType>())]
    pub(crate) kube_api_content_type: Option<Given<ContentType>>,
}
