//! Commands and what they print, side by side: files of `tests/transcripts`, and the blocks of the
//! documentation that are marked as `console`. Every line that begins with `$ rulegen` is run, and
//! what it prints must be what stands below it.
//!
//! `UPDATE_GOLDEN=1 cargo test --test transcripts` writes what is printed now; read the change
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
use std::process::Command;

use common::{difference, root};

#[test]
fn files() {
    let files = with_extension(&root().join("tests/transcripts"), "txt");
    assert!(files.len() >= 2, "{files:?}");
    check(&files, |_| true);
}

#[test]
fn documentation() {
    let mut files = with_extension(&root().join("docs"), "md");
    files.push(root().join("README.md"));
    let mut inside = false;
    check(&files, |line| {
        if let Some(language) = line.strip_prefix("```") {
            inside = language == "console";
        }
        inside
    });
}

/// Runs the commands on the lines that count, and compares.
fn check(files: &[PathBuf], mut counts: impl FnMut(&str) -> bool) {
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let wanted = fs::read_to_string(file).unwrap();
            let found = run(&wanted, &mut counts);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(file, &found).unwrap();
            }
            (wanted != found)
                .then(|| format!("{}:\n{}", file.display(), difference(&wanted, &found)))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text with what its commands print now.
fn run(text: &str, counts: &mut impl FnMut(&str) -> bool) -> String {
    let mut new = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_command = counts(line) && line.starts_with("$ rulegen ");
        new.push_str(line);
        new.push('\n');
        if !is_command {
            continue;
        }
        let mut command = line.trim_start_matches("$ ").to_owned();
        while command.ends_with('\\') {
            let more = lines.next().unwrap();
            new.push_str(more);
            new.push('\n');
            command = format!("{}{more}", command.trim_end_matches('\\'));
        }
        while lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")).is_some() {}
        new.push_str(&printed(&command));
        if lines.peek().is_some_and(|line| line.starts_with("$ ")) {
            new.push('\n');
        }
    }
    new
}

/// What a command line prints, on both ways, when it is run in the project's root.
fn printed(command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_rulegen"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("({command}) 2>&1")])
        .env("PATH", path)
        .current_dir(root())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|of| of == extension)).collect();
    files.sort();
    files
}
