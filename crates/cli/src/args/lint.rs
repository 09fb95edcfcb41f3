//! `rulegen lint`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rulegen_lint::FindingSeverity;

use super::LogArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  # Check a folder of manifests, as in a Git repository. This one has errors and warnings
  rulegen lint -f examples/lint

  # Check what a cluster has, with its EndpointSlices and Nodes
  kubectl get nodes,services,endpointslices,servicecidrs -A -o json | rulegen lint -f -

  # Show notes too, and fail on errors only
  rulegen lint -f examples/nodeport.yaml -f examples/clusterip.yaml --severity note --fail-on error

  # Write results for GitHub and for GitLab; list all codes
  rulegen lint -f examples/lint -o sarif > lint.sarif
  rulegen lint -f examples/lint -o codequality > lint.json
  rulegen lint --list

Ignore findings: a comment `# rulegen:ignore CODE,CODE # reason` on a line of its own counts for the \
objects of its YAML document. In JSON, and for one object of a list, use the annotation \
rulegen/lint-ignore: CODE,CODE.

JSON: findings [{code, severity, file, document, line, object {kind, namespace, name}, field, message, \
remedy}]; summary {error, warning, note, hidden, objects}: hidden is the number of findings that are not shown, objects that of checked objects. code is stable, message may change.";

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Manifests: files, folders (*.yaml, *.yml, *.json) or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", required_unless_present = "list")]
    pub(crate) filename: Vec<PathBuf>,

    /// List all codes with their explanation and exit
    #[arg(long, conflicts_with = "filename")]
    pub(crate) list: bool,

    /// Configuration file that the Services will be used with, a KubeProxyConfiguration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The least severe findings that are shown; never hides findings that count for --fail-on
    #[arg(short = 'S', long, value_name = "SEVERITY", default_value = "warning")]
    pub(crate) severity: SeverityChoice,

    /// The least severe findings that make the exit status 1
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    pub(crate) fail_on: SeverityChoice,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: LintForm,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeverityChoice {
    Error,
    Warning,
    Note,
}

impl From<SeverityChoice> for FindingSeverity {
    fn from(choice: SeverityChoice) -> Self {
        match choice {
            SeverityChoice::Error => Self::Error,
            SeverityChoice::Warning => Self::Warning,
            SeverityChoice::Note => Self::Note,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintForm {
    /// One line per finding, and one for its remedy
    Text,
    /// JSON; its fields are described below
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Code Quality report of GitLab (JSON)
    Codequality,
}
