//! Processes, as far as /proc shows them: those of our own PID namespace and those below it.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::printable::program_name;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, at most 15 bytes (/proc/pid/comm).
    pub name: String,
}

/// Whether a process sees the network that we see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// It is in the network namespace of the calling thread.
    Ours,
    /// It is in another.
    Other,
    /// We may not look (it takes CAP_SYS_PTRACE).
    Unknown,
}

impl Process {
    /// All that can be seen, ordered by number. Those that end meanwhile may be missing.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn all() -> io::Result<Vec<Self>> {
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            processes.extend(pid.and_then(Self::of_pid));
        }
        processes.sort_unstable();
        Ok(processes)
    }

    fn of_pid(pid: u32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(Self { pid, name: name.trim_end_matches('\n').to_owned() })
    }

    /// In which network namespace it is. A proxy in another one has rules and sockets of its own,
    /// wherever its PID namespace is.
    pub fn network_namespace(&self) -> NetworkNamespace {
        let theirs = fs::read_link(self.path("ns/net"));
        match (theirs, fs::read_link("/proc/thread-self/ns/net")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => NetworkNamespace::Ours,
            (Ok(_), Ok(_)) => NetworkNamespace::Other,
            _ => NetworkNamespace::Unknown,
        }
    }

    /// The sockets that it holds, by their inode numbers; none if we may not look.
    pub(crate) fn sockets(&self) -> Vec<u64> {
        let Ok(descriptors) = fs::read_dir(self.path("fd")) else { return Vec::new() };
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter_map(|target| socket_inode(&target)).collect()
    }

    fn path(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(what)
    }
}

/// Of a link such as `socket:[4711]`.
fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

impl Display for Process {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", program_name(&self.name), self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_among_the_processes_and_in_our_own_namespace() {
        let own = Process::all().unwrap_or_default();
        let own: Vec<&Process> = own.iter().filter(|p| p.pid == std::process::id()).collect();
        assert!(matches!(own[..], [own] if own.network_namespace() == NetworkNamespace::Ours));
    }

    #[test]
    fn only_sockets_have_the_number_of_one() {
        assert_eq!(socket_inode(Path::new("socket:[4711]")), Some(4711));
        assert_eq!(socket_inode(Path::new("pipe:[4711]")), None);
        assert_eq!(socket_inode(Path::new("/dev/null")), None);
    }
}
