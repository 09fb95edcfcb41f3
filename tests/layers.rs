//! The law of the layers, read from the manifests: who may know whom, and where C may be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::root;

/// What a crate of ours may know of our crates, and which kinds of packages only it may use.
const LAW: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("model", &["rulegen-net"]),
    ("ruleset", &["rulegen-net"]),
    ("config", &["rulegen-model", "rulegen-net"]),
    ("compiler", &["rulegen-config", "rulegen-model", "rulegen-net", "rulegen-ruleset"]),
    (
        "inspect",
        &["rulegen-compiler", "rulegen-config", "rulegen-model", "rulegen-net", "rulegen-ruleset"],
    ),
    ("kernel", &["rulegen-net", "rulegen-ruleset"]),
    (
        "agent",
        &[
            "rulegen-compiler",
            "rulegen-config",
            "rulegen-inspect",
            "rulegen-kernel",
            "rulegen-model",
            "rulegen-net",
            "rulegen-ruleset",
        ],
    ),
    (
        "cli",
        &[
            "rulegen-agent",
            "rulegen-compiler",
            "rulegen-config",
            "rulegen-inspect",
            "rulegen-kernel",
            "rulegen-model",
            "rulegen-net",
            "rulegen-ruleset",
        ],
    ),
];

/// Packages and the only crates that may depend on them.
const KEPT: &[(&str, &[&str])] = &[
    ("kube", &["agent"]),
    ("tokio", &["agent", "cli"]),
    ("nftnl", &["kernel"]),
    ("mnl", &["kernel"]),
    ("nix", &["kernel"]),
    ("caps", &["kernel"]),
    ("askama", &["ruleset", "agent"]),
    ("anyhow", &["cli"]),
    ("serde-saphyr", &["model"]),
];

#[test]
fn each_crate_knows_only_those_below_it() {
    for (name, dependencies) in crates() {
        let Some((_, allowed)) = LAW.iter().find(|(of, _)| *of == name) else {
            panic!("crates/{name} has no place in the law of the layers");
        };
        for ours in dependencies.iter().filter(|dependency| dependency.starts_with("rulegen")) {
            assert!(allowed.contains(&ours.as_str()), "crates/{name} may not know {ours}");
        }
    }
}

#[test]
fn packages_stay_where_they_belong() {
    for (name, dependencies) in crates() {
        for (package, keepers) in KEPT {
            let uses = dependencies.contains(*package);
            assert!(
                !uses || keepers.contains(&name.as_str()),
                "crates/{name} may not use {package}"
            );
        }
    }
}

#[test]
fn unsafe_code_is_denied_but_for_a_few_files_of_the_kernel_crate() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"deny\""));
    let kernel = root().join("crates/kernel/src");
    let may: Vec<PathBuf> =
        ["iptables/legacy.rs", "memory.rs", "nftables/raw.rs", "netlink/socket.rs"]
            .iter()
            .map(|file| kernel.join(file))
            .collect();
    for file in sources(&root().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        let allows = text.contains("unsafe_code");
        assert_eq!(allows, may.contains(&file), "{}", file.display());
    }
    for (name, _) in crates() {
        let manifest =
            fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "crates/{name} has lints of its own"
        );
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => vec![path],
            _ if path.is_dir() => sources(&path),
            _ => Vec::new(),
        })
        .collect()
}

/// The dependencies of each crate, those of its tests left out.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    folders
        .map(|folder| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            (name, dependencies(&manifest))
        })
        .collect()
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let name = |line: &str| line.split(['.', ' ', '=']).next().map(str::to_owned);
    section.lines().filter(|line| !line.trim().is_empty()).filter_map(name).collect()
}
