//! Test files for `rulegen test` with their expected output, in `tests/packet-tests`: `NAME.yaml`, and
//! `NAME.FORMAT` for each format. The last line of the expected output is the exit status.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;

use crate::common::{difference, root, rulegen, stderr, stdout};
use crate::{is_update, stem, with_extension};

/// The formats of which files exist.
const FORMATS: [&str; 4] = ["text", "json", "junit", "tap"];

pub(crate) fn cases() -> Vec<Trial> {
    let files = with_extension(&root().join("tests/packet-tests"), "yaml");
    let trial = |file: std::path::PathBuf| {
        crate::test(format!("packet-tests::{}", stem(&file)), move || mismatch(&file))
    };
    files.into_iter().map(trial).collect()
}

fn mismatch(file: &Path) -> Option<String> {
    let outputs = FORMATS.map(|format| (format, file.with_extension(format)));
    let outputs = outputs.into_iter().filter(|(_, output)| output.exists());
    let wrong: Vec<String> = outputs
        .clone()
        .filter_map(|(format, output)| {
            let found = run(file, format);
            let wanted = fs::read_to_string(&output).unwrap();
            if is_update() {
                fs::write(&output, &found).unwrap();
            }
            (wanted != found).then(|| difference(&wanted, &found))
        })
        .collect();
    match (outputs.count(), wrong.is_empty()) {
        (0, _) => Some("no expected output".to_owned()),
        (_, true) => None,
        (_, false) => Some(wrong.join("\n")),
    }
}

fn run(file: &Path, format: &str) -> String {
    let name = file.file_name().unwrap().to_str().unwrap();
    let output = rulegen(&root().join("tests/packet-tests"), &["test", name, "-o", format]);
    let status = output.status.code().unwrap();
    format!("{}{}exit status {status}\n", stdout(&output), stderr(&output))
}
