//! `rulegen version`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use rulegen_kernel::LIBRARIES;
use rulegen_model::write_yaml;
use serde::Serialize;

use super::print_with;
use crate::args::{VersionArgs, VersionForm};
use crate::build_info;

/// The field names are stable across versions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    /// The kube-proxy version whose rules and flags this version has.
    kube_proxy_version: &'static str,
    /// Operating system and architecture, in Go's words.
    platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<&'static str>,
    linking: &'static str,
    /// The versions of the C libraries at build time.
    libraries: BTreeMap<&'static str, &'static str>,
}

/// See docs/design-decisions.md.
const KUBE_PROXY_VERSION: &str = "1.36";

pub(crate) fn run(args: &VersionArgs) -> Result<ExitCode> {
    let version = Version {
        version: build_info::VERSION,
        kube_proxy_version: KUBE_PROXY_VERSION,
        platform: format!("{}/{}", std::env::consts::OS, architecture()),
        commit: build_info::COMMIT,
        date: build_info::DATE,
        linking: build_info::LINKING,
        libraries: LIBRARIES.iter().filter_map(|of| Some((of.name, of.version?))).collect(),
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
