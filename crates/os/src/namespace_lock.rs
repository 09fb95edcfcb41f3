//! A lock for one process per network namespace: an abstract Unix socket.
//!
//! The kernel keeps abstract socket names per network namespace and frees a name when its process
//! exits, even if it is killed. Locks are therefore never stale, and agents in different network
//! namespaces do not see each other (unix(7)).
//!
//! Any process can take any name. A lock therefore counts only if it belongs to our own user: an
//! unprivileged pod with hostNetwork cannot block the agent.

use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use nix::unistd::geteuid;

/// A held lock, released when this value is dropped or the process exits.
#[derive(Debug)]
pub struct NamespaceLock(#[expect(dead_code, reason = "held until it is dropped")] UnixListener);

/// Reason that the lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process of our own user holds the lock.
    #[error("lock held by another process ({holder})")]
    Held {
        /// The process.
        holder: Holder,
    },
    /// A process of another user has the name, which does not count as a lock.
    #[error("lock name taken by a process of another user ({holder})")]
    Foreign {
        /// The process.
        holder: Holder,
    },
    /// The socket cannot be created.
    #[error("cannot create the lock's socket: {0}")]
    Refused(io::Error),
}

/// The process that holds the name of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Process ID; 0 if it is in an invisible PID namespace.
    pub pid: i32,
    /// User ID; `None` if unknown.
    pub uid: Option<u32>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            0 => f.write_str("pid unknown")?,
            pid => write!(f, "pid {pid}")?,
        }
        match self.uid {
            Some(uid) => write!(f, ", uid {uid}"),
            None => f.write_str(", uid unknown"),
        }
    }
}

/// Interval between attempts to acquire a held lock.
const PERIOD: Duration = Duration::from_millis(20);

impl NamespaceLock {
    /// Acquires the lock of this name in the network namespace of the calling thread. Waits at most
    /// `patience` for another process to exit.
    ///
    /// # Errors
    /// Another process holds it, or its socket cannot be created.
    pub fn acquire(name: &str, patience: Duration) -> Result<Self, LockError> {
        let end = Instant::now() + patience;
        let address = SocketAddr::from_abstract_name(name).map_err(LockError::Refused)?;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Self(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(LockError::Refused(error)),
            }
            if Instant::now() >= end {
                return Err(held_by(holder(name)));
            }
            thread::sleep(PERIOD);
        }
    }
}

fn held_by(holder: Holder) -> LockError {
    match holder.uid {
        Some(uid) if uid == geteuid().as_raw() => LockError::Held { holder },
        _ => LockError::Foreign { holder },
    }
}

/// The process that listens on the name, as reported by the kernel. The owner of a name without a
/// listener, or with a full queue, is unknown.
fn holder(name: &str) -> Holder {
    let credentials = || -> Result<_, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
        getsockopt(&socket, sockopt::PeerCredentials)
    };
    match credentials() {
        Ok(credentials) => Holder { pid: credentials.pid(), uid: Some(credentials.uid()) },
        Err(_) => Holder { pid: 0, uid: None },
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::bind;

    use super::*;

    fn name(label: &str) -> String {
        format!("rulegen-test-{}-{label}", std::process::id())
    }

    #[test]
    fn namespace_lock_names_its_holder_and_is_free_once_dropped() {
        let name = name("second");
        let first = NamespaceLock::acquire(&name, Duration::ZERO).unwrap();
        let second = NamespaceLock::acquire(&name, Duration::ZERO);
        let ours = std::process::id().cast_signed();
        let is_ours = |holder: &Holder| holder.pid == ours && holder.uid.is_some();
        assert!(
            matches!(&second, Err(LockError::Held { holder }) if is_ours(holder)),
            "{second:?}"
        );
        drop(first);
        NamespaceLock::acquire(&name, Duration::ZERO).unwrap();
    }

    #[test]
    fn namespace_lock_waits_for_a_holder_that_exits() {
        let name = name("ends");
        let first = NamespaceLock::acquire(&name, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| NamespaceLock::acquire(&name, Duration::from_secs(10)));
            thread::sleep(PERIOD * 3);
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    /// Without a listener the owner is unknown.
    #[test]
    fn namespace_lock_ignores_a_name_without_listener() {
        let name = name("bare");
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
        let lock = NamespaceLock::acquire(&name, Duration::ZERO);
        assert!(matches!(lock, Err(LockError::Foreign { holder: Holder { pid: 0, uid: None } })));
    }

    #[test]
    fn namespace_lock_held_by_another_user_is_foreign() {
        let of = |uid| held_by(Holder { pid: 7, uid });
        assert!(matches!(of(Some(geteuid().as_raw())), LockError::Held { .. }));
        assert!(matches!(of(Some(geteuid().as_raw() + 1)), LockError::Foreign { .. }));
    }
}
