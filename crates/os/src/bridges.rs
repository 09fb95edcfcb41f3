//! Bridge interfaces of this network namespace.

use std::path::Path;
use std::{fs, io};

/// A bridge interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// Name of the interface.
    pub name: String,
    /// Number of connected interfaces.
    pub ports: usize,
}

/// All bridges of the network namespace for which /sys was mounted, ordered by name.
///
/// # Errors
/// /sys cannot be read.
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
