//! Signals that ask a program to end, told through a descriptor instead of ending it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM and SIGHUP of this process from now on.
pub struct StopSignals(SignalFd);

impl StopSignals {
    /// Holds them back from this thread, and from those that it starts later: threads that are
    /// there already would still be ended by them.
    ///
    /// # Errors
    /// When the kernel has no descriptor left for it.
    pub fn hold() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| mask.add(s));
        mask.thread_block()?;
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Whether one of them came since the last time.
    pub fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
