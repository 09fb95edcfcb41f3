//! Receives trace events of any program's trace rules.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nftnl::nftnl_sys::libc;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rulegen_ruleset::nftables::TraceEvent;

use super::event;
use crate::nftables::DataplaneError;
use crate::nftables::batch::message_type;
use crate::nftables::refusal::unreachable;
use crate::nftables::socket::NfTablesSocket;
use rulegen_os::signals::StopSignals;

/// A socket that receives trace events.
pub struct TraceListener {
    socket: NfTablesSocket,
}

/// Result of waiting for trace events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Steps of packets, in order.
    Events(Vec<TraceEvent>),
    /// The socket's buffer overflowed: steps are missing before the next ones.
    Lost,
    /// No event came within the time.
    Timeout,
    /// A stop signal, or a closed output.
    Stop,
}

/// Receive buffer in bytes, enough for about 80,000 steps. The kernel uses the memory only while
/// steps are pending.
const ROOM: usize = 1 << 26;

impl TraceListener {
    /// Receives all trace events of this network namespace from now on.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`].
    pub fn open() -> Result<Self, DataplaneError> {
        // NFNLGRP_NFTRACE of linux/netfilter/nfnetlink.h.
        const GROUP: u32 = 9;
        Ok(Self { socket: NfTablesSocket::of_group(GROUP, ROOM)? })
    }

    /// Waits for steps or a signal. Also stops if `out` has no reader: otherwise only the next
    /// write to it would notice that, perhaps much later.
    ///
    /// # Errors
    /// The socket is unusable: see [`DataplaneError`].
    pub fn next(
        &mut self,
        patience: Duration,
        signals: &StopSignals,
        out: BorrowedFd<'_>,
    ) -> Result<Received, DataplaneError> {
        let is_read = self.wait(patience, signals, out)?;
        if signals.came() || !is_read {
            return Ok(Received::Stop);
        }
        let mut events = Vec::new();
        let received = self.socket.receive_next_event(Some(Duration::ZERO), |message, kind, _| {
            if kind == message_type(libc::NFT_MSG_TRACE) {
                events.extend(event::decode(message, interface));
            }
        });
        match received {
            Ok(true) => Ok(Received::Events(events)),
            Ok(false) => Ok(Received::Timeout),
            Err(DataplaneError::Lost) => Ok(Received::Lost),
            Err(error) => Err(error),
        }
    }

    /// Waits for anything or a timeout. Returns false if `out` has no reader.
    fn wait(
        &self,
        patience: Duration,
        signals: &StopSignals,
        out: BorrowedFd<'_>,
    ) -> Result<bool, DataplaneError> {
        let mut all = [
            PollFd::new(self.socket.descriptor(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            // poll(2) reports a pipe without a reader even if no event was requested.
            PollFd::new(out, PollFlags::empty()),
        ];
        // Truncating to whole milliseconds would turn the last one into a busy loop.
        let patience = patience.saturating_add(Duration::from_millis(1));
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut all, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(unreachable(errno.into())),
        }
        let [.., out] = all;
        Ok(!out.revents().is_some_and(|events| events.contains(PollFlags::POLLERR)))
    }
}

/// Interface names can change, so they are looked up each time.
fn interface(index: u32) -> Option<String> {
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}
