//! Test cases that are data: each folder, file or section is a test with its own name.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the current output. Review the change before
//! you commit it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failed test panics"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod flows;
mod golden;
mod lint;
mod packet_tests;
mod transcripts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = [
        golden::cases(),
        lint::cases(),
        flows::cases(),
        bad_input::cases(),
        packet_tests::cases(),
        transcripts::cases(),
    ];
    libtest_mimic::run(&arguments, cases.into_iter().flatten().collect()).exit_code()
}

/// A test whose check returns a description of what is wrong, if anything.
fn test(name: String, check: impl FnOnce() -> Option<String> + Send + 'static) -> Trial {
    Trial::test(name, || check().map_or(Ok(()), |wrong| Err(Failed::from(wrong))))
}

/// The sorted paths of a folder's entries.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let has = |path: &PathBuf| path.extension().is_some_and(|of| of == extension);
    entries(folder).into_iter().filter(has).collect()
}

/// The name of a file or folder without its extension.
fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}
