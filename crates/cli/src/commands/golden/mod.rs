//! `rulegen golden`: keeps the rules of nodes as files.

mod compare;
mod files;
mod render;
mod settings;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};

use self::files::RulesFolder;
use self::render::{RenderedFiles, RulesFile};
use self::settings::Settings;
use super::print;
use crate::args::GoldenArgs;
use crate::paint::Paint;
use crate::plural::counted;
use crate::problems::{self, print_error, say};

/// The status for an invalid file or input.
const INVALID: u8 = 2;

pub(crate) fn run(args: &GoldenArgs) -> Result<ExitCode> {
    Ok(ExitCode::from(compare_or_update(args).unwrap_or_else(|error| {
        print_error(&error);
        INVALID
    })))
}

fn compare_or_update(args: &GoldenArgs) -> Result<u8> {
    let settings = Settings::read(&args.folder)?;
    let RenderedFiles { files, problems: found } = render::all(&settings, &args.folder)?;
    // They do not change the status: the rules are those that the node would have.
    problems::print(&found.into_iter().collect::<Vec<_>>());
    let folder = RulesFolder::open(&args.folder)?;
    if args.update { update(&folder, &files) } else { check(args, &folder, &files) }
}

fn check(
    args: &GoldenArgs,
    folder: &RulesFolder,
    desired: &BTreeMap<String, RulesFile>,
) -> Result<u8> {
    let paint = Paint::for_stdout();
    // Nodes often have the same changes.
    let mut paths_by_change: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |path: &str, change: String| {
        let path = folder.shown(path);
        match paths_by_change.iter_mut().find(|(of, _)| *of == change) {
            Some((_, paths)) => paths.push(path),
            None => paths_by_change.push((change, vec![path])),
        }
    };
    for (path, file) in desired {
        let stored = folder.read(path)?;
        if stored.as_deref() != Some(&file.text) {
            add(path, compare::describe(stored.as_deref(), file, paint));
        }
    }
    for path in folder.stale(desired)? {
        add(&path, "no node, mode or configuration needs this file\n".to_owned());
    }
    let count: usize = paths_by_change.iter().map(|(_, paths)| paths.len()).sum();
    if count == 0 {
        let are = if desired.len() == 1 { "is" } else { "are" };
        print(&format!("{} {are} up to date\n", counted(desired.len(), "file")))?;
        return Ok(0);
    }
    let mut out = String::new();
    for (change, paths) in &paths_by_change {
        let paths = paths.iter().map(|path| format!("{}\n", paint.bold(path)));
        out += &format!("{}{change}\n", paths.collect::<String>());
    }
    let plural = if count == 1 { "file differs" } else { "files differ" };
    out += &format!(
        "{count} {plural}. If the changes are intended, run: rulegen golden --update {}\n",
        args.folder.display()
    );
    print(&out)?;
    Ok(1)
}

fn update(folder: &RulesFolder, desired: &BTreeMap<String, RulesFile>) -> Result<u8> {
    let foreign: Vec<String> = desired
        .keys()
        .filter(|path| folder.is_foreign(path))
        .map(|path| folder.shown(path))
        .collect();
    if !foreign.is_empty() {
        bail!(
            "{}: not written by rulegen golden, or behind a symbolic link: remove or rename it",
            foreign.join(", ")
        );
    }
    let mut written = 0;
    for (path, file) in desired {
        if folder.read(path)?.as_deref() != Some(&file.text) {
            folder.write(path, &file.text)?;
            written += 1;
        }
    }
    let stale = folder.stale(desired)?;
    for path in &stale {
        folder.remove(path)?;
    }
    let unchanged = desired.len() - written;
    let written = counted(written, "file");
    say(&format!("{written} written, {unchanged} unchanged, {} removed", stale.len()));
    Ok(0)
}
