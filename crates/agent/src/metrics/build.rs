//! Build information.

use std::env::consts::{ARCH, OS};

use prometheus::{IntGaugeVec, Opts, Result};

use super::register::Registration;

/// The build information; unknown fields are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// For example `0.1.0`.
    pub version: String,
    /// The git commit.
    pub commit: String,
    /// The commit date, in RFC 3339.
    pub date: String,
}

/// `kubernetes_build_info`, a metric of all Kubernetes components.
pub(super) fn register(register: &Registration<'_>, build: &Build) -> Result<()> {
    let labels = [
        "build_date",
        "compiler",
        "git_commit",
        "git_tree_state",
        "git_version",
        "go_version",
        "major",
        "minor",
        "platform",
    ];
    let help = "Always 1; the labels hold the build information";
    let info = IntGaugeVec::new(Opts::new("kubernetes_build_info", help), &labels)?;
    let info = register.register(info)?;
    let version = format!("v{}", build.version);
    let mut numbers = build.version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let platform = format!("{OS}/{}", go_architecture());
    let values =
        [&build.date, "rustc", &build.commit, "", &version, "", major, minor, platform.as_str()];
    info.get_metric_with_label_values(&values)?.set(1);
    Ok(())
}

/// Go's name of the architecture.
pub(crate) fn go_architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
