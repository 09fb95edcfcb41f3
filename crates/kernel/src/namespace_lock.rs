//! A lock that one process of a network namespace holds: an abstract Unix socket.
//!
//! The kernel keeps the names of abstract sockets for each network namespace, and frees one as soon as
//! its process ends, however it ends. So there are no stale locks, and agents in different
//! network namespaces do not see each other (unix(7)).
//!
//! Every process may take any name. A lock therefore counts only if it belongs to our own user: a pod
//! with the network of the host and without privileges cannot keep the agent from running.

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

/// The lock, which is free again when this value is dropped or the process ends.
#[derive(Debug)]
pub struct NamespaceLock(#[expect(dead_code, reason = "held until it is dropped")] UnixListener);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A process of our own user has it.
    #[error("another process has it ({holder})")]
    Held {
        /// Which one.
        holder: Holder,
    },
    /// A process of another user took the name: it is no lock.
    #[error("its name is taken by a process of another user ({holder})")]
    Foreign {
        /// Which one.
        holder: Holder,
    },
    /// The kernel refuses the socket.
    #[error("the kernel refuses it: {0}")]
    Refused(io::Error),
}

/// A process that has the name of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number; 0 if it is in a PID namespace that we do not see.
    pub pid: i32,
    /// Its user; none if that cannot be found out.
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

/// How often a lock that is held is tried.
const PERIOD: Duration = Duration::from_millis(20);

impl NamespaceLock {
    /// Takes the lock of this name in the network namespace of the calling thread. A process that is
    /// about to end is waited for, at most for `patience`.
    ///
    /// # Errors
    /// Another process has it, or the kernel refuses it.
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

/// The process that listens at the name, by the kernel's word. A name without a listener, or one whose
/// queue is full, tells nothing of its owner.
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
    fn the_second_sees_the_first_and_a_lock_that_is_dropped_is_free_at_once() {
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
    fn a_holder_that_ends_is_waited_for() {
        let name = name("ends");
        let first = NamespaceLock::acquire(&name, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| NamespaceLock::acquire(&name, Duration::from_secs(10)));
            thread::sleep(PERIOD * 3);
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    /// Nobody listens there, so nobody says whose it is.
    #[test]
    fn a_name_without_a_listener_is_no_lock() {
        let name = name("bare");
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
        let lock = NamespaceLock::acquire(&name, Duration::ZERO);
        assert!(matches!(lock, Err(LockError::Foreign { holder: Holder { pid: 0, uid: None } })));
    }

    #[test]
    fn only_our_own_user_holds_a_lock() {
        let of = |uid| held_by(Holder { pid: 7, uid });
        assert!(matches!(of(Some(geteuid().as_raw())), LockError::Held { .. }));
        assert!(matches!(of(Some(geteuid().as_raw() + 1)), LockError::Foreign { .. }));
    }
}
