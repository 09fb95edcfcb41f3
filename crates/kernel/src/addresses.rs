//! Hears of addresses that come and go.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The kernel cannot tell of addresses. Without it they are known only as of the last look.
#[derive(Debug, thiserror::Error)]
#[error("the kernel cannot tell of addresses (rtnetlink)")]
pub struct Error(#[from] io::Error);

/// A socket that is told of addresses, in the network namespace of the thread that opened it.
pub struct AddressWatcher {
    socket: OwnedFd,
}

impl AddressWatcher {
    /// Watches the addresses of both families from now on. What is read after this (see
    /// [`host::addresses`](crate::host::addresses)) is followed by all changes to it.
    ///
    /// # Errors
    /// When there is no such socket.
    pub fn open() -> Result<Self, Error> {
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

    /// Whether an address came or went within the time; without a time it waits until one does.
    /// Many that come at once are told once. It is also told when an address was prolonged
    /// (router advertisements do it), and when there was more to tell than the socket holds: what
    /// is so is to be read and compared.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<bool, Error> {
        // A time that no clock reaches is none.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let told = self.wait_until(deadline)?;
            if self.drain()? {
                return Ok(true);
            }
            if !told && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // poll(2) counts in whole milliseconds: one more, lest it return too soon.
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

    /// Takes all that is there, and says whether that was anything. As long as something is left,
    /// the kernel drops what follows and does not say so again.
    fn drain(&self) -> io::Result<bool> {
        let mut told = false;
        loop {
            // What it says is no matter: the groups tell of nothing but addresses. The kernel
            // throws away what the buffer does not hold.
            match recv(self.socket.as_raw_fd(), &mut [0; 16], MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS) => told = true,
                Err(Errno::EAGAIN) => return Ok(told),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
const IPV4_ADDRESSES: u32 = 0x10;
const IPV6_ADDRESSES: u32 = 0x100;
