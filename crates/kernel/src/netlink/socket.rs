//! A netlink socket to nfnetlink: requests, dumps, answers and events.
#![allow(unsafe_code, reason = "mnl gives its descriptor and options only raw")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use mnl::mnl_sys;
use nftnl::nftnl_sys::libc;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::attribute;

pub(crate) struct Socket {
    socket: mnl::Socket,
    buffer: Box<Buffer>,
}

// SAFETY: mnl's socket is a descriptor and the address that it is bound to, in memory of its own;
// it has no thread that it belongs to, and `Socket` is not shared between threads.
unsafe impl Send for Socket {}

/// Dumps come in pieces of at most 32 KiB, events in smaller ones (netlink_dump() of
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

/// Why nothing more is heard.
pub(crate) enum Failure {
    /// The subsystem cannot be spoken to at all.
    Unreachable(io::Error),
    /// The receive buffer of the socket overflowed.
    Lost,
    /// No answer came within [`PATIENCE`].
    Timeout,
    /// The answer is malformed.
    Misunderstood(String),
}

/// One of many answers that are not for what was asked last.
pub(crate) enum Answer {
    /// One of the objects that were asked for.
    Object,
    /// All was said, or done.
    Done,
    /// The kernel will not.
    Refused(Errno, Option<String>),
}

/// How a dump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dumped {
    /// All of one state.
    Whole,
    /// What is told changed meanwhile: pieces may be missing or there twice.
    Interrupted,
    /// What was asked for is not there.
    Nothing,
}

impl Socket {
    /// A socket that also hears of what is told to groups (bits, NFNLGRP_* of
    /// linux/netfilter/nfnetlink.h).
    pub(crate) fn open(groups: u32) -> Result<Self, Failure> {
        let socket = mnl::Socket::open(mnl::Bus::Netfilter).map_err(Failure::Unreachable)?;
        socket.bind(groups, mnl_sys::MNL_SOCKET_AUTOPID).map_err(Failure::Unreachable)?;
        let socket = Self { socket, buffer: Box::new(Buffer([0; 1 << 17])) };
        socket.wait_at_most(PATIENCE);
        socket.room_to_receive(1 << 22);
        // Answers then hold the header of what they answer, not all of it, and words besides.
        socket.turn_on(libc::NETLINK_CAP_ACK);
        socket.turn_on(libc::NETLINK_EXT_ACK);
        Ok(socket)
    }

    /// The address of this socket, by which the kernel tells whose commit it was.
    pub(crate) fn port(&self) -> u32 {
        self.socket.portid()
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.socket.send(bytes).map(drop).map_err(Failure::Unreachable)
    }

