//! `rulegen test --watch`: runs the tests again when a file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rulegen_model::is_manifest;
use rulegen_os::FolderWatcher;

use super::inputs::LoadedFile;
use super::round;
use crate::args::TestArgs;

/// The time for which one folder is watched before the next one.
const TURN: Duration = Duration::from_millis(100);

/// Inode number, size and time of modification of files; `None` if a file does not exist.
type FileVersions = BTreeMap<PathBuf, Option<(u64, u64, SystemTime)>>;

/// Runs until the process is stopped.
pub(super) fn run(args: &TestArgs) -> Result<()> {
    let mut watchers: BTreeMap<PathBuf, FolderWatcher> = BTreeMap::new();
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let before = versions(&paths);
        let files = round::load_all(args);
        let read: BTreeSet<PathBuf> = files.iter().flat_map(|file| &file.read).cloned().collect();
        if read != paths {
            paths = read;
            let wanted = folders(&files);
            watchers.retain(|folder, _| wanted.contains(folder));
            for folder in wanted {
                let open = |folder: &PathBuf| FolderWatcher::open(folder, |_| true);
                watchers.entry(folder).or_insert_with_key(open);
            }
            // Files may have changed before they were watched.
            continue;
        }
        round::run(args, &files)?;
        // Other files of the folders change too: the output may be written to one of them.
        while !has_changed(&mut watchers)? || versions(&paths) == before {}
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

/// The versions of files, and of the manifests in folders.
fn versions(paths: &BTreeSet<PathBuf>) -> FileVersions {
    let entries = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| is_manifest(path)).collect::<Vec<_>>()
    };
    let files = paths.iter().flat_map(|path| match path.is_dir() {
        true => entries(path),
        false => vec![path.clone()],
    });
    files.map(|path| (path.clone(), version(&path))).collect()
}

fn version(path: &Path) -> Option<(u64, u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
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
