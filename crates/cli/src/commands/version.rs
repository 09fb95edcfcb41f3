//! `rulegen version`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use rulegen_model::write_yaml;
use serde::Serialize;

use super::print_with;
use crate::args::{VersionArgs, VersionForm};

/// The field names are stable across versions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    /// The kube-proxy version whose rules and flags this version has.
    kube_proxy_version: &'static str,
    /// Operating system and architecture, in Go's words.
    platform: String,
}

/// See docs/design-decisions.md.
const KUBE_PROXY_VERSION: &str = "1.36";

pub(crate) fn run(args: &VersionArgs) -> Result<ExitCode> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        kube_proxy_version: KUBE_PROXY_VERSION,
        platform: format!("{}/{}", std::env::consts::OS, architecture()),
    };
    print_with(|out| match args.output {
        None => writeln!(out, "rulegen {}", version.version),
        Some(VersionForm::Json) => {
            serde_json::to_writer_pretty(&mut *out, &version).map_err(io::Error::from)?;
            writeln!(out)
        }
        Some(VersionForm::Yaml) => write_yaml(out, &version),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
