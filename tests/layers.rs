//! Which crate may use which, which file of a crate which, and where C and unsafe code may be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failing test may panic"
)]

mod common;
#[path = "layers/drawing.rs"]
mod drawing;
#[path = "layers/modules.rs"]
mod modules;
#[path = "layers/sentences.rs"]
mod sentences;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::root;

/// Packages and the only crates that may depend on them.
const KEPT: &[(&str, &[&str])] = &[
    ("kube", &["agent"]),
    ("tokio", &["agent", "cli"]),
    ("nftnl", &["kernel"]),
    ("mnl", &["kernel"]),
    ("nix", &["kernel", "os"]),
    ("caps", &["os"]),
    ("askama", &["ruleset", "agent"]),
    ("anyhow", &["cli"]),
    ("serde-saphyr", &["model"]),
];

/// Type names that both backends define, each for the same concept.
const OF_BOTH_BACKENDS: &[&str] = &[
    // Words of both iptables and nft.
    "Chain",
    "Interface",
    "Rule",
    "Table",
    // What a packet meets in the rules of a backend.
    "Branch",
    "Step",
    "Trace",
    "TraceState",
    "Tracer",
    // From a plan to the kernel.
    "Patch",
    "Renderer",
    "Transaction",
    "Watcher",
];

#[test]
fn crates_use_each_other_as_the_drawing_in_architecture_says() {
    let drawn = drawing::arrows(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let crates = crates();
    let names = |map: Vec<&String>| map.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(drawn.keys().collect()),
        names(crates.keys().collect()),
        "the crates in the drawing, and those in crates/"
    );
    for (name, dependencies) in &crates {
        let ours = dependencies.iter().filter_map(|of| of.strip_prefix("rulegen-"));
        let ours: BTreeSet<&str> = ours.collect();
        let allowed = below(&drawn, name);
        for other in &ours {
            assert!(allowed.contains(*other), "no arrow leads from crates/{name} to {other}");
        }
        for other in &drawn[name] {
            let used = ours.contains(other.as_str());
            assert!(used, "crates/{name} does not use {other}, but the drawing has an arrow");
        }
    }
}

/// The crates that the arrows from a crate lead to.
fn below(drawn: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let further = drawn[name].iter().flat_map(|next| below(drawn, next));
    drawn[name].iter().cloned().chain(further).collect()
}

#[test]
fn no_two_files_of_a_crate_use_each_other() {
    let mut circles = Vec::new();
    for name in crates().into_keys() {
        for circle in modules::circles(&root().join("crates").join(&name).join("src")) {
            circles.push(format!("crates/{name}: {circle}"));
        }
    }
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}

/// Outcomes and reasons are types. `words.rs` has their English.
#[test]
fn sentences_about_outcomes_and_reasons_are_in_one_file() {
    let inspect = root().join("crates/inspect/src");
    // These say what is wrong with an argument.
    let of_arguments =
        ["explain/destination.rs", "packet_trace/target.rs"].map(|of| inspect.join(of));
    let folders = ["explain", "rule_role", "packet_trace"].map(|of| inspect.join(of));
    let files = folders.iter().flat_map(|folder| sources(folder));
    let files = files.filter(|of| !of.ends_with("tests.rs") && !of_arguments.contains(of));
    let others: Vec<(PathBuf, Vec<String>)> =
        files.map(|of| (of.clone(), sentences::sentences(&of))).collect();
    let others: Vec<_> = others.iter().filter(|(_, sentences)| !sentences.is_empty()).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(!sentences::sentences(&inspect.join("words.rs")).is_empty());
}

/// The types of tests/ do not count: each folder there is a program of its own, which no crate uses.
#[test]
fn type_names_are_defined_once() {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (name, file) in modules::types(sources(&root().join("crates"))) {
        files.entry(name).or_default().push(file);
    }
    for name in OF_BOTH_BACKENDS {
        let files = files.remove(*name).unwrap_or_default();
        assert!(is_one_per_backend(&files), "{name} is not a type of each backend: {files:?}");
    }
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "type names with several definitions: {files:#?}");
}