    /// Sends a request, whose header has this sequence number and asks for an answer or a dump,
    /// and hands over what the kernel tells.
    pub(crate) fn ask(
        &mut self,
        request: &[u8],
        sequence: u32,
        is_dump: bool,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Dumped, Failure> {
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
                    Answer::Object => each(message),
                    answer => end = Some(answer),
                }
            });
            match received {
                // A dump goes on, and must be heard to its end before the next.
                Err(Failure::Lost) if is_dump => dumped = Dumped::Interrupted,
                Err(Failure::Lost) => {
                    self.drain(|_, _| {});
                    return Err(Failure::Lost);
                }
                received => received?,
            }
            match end {
                None | Some(Answer::Object) => {}
                Some(Answer::Done) => return Ok(dumped),
                Some(Answer::Refused(Errno::ENOENT, _)) => return Ok(Dumped::Nothing),
                Some(Answer::Refused(Errno::EINTR, _)) => return Err(Failure::Lost),
                Some(Answer::Refused(errno, _)) => return Err(refused_request(errno)),
            }
        }
    }

    /// Takes what is there without waiting. As long as something is left, the kernel drops what
    /// follows and does not say so again (netlink_overrun() of net/netlink/af_netlink.c).
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&[u8], &Fields)) {
        self.wait_at_most(SHORTEST);
        loop {
            let received = self.receive_raw();
            if matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            match self.split(received, &mut each) {
                Ok(()) | Err(Failure::Lost) => {}
                Err(_) => break,
            }
        }
        self.wait_at_most(PATIENCE);
    }

    /// Hands over the messages of one event, with the port of who caused it. Says whether there
    /// were any within the time.
    pub(crate) fn hear(
        &mut self,
        patience: Option<Duration>,
        mut each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, Failure> {
        let heard = self.hear_next(patience, &mut each);
        if matches!(heard, Err(Failure::Lost)) {
            self.drain(|_, _| {});
        }
        heard
    }

    /// The same, where what came before a loss is still of use.
    pub(crate) fn hear_next(
        &mut self,
        patience: Option<Duration>,
        mut each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, Failure> {
        self.wait_at_most(patience.map_or(Duration::ZERO, |time| time.max(SHORTEST)));
        let received = self.receive_raw();
        if matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return Ok(false);
        }
        self.split(received, |message, fields| each(message, fields.kind, fields.port))?;
        Ok(true)
    }

    pub(crate) fn receive(&mut self, each: impl FnMut(&[u8], &Fields)) -> Result<(), Failure> {
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
    ) -> Result<(), Failure> {
        let length =
            received.map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS) => Failure::Lost,
                Some(Errno::EAGAIN) => Failure::Timeout,
                _ => Failure::Unreachable(source),
            })?;
        // What is split must end where a header could stand.
        let bytes = self.buffer.0.get(..length.next_multiple_of(4)).unwrap_or_default();
        for message in mnl::NlMessages::new(bytes) {
            let message = message.map_err(|error| Failure::Misunderstood(error.to_string()))?;
            if let Some(fields) = fields(message) {
                each(message, &fields);
            }
        }
        Ok(())
    }

    /// A batch goes in one piece: nfnetlink looks for its end in the same packet. A batch that
    /// does not fit even so is refused with EMSGSIZE by `send`.
    pub(crate) fn room_to_send(&self, bytes: usize) -> Result<(), Failure> {
        // The kernel doubles it, and keeps a few bytes for itself.
        let room = bytes.saturating_add(1 << 16).min(i32::MAX.unsigned_abs() as usize / 2);
        let forced = setsockopt(&self.descriptor(), sockopt::SndBufForce, &room);
        // In a user namespace of its own a process may have no more than is usual.
        let made = forced.or_else(|_| setsockopt(&self.descriptor(), sockopt::SndBuf, &room));
        made.map_err(|errno| Failure::Unreachable(errno.into()))
    }

    /// Without the capability for more the usual room is left: answers may be lost then, which
    /// is noticed.
    pub(crate) fn room_to_receive(&self, bytes: usize) {
        if let Err(error) = setsockopt(&self.descriptor(), sockopt::RcvBufForce, &bytes) {
            tracing::debug!(%error, bytes, "the socket's room stays as it is");
        }
    }

    /// Forever, if the time is nought.
    fn wait_at_most(&self, time: Duration) {
        let time = TimeVal::new(
            time.as_secs().try_into().unwrap_or(i64::MAX),
            time.subsec_micros().into(),
        );
        if let Err(error) = setsockopt(&self.descriptor(), sockopt::ReceiveTimeout, &time) {
            tracing::debug!(%error, "the socket waits as long as it will");
        }
    }

    /// Options that older kernels lack cost only words.
    fn turn_on(&self, option: i32) {
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
        // SAFETY: the socket is open; `on` is as long as is said.
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
        // SAFETY: the descriptor is open as long as the socket, which is borrowed as long.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// The kernel answers before `send` comes back; this is for a kernel that does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Nought would mean for ever.
const SHORTEST: Duration = Duration::from_micros(1);

/// A subsystem that is not there answers a request with EINVAL (nfnetlink_rcv_msg() of
/// net/netfilter/nfnetlink.c).
fn refused_request(errno: Errno) -> Failure {
    let errno = if errno == Errno::EINVAL { Errno::EOPNOTSUPP } else { errno };
    Failure::Unreachable(errno.into())
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

pub(crate) fn answer(message: &[u8], fields: &Fields) -> Answer {
    // Behind the header of the answer: the errno, and the header of what is answered.
    const ERRNO: usize = 16;
    const WORDS: usize = ERRNO + 4 + 16;
    // NLMSGERR_ATTR_MSG.
    const MESSAGE: u16 = 1;
    if fields.kind != ERROR && fields.kind != DONE {
        return Answer::Object;
    }
    let code = message.get(ERRNO..ERRNO + 4).and_then(|bytes| bytes.try_into().ok());
    match code.map_or(0, i32::from_ne_bytes) {
        0 => Answer::Done,
        code => {
            let words = attribute::find_behind(message, WORDS, MESSAGE).map(attribute::string);
            Answer::Refused(Errno::from_raw(code.saturating_neg()), words)
        }
    }
}
