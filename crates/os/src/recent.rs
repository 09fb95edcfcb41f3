//! Lists of recently seen addresses of the kernel module xt_recent.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// Default of the parameter `ip_list_tot`.
const DEFAULT_LIMIT: usize = 100;

/// Number of addresses in each list of this network namespace, by name. Empty if the module is not
/// loaded.
///
/// # Errors
/// The lists cannot be read.
pub fn list_sizes() -> io::Result<BTreeMap<String, usize>> {
    let folder = Path::new("/proc/thread-self/net/xt_recent");
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut sizes = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        // A list may disappear during the read.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        sizes.insert(entry.file_name().to_string_lossy().into_owned(), text.lines().count());
    }
    Ok(sizes)
}

/// Maximum number of addresses per list.
pub fn list_limit() -> usize {
    let text = fs::read_to_string("/sys/module/xt_recent/parameters/ip_list_tot");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_LIMIT)
}
