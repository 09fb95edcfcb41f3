//! Processes in /proc: those of our PID namespace and its descendants.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;

use crate::printable::program_name;

/// A process of this machine, as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process ID.
    pub pid: u32,
    /// Name, at most 15 bytes (/proc/pid/comm).
    pub name: String,
}

/// Network namespace of a process, relative to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// That of the calling thread.
    Ours,
    /// Another one.
    Other,
    /// Unknown, because reading it requires CAP_SYS_PTRACE.
    Unknown,
}

impl Process {
    /// All visible processes, ordered by ID. Processes that exit during the read may be missing.
    ///
    /// # Errors
    /// /proc cannot be read.
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
        Some(Self { pid, name: name_of(pid)? })
    }

    /// The process of a thread that the kernel reported by ID and name. `None` if it has ended or
    /// the ID belongs to another PID namespace: the kernel reports IDs of the initial one.
    pub fn of_thread(thread: u32, name: &str) -> Option<Self> {
        if !is_first_pid_namespace() || name_of(thread)? != name {
            return None;
        }
        let status = fs::read(format!("/proc/{thread}/status")).ok()?;
        Self::of_pid(number(&String::from_utf8_lossy(&status), "Tgid:")?)
    }

    /// Network namespace of the process; `None` if the process has exited. A proxy in another one has
    /// its own rules and sockets, whatever its PID namespace is.
    pub fn network_namespace(&self) -> Option<NetworkNamespace> {
        let theirs = fs::read_link(self.path("ns/net"));
        match (theirs, fs::read_link("/proc/thread-self/ns/net")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Some(NetworkNamespace::Ours),
            (Ok(_), Ok(_)) => Some(NetworkNamespace::Other),
            (Err(error), _) if is_no_process(&error) => None,
            _ => Some(NetworkNamespace::Unknown),
        }
    }

    /// Process ID of its parent; `None` if it has exited.
    pub(crate) fn parent(&self) -> Option<u32> {
        let status = fs::read(self.path("status")).ok()?;
        number(&String::from_utf8_lossy(&status), "PPid:")
    }

    /// Inode numbers of its sockets; empty without permission.
    pub(crate) fn sockets(&self) -> Vec<u64> {
        let Ok(descriptors) = fs::read_dir(self.path("fd")) else { return Vec::new() };
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter_map(|target| socket_inode(&target)).collect()
    }

    fn path(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(what)
    }
}

/// A process that exits has no namespaces (ENOENT), also while it is a zombie; then it has no ID.
fn is_no_process(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// Name of a process or thread, which may not be UTF-8.
fn name_of(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned())
}

/// A number in the status of a process in /proc (proc_pid_status(5)).
fn number(status: &str, field: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
}

/// True if /proc shows the initial PID namespace, which the kernel's IDs refer to, according to its
/// fixed inode number (PROC_PID_INIT_INO).
fn is_first_pid_namespace() -> bool {
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == FIRST)
}

/// The inode of a link such as `socket:[4711]`.
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
    fn process_list_contains_this_process_in_our_namespace() {
        let own = Process::all().unwrap_or_default();
        let own: Vec<&Process> = own.iter().filter(|p| p.pid == std::process::id()).collect();
        assert!(
            matches!(own[..], [own] if own.network_namespace() == Some(NetworkNamespace::Ours))
        );
    }

    #[test]
    fn process_that_exited_has_no_network_namespace() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process { pid: child.id(), name: "true".to_owned() };
        // A zombie from its exit to our wait.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while process.network_namespace().is_some() {
            assert!(std::time::Instant::now() < deadline, "{:?}", process.network_namespace());
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(process.network_namespace(), None);
    }

    #[test]
    fn process_of_a_thread_is_found() {
        // Test threads have names of their own.
        let own = Process::of_pid(std::process::id());
        let thread = std::thread::Builder::new().name("not-the-process".into()).spawn(|| {
            let thread = nix::unistd::gettid().as_raw().cast_unsigned();
            let found = Process::of_thread(thread, "not-the-process");
            // Another process may have its ID by now, or IDs differ between PID namespaces.
            (found, Process::of_thread(thread, "other"))
        });
        let (found, other) = thread.unwrap().join().unwrap();
        let expected = if is_first_pid_namespace() { own } else { None };
        assert_eq!((found, other), (expected, None));
    }

    #[test]
    fn process_socket_inode_is_read_from_socket_links_only() {
        assert_eq!(socket_inode(Path::new("socket:[4711]")), Some(4711));
        assert_eq!(socket_inode(Path::new("pipe:[4711]")), None);
        assert_eq!(socket_inode(Path::new("/dev/null")), None);
    }
}
