//! State of a folder without reading its files.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// State of a folder. Two states are equal if no file that is read was added, removed or changed in
/// between; links are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// `None` if the folder does not exist.
    folder: Option<Identity>,
    /// Sum of a hash of each file: the order in which a file system lists files has no meaning.
    files: u64,
}

/// Identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Fingerprint {
    pub(super) fn of(folder: &Path, is_read: fn(&Path) -> bool) -> Self {
        let Ok(metadata) = fs::metadata(folder) else { return Self::default() };
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let files = names.map(|entry| entry.path()).filter(|path| is_read(path));
        let files = files.map(|path| file(&path)).fold(0, u64::wrapping_add);
        Self { folder: Some(Identity::of(&metadata)), files }
    }

    pub(super) fn folder(&self) -> Option<Identity> {
        self.folder
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

fn file(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.file_name().hash(&mut hasher);
    // Of the link's target, or of the link itself if the target is missing. A program cannot set
    // back the time of change (ctime), unlike the time of modification.
    let metadata = fs::metadata(path).or_else(|_| fs::symlink_metadata(path));
    if let Ok(metadata) = metadata {
        Identity::of(&metadata).hash(&mut hasher);
        (metadata.len(), metadata.mode(), metadata.ctime(), metadata.ctime_nsec())
            .hash(&mut hasher);
    }
    hasher.finish()
}
