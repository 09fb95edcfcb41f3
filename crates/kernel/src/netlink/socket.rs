//! An nfnetlink socket: requests, dumps, answers and events.
#![allow(unsafe_code, reason = "mnl gives its descriptor and options only raw")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use mnl::mnl_sys;
use nftnl::nftnl_sys::libc;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::{attribute, filter};

pub(crate) struct Socket {
    socket: mnl::Socket,
    buffer: Box<Buffer>,
    /// The receive timeout; zero waits forever.
    patience: Duration,
    /// Room for a batch, in bytes.
    room_to_send: usize,
}

// SAFETY: mnl's socket is a descriptor and its bound address in memory of its own. It is not tied
// to a thread, and `Socket` is not shared between threads.
unsafe impl Send for Socket {}

/// Dumps arrive in pieces of at most 32 KiB, events in smaller ones (netlink_dump() of
/// net/netlink/af_netlink.c, NLMSG_GOODSIZE).
#[repr(C, align(8))]
struct Buffer([u8; 1 << 17]);

/// The fields of struct nlmsghdr of linux/netlink.h.
pub(crate) struct Fields {
    pub(crate) kind: u16,
    flags: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
}

/// Why the kernel gave no answer.
pub(crate) enum SocketError {
    /// The subsystem is not accessible.
    Unreachable(io::Error),
    /// The receive buffer of the socket overflowed.
    Lost,
    /// No answer came within [`PATIENCE`].
    Timeout,
    /// The answer is malformed.
    Malformed(String),
}

/// One message of an answer.
pub(crate) enum AnswerMessage {
    /// One of the requested objects.
    Object,
    /// End of the answer.
    Done,
    /// Refused by the kernel.
    Refused(Errno, Option<String>),
}

/// Result of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dumped {
    /// Complete and consistent.
    Whole,
    /// The content changed during the dump: parts may be missing or duplicated.
    Interrupted,
    /// The requested object does not exist.
    Nothing,
}

impl Socket {
    /// Opens a socket that also receives the events of groups (bits, NFNLGRP_* of
    /// linux/netfilter/nfnetlink.h).
    pub(crate) fn open(groups: u32) -> Result<Self, SocketError> {
        Self::of_bus(mnl::Bus::Netfilter, groups)
    }

    /// Opens a socket of a netlink protocol.
    pub(crate) fn of_bus(bus: mnl::Bus, groups: u32) -> Result<Self, SocketError> {
        let socket = mnl::Socket::open(bus).map_err(SocketError::Unreachable)?;
        socket.bind(groups, mnl_sys::MNL_SOCKET_AUTOPID).map_err(SocketError::Unreachable)?;
        let buffer = Box::new(Buffer([0; 1 << 17]));
        let mut socket = Self { socket, buffer, patience: Duration::ZERO, room_to_send: 0 };
        socket.wait_at_most(PATIENCE);
        socket.room_to_receive(1 << 22);
        // Error answers then contain only the header of the request, and an extended error message.
        socket.turn_on(libc::NETLINK_CAP_ACK);
        socket.turn_on(libc::NETLINK_EXT_ACK);
        Ok(socket)
    }

