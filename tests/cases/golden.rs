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
        let printed = shortened(&stdout(&output));
        if is_update() {
            fs::write(&self.output, &printed).unwrap();
            if !output.stderr.is_empty() || self.stderr.exists() {
                fs::write(&self.stderr, &output.stderr).unwrap();
            }
        }
        let pairs = [
            (fs::read_to_string(&self.output).unwrap_or_default(), printed),
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

/// Maximum number of consecutive elements of a table that a golden file shows.
const MOST_ELEMENTS: usize = 200;

/// The text with a count and a hash (FNV-1a) instead of long lists of elements, such as a table of
/// consistent hashing.
fn shortened(text: &str) -> String {
    let is_element = |line: &&str| line.starts_with("\t\t\t");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let runs = lines.chunk_by(|one, next| is_element(one) == is_element(next));
    let run = |run: &[&str]| match run.len() {
        count if count > MOST_ELEMENTS && run.first().is_some_and(is_element) => {
            let bytes = run.iter().flat_map(|line| line.bytes());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
            format!("{}\t\t\t({count} elements with the hash {hash:016x})\n", run[..3].concat())
        }
        _ => run.concat(),
    };
    runs.map(run).collect()
}
