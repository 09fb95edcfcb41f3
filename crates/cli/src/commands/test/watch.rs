//! `rulegen test --watch`: runs the tests again when a file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rulegen_os::FolderWatcher;

use super::inputs::LoadedFile;
use super::round;
use crate::args::TestArgs;

/// The time for which one folder is watched before the next one.
const TURN: Duration = Duration::from_millis(100);

/// Runs until the process is stopped.
pub(super) fn run(args: &TestArgs) -> Result<()> {
    let mut watchers: BTreeMap<PathBuf, FolderWatcher> = BTreeMap::new();
    loop {
        let files = round::load_all(args);
        let wanted = folders(&files);
        watchers.retain(|folder, _| wanted.contains(folder));
        if watchers.len() < wanted.len() {
            let new = wanted.into_iter().map(|folder| {
                let watcher = FolderWatcher::open(&folder, |_| true);
                (folder, watcher)
            });
            let new: BTreeMap<PathBuf, FolderWatcher> = new.collect();
            watchers.extend(new);
            // Files may have changed before they were watched.
            continue;
        }
        round::run(args, &files)?;
        while !has_changed(&mut watchers)? {}
    }
}

/// Whether a file of any folder changed.
fn has_changed(watchers: &mut BTreeMap<PathBuf, FolderWatcher>) -> Result<bool> {
    for (folder, watcher) in watchers {
        let changed = watcher.wait(Some(TURN));
        if changed.with_context(|| format!("{}: cannot watch folder", folder.display()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folders with the files that were read.
fn folders(files: &[LoadedFile]) -> BTreeSet<PathBuf> {
    let folder = |path: &PathBuf| match path.is_dir() {
        true => path.clone(),
        false => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => Path::new(".").to_owned(),
        },
    };
    files.iter().flat_map(|file| &file.read).map(folder).collect()
}
