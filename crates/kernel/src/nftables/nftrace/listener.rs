//! Hears of packets that are traced, whoever asked for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nftnl::nftnl_sys::libc;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rulegen_ruleset::nftables::TraceEvent;

use super::event;
use crate::nftables::Error;
use crate::nftables::batch::message_type;
use crate::nftables::refusal::unreachable;
use crate::nftables::socket::Socket;
use crate::signals::StopSignals;

/// A socket that is told of packets.
pub struct TraceListener {
    socket: Socket,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Steps of packets, in their order.
    Events(Vec<TraceEvent>),
    /// More was told than the socket holds: steps are missing behind those that come next.
    Lost,
    /// Nothing within the time.
    Nothing,
    /// That the program shall end, or that nobody reads what it writes.
    Stop,
}

/// Room for some 80,000 steps, in bytes. The kernel takes it only while they are not fetched.
const ROOM: usize = 1 << 26;

impl TraceListener {
    /// Hears of all that is traced in this network namespace from now on.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open() -> Result<Self, Error> {
        // NFNLGRP_NFTRACE of linux/netfilter/nfnetlink.h.
        const GROUP: u32 = 9;
        Ok(Self { socket: Socket::of_group(GROUP, ROOM)? })
    }

    /// What comes next: steps, or a signal, or nothing within the time. It also is to stop when
    /// nobody reads `out` any more, what is written to which might be long in coming.
    ///
    /// # Errors
    /// The socket is of no more use: see [`Error`].
    pub fn next(
        &mut self,
        patience: Duration,
        signals: &StopSignals,
        out: BorrowedFd<'_>,
    ) -> Result<Heard, Error> {
        let is_read = self.wait(patience, signals, out)?;
        if signals.came() || !is_read {
            return Ok(Heard::Stop);
        }
        let mut events = Vec::new();
        let heard = self.socket.hear_next(Some(Duration::ZERO), |message, kind, _| {
            if kind == message_type(libc::NFT_MSG_TRACE) {
                events.extend(event::decode(message, interface));
            }
        });
        match heard {
            Ok(true) => Ok(Heard::Events(events)),
            Ok(false) => Ok(Heard::Nothing),
            Err(Error::Lost) => Ok(Heard::Lost),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is anything or the time is over. Says whether somebody reads `out`.
    fn wait(
        &self,
        patience: Duration,
        signals: &StopSignals,
        out: BorrowedFd<'_>,
    ) -> Result<bool, Error> {
        let mut all = [
            PollFd::new(self.socket.descriptor(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            // A pipe without a reader is told unasked.
            PollFd::new(out, PollFlags::empty()),
        ];
        // A time that is cut off to whole milliseconds would make the last one a busy loop.
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

/// Names are asked for one by one: they may change.
fn interface(index: u32) -> Option<String> {
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}
