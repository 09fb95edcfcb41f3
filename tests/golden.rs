//! Golden cases: input and output side by side, under `tests/golden` and in `examples`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes what is printed now; read the change
//! before you commit it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{difference, root, rulegen, stderr, stdout};

#[test]
fn folders() {
    let mut cases = Vec::new();
    for folder in entries(&root().join("tests/golden")) {
        let name = |suffix: &str| folder.join(suffix);
        let outputs = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
            [("iptables-save", None), ("nft", Some("nftables"))]
                .map(|(form, mode)| (family, mode, name(&format!("{family}.{form}"))))
        });
        let of_case: Vec<_> = outputs.filter(|(_, _, file)| file.exists()).collect();
        assert!(!of_case.is_empty(), "{} has no expected output", folder.display());
        for (family, mode, output) in of_case {
            cases.push(Case {
                folder: folder.clone(),
                manifest: "cluster.yaml".into(),
                flags: name("flags"),
                family: Some(family),
                mode,
                output,
                stderr: name("stderr"),
            });
        }
    }
    check(&cases, 60);
}

#[test]
fn examples() {
    let folder = root().join("examples");
    let manifests =
        entries(&folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let cases: Vec<Case> = manifests
        .map(|manifest| Case {
            folder: folder.clone(),
            manifest: manifest.file_name().unwrap().to_str().unwrap().to_owned(),
            flags: manifest.with_extension("flags"),
            family: None,
            mode: None,
            output: manifest.with_extension("iptables-save"),
            stderr: manifest.with_extension("stderr"),
        })
        .collect();
    check(&cases, 6);
}

struct Case {
    folder: PathBuf,
    manifest: String,
    flags: PathBuf,
    family: Option<&'static str>,
    /// The proxy mode that the form of the output asks for, if not the one by default.
    mode: Option<&'static str>,
    output: PathBuf,
    /// What is expected on standard error; nothing if there is no such file.
    stderr: PathBuf,
}

fn check(cases: &[Case], least: usize) {
    assert!(cases.len() >= least, "only {} cases were found", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(Case::mismatch).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

impl Case {
    fn has_node(&self) -> bool {
        let text = fs::read_to_string(self.folder.join(&self.manifest)).unwrap();
        text.contains("kind: Node") || text.contains(r#""kind": "Node"#)
    }

    fn mismatch(&self) -> Option<String> {
        let flags = fs::read_to_string(&self.flags).unwrap_or_default();
        let mut arguments = vec!["--dry-run", "-f", &self.manifest];
        arguments.extend(flags.lines());
        if self.family.is_some() && !self.has_node() {
            arguments.extend(["-f", "../../golden-node.yaml"]);
            if !flags.contains("--hostname-override") {
                arguments.extend(["--hostname-override", "node-1"]);
            }
        }
        arguments.extend(self.family.into_iter().flat_map(|family| ["--ip-family", family]));
        arguments.extend(self.mode.into_iter().flat_map(|mode| ["--proxy-mode", mode]));
        let output = rulegen(&self.folder, &arguments);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&self.output, &output.stdout).unwrap();
            if !output.stderr.is_empty() || self.stderr.exists() {
                fs::write(&self.stderr, &output.stderr).unwrap();
            }
        }
        let pairs = [
            (fs::read_to_string(&self.output).unwrap_or_default(), stdout(&output)),
            (fs::read_to_string(&self.stderr).unwrap_or_default(), stderr(&output)),
        ];
        let wrong: String = pairs
            .iter()
            .filter(|(wanted, found)| wanted != found)
            .map(|(wanted, found)| difference(wanted, found))
            .collect();
        if !output.status.success() {
            return Some(format!("{}: {}\n{wrong}", self.output.display(), output.status));
        }
        (!wrong.is_empty()).then(|| format!("{}:\n{wrong}", self.output.display()))
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}
