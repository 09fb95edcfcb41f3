//! Where commands that look at the kernel learn what shall be there.

use std::path::PathBuf;

use clap::Args;

use super::EmptyArgs;

/// Manifests, or the API server, or nothing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where objects come from")]
pub(crate) struct ObjectsArgs {
    /// Manifests: files, folders (*.yaml, *.yml, *.json) or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", num_args = 1.., conflicts_with_all = ["kubeconfig", "context", "master"])]
    pub(crate) filename: Vec<PathBuf>,

    /// Exit with status 1 if anything in the input had to be left out or is warned of
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) empty: EmptyArgs,

    /// Credentials for the API server, which is asked if there are no manifests [default: the
    /// configuration's; without any, only the kernel is looked at]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The API server's address, whatever the kubeconfig says
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,
}
