//! The lock of iptables-legacy (xtables lock).

use std::fs;
use std::os::unix::fs::MetadataExt;

use rulegen_os::printable::program_name;

use super::refusal::RESOURCE_PROBLEM;

/// Path of the lock file. iptables reads the same variable.
pub(super) fn path() -> String {
    std::env::var("XTABLES_LOCKFILE").unwrap_or_else(|_| "/run/xtables.lock".to_owned())
}

/// True if a program of iptables-legacy that ended with this status timed out waiting for the lock.
///
/// It then exits with RESOURCE_PROBLEM, and so does one that cannot open the lock file. A kernel that
/// refuses a table, or a rule that is invalid, gives another status.
pub(super) fn is_timeout(status: i32) -> bool {
    status == RESOURCE_PROBLEM && fs::File::open(path()).is_ok()
}

/// The process that holds the lock, from /proc/locks (proc(5)).
pub(super) fn holder() -> String {
    pid().map_or_else(
        || "another process".to_owned(),
        |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = if name.is_empty() { "a process" } else { name.trim() };
            format!("{} (pid {pid})", program_name(name))
        },
    )
}

fn pid() -> Option<u32> {
    let inode = fs::metadata(path()).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 4711 00:17:1234 0 EOF"
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (kind, pid, file) = (fields.get(1)?, fields.get(4)?, fields.get(5)?);
        let ours = *kind == "FLOCK" && file.rsplit(':').next() == Some(inode.as_str());
        ours.then(|| pid.parse().ok())?
    })
}