fn is_one_per_backend(files: &[PathBuf]) -> bool {
    let is_of = |file: &PathBuf, backend: &str| file.iter().any(|folder| folder == backend);
    let number = |backend| files.iter().filter(|file| is_of(file, backend)).count();
    files.len() == 2 && number("iptables") == 1 && number("nftables") == 1
}

#[test]
fn circles_of_files_are_found_through_reexports_macros_and_attributes() {
    let folder = std::env::temp_dir().join(format!("rulegen-layers-{}", std::process::id()));
    let circles = |files: &[(&str, &str)]| {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let circles = modules::circles(&folder);
        fs::remove_dir_all(&folder).unwrap();
        circles.iter().map(|circle| circle.files().join(" ")).collect::<Vec<_>>()
    };
    let library = ("lib.rs", "mod a; mod b; pub use a::{A, say}; #[cfg(test)] mod tests;");
    let of = |a: &str, b: &str| circles(&[library, ("a.rs", a), ("b.rs", b)]);
    let a = "pub struct A; pub fn say() {} use crate::b::B;";
    assert_eq!(of(a, "pub struct B;"), [""; 0]);
    assert_eq!(of(a, "pub struct B(super::A);"), ["a.rs b.rs"]);
    assert_eq!(of(a, "use crate::*; pub struct B(A);"), ["a.rs b.rs"]);
    assert_eq!(
        of(a, "pub struct B; fn f() { let x = [1]; println!(\"{:?}\", crate::say()); }"),
        ["a.rs b.rs"]
    );
    assert_eq!(of(a, "pub struct B; fn f() { select! { x = crate::say() => {} } }"), ["a.rs b.rs"]);
    assert_eq!(of(a, "#[serde(with = \"crate::A\")] pub struct B;"), ["a.rs b.rs"]);
    assert_eq!(of(a, "pub struct B; #[cfg(test)] mod tests { use crate::A; }"), [""; 0]);
    let parent = ("lib.rs", "mod a; use a::f; pub struct P; fn g() { f(P) }");
    assert_eq!(circles(&[parent, ("a.rs", "pub fn f(_: super::P) {}")]), ["a.rs lib.rs"]);
    let reexport = ("lib.rs", "mod a; pub use a::f; pub struct P;");
    assert_eq!(circles(&[reexport, ("a.rs", "pub fn f(_: super::P) {}")]), [""; 0]);
}

#[test]
fn arrows_of_the_drawing_are_read_with_joined_lines() {
    let drawing =
        "\n## Crates\n```text\n a ──▶ b\n │     │\n ├─────┤\n ▼     ▼\n c     d\n └▶ e ◀┘\n```";
    let arrows = drawing::arrows(drawing);
    let arrows: Vec<String> = arrows
        .iter()
        .map(|(from, to)| format!("{from}: {}", Vec::from_iter(to.iter().cloned()).join(" ")))
        .collect();
    assert_eq!(arrows, ["a: b c d", "b: c d", "c: e", "d: e", "e: "]);
    let crossing = drawing::arrows("\n## Crates\n```text\n   f\n   │\n g ╫─▶ h\n   ▼\n   i\n```");
    let targets = |name: &str| Vec::from_iter(crossing[name].iter().cloned());
    assert_eq!((targets("f"), targets("g")), (vec!["i".to_owned()], vec!["h".to_owned()]));
}

#[test]
fn layers_packages_are_used_only_by_allowed_crates() {
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
fn unsafe_code_is_denied_except_in_six_files_that_call_c() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"deny\""));
    let may = [
        "kernel/src/bpf.rs",
        "kernel/src/iptables/legacy.rs",
        "kernel/src/nftables/raw.rs",
        "kernel/src/netlink/socket.rs",
        "os/src/memory.rs",
        "os/src/resolver.rs",
    ]
    .map(|file| root().join("crates").join(file));
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
