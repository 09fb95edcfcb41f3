//! Watches IP addresses that are added or removed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// rtnetlink events are not available. Addresses are then known only from the last read.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch IP addresses (rtnetlink)")]
pub struct AddressError(#[from] io::Error);

/// A socket that receives address events of the network namespace of the thread that opened it.
pub struct AddressWatcher {
    socket: OwnedFd,
}

impl AddressWatcher {
    /// Watches the addresses of both families from now on. A read after this call (see
    /// [`host::addresses`](rulegen_os::host::addresses)) sees every change made before it, and events
    /// report all later ones.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self, AddressError> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )
        .map_err(io::Error::from)?;
        let anybody = 0;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(anybody, IPV4_ADDRESSES | IPV6_ADDRESSES))
            .map_err(io::Error::from)?;
        Ok(Self { socket })
    }

    /// Returns true if an address was added or removed within the time; waits without limit if
    /// `patience` is `None`. Several changes at once are reported once. Also returns true when a
    /// lifetime was extended (by router advertisements) and when the buffer overflowed, so the
    /// caller must read and compare.
    ///
    /// # Errors
    /// The socket is unusable.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<bool, AddressError> {
        // A deadline beyond the clock's range means no deadline.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let changed = self.wait_until(deadline)?;
            if self.drain()? {
                return Ok(true);
            }
            if !changed && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // poll(2) takes whole milliseconds; one is added so that it does not return early.
        let left = left.map(|left| left.saturating_add(Duration::from_millis(1)));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads everything pending; returns true if there was anything. As long as something is left
    /// after an overflow, the kernel drops new messages without reporting it again.
    fn drain(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            // The content does not matter, because the groups report only addresses. The kernel
            // truncates what does not fit.
            match recv(self.socket.as_raw_fd(), &mut [0; 16], MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
const IPV4_ADDRESSES: u32 = 0x10;
const IPV6_ADDRESSES: u32 = 0x100;
