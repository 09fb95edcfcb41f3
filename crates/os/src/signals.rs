//! Stop signals, received through a descriptor instead of terminating the program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM and SIGHUP of this process.
pub struct StopSignals(SignalFd);

impl StopSignals {
    /// Blocks the signals in this thread and in threads that it starts later. Threads started
    /// before would still be terminated.
    ///
    /// # Errors
    /// The descriptor cannot be created.
    pub fn hold() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| mask.add(s));
        mask.thread_block()?;
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// True if one of the signals arrived since the last call.
    pub fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
