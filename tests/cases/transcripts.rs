//! Commands with their output: files of `tests/transcripts`, and `console` blocks in the
//! documentation. Every line that begins with `$ rulegen` is run, and must print exactly the lines
//! below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::common::{difference, root};
use crate::{is_update, stem, with_extension};

pub(crate) fn cases() -> Vec<Trial> {
    let transcripts = with_extension(&root().join("tests/transcripts"), "txt");
    let transcripts = transcripts.into_iter().map(|file| {
        crate::test(format!("transcript::{}", stem(&file)), move || mismatch(&file, |_| true))
    });
    let mut pages = with_extension(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    let has_commands = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("```console");
    let pages = pages.into_iter().filter(has_commands).map(|file| {
        crate::test(format!("documentation::{}", stem(&file)), move || {
            let mut inside = false;
            mismatch(&file, |line| {
                if let Some(language) = line.strip_prefix("```") {
                    inside = language == "console";
                }
                inside
            })
        })
    });
    transcripts.chain(pages).collect()
}

/// Runs the commands in the lines that `counts` accepts, and compares the output.
fn mismatch(file: &Path, mut counts: impl FnMut(&str) -> bool) -> Option<String> {
    let wanted = fs::read_to_string(file).unwrap();
    let found = run(&wanted, &mut counts);
    if is_update() {
        fs::write(file, &found).unwrap();
    }
    (wanted != found).then(|| difference(&wanted, &found))
}

/// The text with the current output of its commands.
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

/// Standard output and standard error of a command line in the project's root.
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
