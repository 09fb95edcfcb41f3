//! Bridges of this network namespace.

use std::path::Path;
use std::{fs, io};

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// The interface.
    pub name: String,
    /// How many interfaces are connected by it.
    pub ports: usize,
}

/// All bridges, ordered by name. They are those of the network namespace that /sys was mounted
/// in.
///
/// # Errors
/// When /sys cannot be read.
pub fn bridges() -> io::Result<Vec<Bridge>> {
    let mut bridges = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        // Only bridges have this folder, with a link for each port.
        if let Some(ports) = count(&entry.path().join("brif")) {
            bridges.push(Bridge { name: entry.file_name().to_string_lossy().into_owned(), ports });
        }
    }
    bridges.sort_unstable();
    Ok(bridges)
}

fn count(folder: &Path) -> Option<usize> {
    Some(fs::read_dir(folder).ok()?.count())
}