    /// Port ID of this socket. The kernel identifies the author of a commit by it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.portid()
    }

    /// The cookie of the socket's network namespace: the kernel gives each namespace another one
    /// until the next boot. `None` before Linux 5.14.
    pub(crate) fn namespace_cookie(&self) -> Option<u64> {
        // SO_NETNS_COOKIE of asm-generic/socket.h.
        const NETNS_COOKIE: libc::c_int = 71;
        let mut cookie = 0_u64;
        let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
        // SAFETY: the socket is open, and `length` is the size of `cookie`.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        (done == 0 && cookie != 0).then_some(cookie)
    }

    /// Does not receive the events by the author with this port ID, except those of one type, if it
    /// is given. Where that is not allowed, they are still received.
    pub(crate) fn drop_events_of(&self, port: u32, except: Option<u16>) {
        if let Err(error) = filter::drop_packets_of(self.descriptor(), port, except) {
            tracing::debug!(%error, "cannot filter the socket's events");
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), SocketError> {
        self.socket.send(bytes).map(drop).map_err(SocketError::Unreachable)
    }

    /// Sends a request and passes on the kernel's answers. Its header must have this sequence
    /// number and request an answer or a dump.
    pub(crate) fn ask(
        &mut self,
        request: &[u8],
        sequence: u32,
        is_dump: bool,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Dumped, SocketError> {
        self.send(request)?;
        let mut dumped = Dumped::Whole;
        loop {
            let mut end = None;
            let received = self.receive(|message, fields| {
                if fields.sequence != sequence || end.is_some() {
                    return;
                }
                if fields.flags & INTERRUPTED != 0 {
                    dumped = Dumped::Interrupted;
                }
                match answer(message, fields) {
                    AnswerMessage::Object => each(message),
                    answer => end = Some(answer),
                }
            });
            match received {
                // A dump continues and must be read to its end before the next one.
                Err(SocketError::Lost) if is_dump => dumped = Dumped::Interrupted,
                Err(SocketError::Lost) => {
                    self.drain(|_, _| {});
                    return Err(SocketError::Lost);
                }
                received => received?,
            }
            match end {
                None | Some(AnswerMessage::Object) => {}
                Some(AnswerMessage::Done) => return Ok(dumped),
                Some(AnswerMessage::Refused(Errno::ENOENT, _)) => return Ok(Dumped::Nothing),
                Some(AnswerMessage::Refused(Errno::EINTR, _)) => return Err(SocketError::Lost),
                Some(AnswerMessage::Refused(errno, _)) => return Err(refused_request(errno)),
            }
        }
    }

    /// Reads pending messages without waiting. As long as some are left after an overflow, the
    /// kernel drops new ones without reporting it again (netlink_overrun() of
    /// net/netlink/af_netlink.c).
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&[u8], &Fields)) {
        self.wait_at_most(SHORTEST);
        loop {
            let received = self.receive_raw();
            if matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            match self.split(received, &mut each) {
                Ok(()) | Err(SocketError::Lost) => {}
                Err(_) => break,
            }
        }
        self.wait_at_most(PATIENCE);
    }

    /// Passes on the messages of one event, with the port ID of its author. Returns false on
    /// timeout.
    pub(crate) fn receive_event(
        &mut self,
        patience: Option<Duration>,
        mut each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, SocketError> {
        let received = self.receive_next_event(patience, &mut each);
        if matches!(received, Err(SocketError::Lost)) {
            self.drain(|_, _| {});
        }
        received
    }

    /// Like [`Self::receive_event`], but returns events received before a loss first.
    pub(crate) fn receive_next_event(
        &mut self,
        patience: Option<Duration>,
        mut each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, SocketError> {
        self.wait_at_most(patience.map_or(Duration::ZERO, |time| time.max(SHORTEST)));
        let received = self.receive_raw();
        if matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return Ok(false);
        }
        self.split(received, |message, fields| each(message, fields.kind, fields.port))?;
        Ok(true)
    }

    pub(crate) fn receive(&mut self, each: impl FnMut(&[u8], &Fields)) -> Result<(), SocketError> {
        let received = self.receive_raw();
        self.split(received, each)
    }

    fn receive_raw(&mut self) -> io::Result<usize> {
        loop {
            match self.socket.recv_raw(&mut self.buffer.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }

    fn split(
        &self,
        received: io::Result<usize>,
        mut each: impl FnMut(&[u8], &Fields),
    ) -> Result<(), SocketError> {
        let length =
            received.map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS) => SocketError::Lost,
                Some(Errno::EAGAIN) => SocketError::Timeout,
                _ => SocketError::Unreachable(source),
            })?;
        // The piece must end where a header could start.
        let bytes = self.buffer.0.get(..length.next_multiple_of(4)).unwrap_or_default();
        for message in mnl::NlMessages::new(bytes) {
            let message = message.map_err(|error| SocketError::Malformed(error.to_string()))?;
            if let Some(fields) = fields(message) {
                each(message, &fields);
            }
        }
        Ok(())
    }

    /// Increases the send buffer for a batch, which must be one packet: nfnetlink looks for its end
    /// there. `send` fails with EMSGSIZE if the batch is still too large.
    pub(crate) fn room_to_send(&mut self, bytes: usize) -> Result<(), SocketError> {
        if bytes <= self.room_to_send {
            return Ok(());
        }
        // The kernel doubles the value, and uses a few bytes itself.
        let room = bytes.saturating_add(1 << 16).min(i32::MAX.unsigned_abs() as usize / 2);
        let forced = setsockopt(&self.descriptor(), sockopt::SndBufForce, &room);
        if forced.is_ok() {
            self.room_to_send = bytes;
            return Ok(());
        }
        // In a user namespace, a process can only have the usual limit.
        setsockopt(&self.descriptor(), sockopt::SndBuf, &room)
            .map_err(|errno| SocketError::Unreachable(errno.into()))
    }

    /// Increases the receive buffer. Without the capability it keeps its usual size: answers may
    /// then be lost, which is detected.
    pub(crate) fn room_to_receive(&self, bytes: usize) {
        if let Err(error) = setsockopt(&self.descriptor(), sockopt::RcvBufForce, &bytes) {
            tracing::debug!(%error, bytes, "cannot increase the socket's receive buffer");
        }
    }

    /// Sets the receive timeout; zero waits forever.
    fn wait_at_most(&mut self, patience: Duration) {
        if patience == self.patience {
            return;
        }
        let time = TimeVal::new(
            patience.as_secs().try_into().unwrap_or(i64::MAX),
            patience.subsec_micros().into(),
        );
        match setsockopt(&self.descriptor(), sockopt::ReceiveTimeout, &time) {
            Ok(()) => self.patience = patience,
            Err(error) => tracing::debug!(%error, "cannot set the socket's receive timeout"),
        }
    }

    /// Enables an option. Older kernels lack it, which only costs details in error messages.
    fn turn_on(&self, option: i32) {
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
        // SAFETY: the socket is open, and `length` is the size of `on`.
        unsafe {
            let on: *const libc::c_int = &raw const on;
            mnl_sys::mnl_socket_setsockopt(
                self.socket.as_raw_socket(),
                option,
                on.cast_mut().cast(),
                length,
            );
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as the socket, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Timeout for answers. The kernel answers before `send` returns, so it is reached only if
/// something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Zero would mean forever.
const SHORTEST: Duration = Duration::from_micros(1);

/// For a missing subsystem the kernel answers a request with EINVAL (nfnetlink_rcv_msg() of
/// net/netfilter/nfnetlink.c).
fn refused_request(errno: Errno) -> SocketError {
    let errno = if errno == Errno::EINVAL { Errno::EOPNOTSUPP } else { errno };
    SocketError::Unreachable(errno.into())
}

/// NLMSG_ERROR, NLMSG_DONE and NLM_F_DUMP_INTR of linux/netlink.h.
pub(crate) const ERROR: u16 = 2;
const DONE: u16 = 3;
const INTERRUPTED: u16 = 0x10;

fn fields(message: &[u8]) -> Option<Fields> {
    let half = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let whole = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    Some(Fields { kind: half(4)?, flags: half(6)?, sequence: whole(8)?, port: whole(12)? })
}

pub(crate) fn answer(message: &[u8], fields: &Fields) -> AnswerMessage {
    // After the answer's header: the errno and the header of the request.
    const ERRNO: usize = 16;
    const WORDS: usize = ERRNO + 4 + 16;
    // NLMSGERR_ATTR_MSG.
    const MESSAGE: u16 = 1;
    if fields.kind != ERROR && fields.kind != DONE {
        return AnswerMessage::Object;
    }
    let code = message.get(ERRNO..ERRNO + 4).and_then(|bytes| bytes.try_into().ok());
    match code.map_or(0, i32::from_ne_bytes) {
        0 => AnswerMessage::Done,
        code => {
            let words = attribute::find_behind(message, WORDS, MESSAGE).map(attribute::string);
            AnswerMessage::Refused(Errno::from_raw(code.saturating_neg()), words)
        }
    }
}
