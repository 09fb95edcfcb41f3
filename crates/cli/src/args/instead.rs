//! kube-proxy's flags that replace the command: --version and --cleanup.

use clap::{Args, ValueEnum};

use super::parse_bool;

#[derive(Debug, Args)]
#[command(next_help_heading = "Options")]
pub(crate) struct InsteadArgs {
    /// Remove all rules and exit; same as `rulegen cleanup`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    cleanup: Option<bool>,

    /// Print the version and exit; `raw` prints all details
    #[arg(short = 'V', long, value_name = "raw", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_version)]
    version: Option<VersionFlag>,
}

/// The values of kube-proxy's --version.
#[derive(Debug, Clone, Copy)]
enum VersionFlag {
    No,
    Short,
    Raw,
}

fn parse_version(text: &str) -> Result<VersionFlag, String> {
    match text {
        "raw" => Ok(VersionFlag::Raw),
        text => match parse_bool(text) {
            Ok(true) => Ok(VersionFlag::Short),
            Ok(false) => Ok(VersionFlag::No),
            Err(_) => Err("expected true, false or raw".to_owned()),
        },
    }
}

impl InsteadArgs {
    pub(super) fn cleanup(&self) -> bool {
        self.cleanup.unwrap_or_default()
    }

    pub(super) fn version(&self) -> Option<VersionArgs> {
        match self.version? {
            VersionFlag::No => None,
            VersionFlag::Short => Some(VersionArgs { output: None }),
            VersionFlag::Raw => Some(VersionArgs { output: Some(VersionForm::Json) }),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<VersionForm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionForm {
    /// JSON
    Json,
    /// YAML
    Yaml,
}
