//! Helpers shared by the tests of the whole program.

#![allow(dead_code, reason = "each target uses only a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Rounds of a long test: a fifth, or all with `RULEGEN_TEST_ROUNDS=full` as in `ci/nightly`.
pub(crate) fn rounds(full: usize) -> usize {
    if has_all_rounds() { full } else { full / 5 }
}

/// Whether long tests run all their rounds, as in ci/nightly.
pub(crate) fn has_all_rounds() -> bool {
    std::env::var("RULEGEN_TEST_ROUNDS").as_deref() == Ok("full")
}

/// Runs the program in a folder.
pub(crate) fn rulegen(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rulegen"))
        .args(arguments)
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// The examples in the help of a command, each as one shell line.
pub(crate) fn help_examples(command: &str) -> Vec<String> {
    let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    let help = stdout(&rulegen(&root(), &arguments));
    let heading = |line: &&str| matches!(*line, "Example:" | "Examples:");
    let lines = help.lines().skip_while(|line| !heading(line)).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("  "));
    let mut examples: Vec<String> = Vec::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        match examples.last_mut().filter(|last| last.ends_with(['\\', '|'])) {
            Some(last) => *last = format!("{} {line}", last.trim_end_matches('\\')),
            None => examples.push(line.to_owned()),
        }
    }
    examples
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A readable line-by-line comparison: missing lines with `-`, additional ones with `+`.
pub(crate) fn difference(wanted: &str, found: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (wanted, found) = (lines(wanted), lines(found));
    let missing =
        wanted.iter().filter(|line| !found.contains(line)).map(|line| format!("  -{line}\n"));
    let surplus =
        found.iter().filter(|line| !wanted.contains(line)).map(|line| format!("  +{line}\n"));
    let text: String = missing.chain(surplus).take(40).collect();
    if text.is_empty() { "  the same lines in a different order\n".to_owned() } else { text }
}

/// A folder that is removed when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rulegen-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The last line on standard error if the input is unusable.
pub(crate) const UNUSABLE: &str =
    "error: invalid input or configuration (see above): nothing is printed";

/// A valid manifest to be read together with a broken one.
pub(crate) fn good_path() -> String {
    root().join("tests/good.yaml").to_str().unwrap().to_owned()
}

/// Whether the output contains the rules of that manifest.
pub(crate) fn is_compiled(rules: &str) -> bool {
    [
        "\"default/good:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-",
        "--to-destination 10.244.9.9:8080",
    ]
    .iter()
    .all(|part| rules.contains(part))
}
