//! Input files with their expected output, in `tests/golden` and in `examples`.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::common::{difference, root, rulegen, stderr, stdout};
use crate::{entries, is_update, stem, with_extension};

pub(crate) fn cases() -> Vec<Trial> {
    let folders = entries(&root().join("tests/golden"));
    let folders = folders.into_iter().map(|folder| {
        let name = format!("golden::{}", stem(&folder));
        crate::test(name, move || {
            let cases = Case::of_folder(&folder);
            match cases.is_empty() {
                true => Some("no expected output".to_owned()),
                false => joined(cases.iter().filter_map(Case::mismatch)),
            }
        })
    });
    let examples = with_extension(&root().join("examples"), "yaml");
    let examples = examples.into_iter().map(|manifest| {
        let name = format!("example::{}", stem(&manifest));
        crate::test(name, move || Case::of_example(&manifest).mismatch())
    });
    folders.chain(examples).collect()
}

fn joined(wrong: impl Iterator<Item = String>) -> Option<String> {
    let wrong: Vec<String> = wrong.collect();
    (!wrong.is_empty()).then(|| wrong.join("\n"))
}

struct Case {
    folder: PathBuf,
    manifest: String,
    flags: PathBuf,
    family: Option<&'static str>,
    /// The proxy mode for this output format, if it is not the default.
    mode: Option<&'static str>,
    output: PathBuf,
    /// The expected standard error. Empty if the file does not exist.
    stderr: PathBuf,
}

impl Case {
    /// One case per expected output in a folder.
    fn of_folder(folder: &Path) -> Vec<Self> {
        let name = |suffix: &str| folder.join(suffix);
        let outputs = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
            [("iptables-save", None), ("nft", Some("nftables"))]
                .map(|(form, mode)| (family, mode, name(&format!("{family}.{form}"))))
        });
        let case = |(family, mode, output)| Self {
            folder: folder.to_owned(),
            manifest: "cluster.yaml".into(),
            flags: name("flags"),
            family: Some(family),
            mode,
            output,
            stderr: name("stderr"),
        };
        outputs.filter(|(_, _, file)| file.exists()).map(case).collect()
    }

    fn of_example(manifest: &Path) -> Self {
        Self {
            folder: manifest.parent().unwrap().to_owned(),
            manifest: manifest.file_name().unwrap().to_str().unwrap().to_owned(),
            flags: manifest.with_extension("flags"),
            family: None,
            mode: None,
            output: manifest.with_extension("iptables-save"),
            stderr: manifest.with_extension("stderr"),
        }
    }

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
        if is_update() {
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
