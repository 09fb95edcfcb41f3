//! An rtnetlink socket: requests and dumps (rtnetlink(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

// NLM_F_* and NLMSG_* of linux/netlink.h.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

/// Length of struct nlmsghdr.
pub(crate) const HEADER: usize = 16;

/// A socket of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct RouteSocket {
    socket: OwnedFd,
    sequence: u32,
}

impl RouteSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        let anybody = 0;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(anybody, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and decodes its answer.
    pub(crate) fn ask<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        decode: impl Fn(&RouteMessage<'_>) -> T,
    ) -> io::Result<T> {
        self.request(kind, REQUEST, body)?;
        let mut buffer = vec![0; 1 << 15];
        loop {
            let received = self.receive(&mut buffer)?;
            if let Some(message) = answers(received, self.sequence).next() {
                return Ok(decode(&message));
            }
        }
    }

    /// Sends a request for a dump and passes on its messages.
    ///
    /// # Errors
    /// Also if the content changed during the dump.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&RouteMessage<'_>),
    ) -> io::Result<()> {
        self.request(kind, REQUEST | DUMP, body)?;
        let mut buffer = vec![0; 1 << 16];
        let mut is_interrupted = false;
        loop {
            let received = self.receive(&mut buffer)?;
            for message in answers(received, self.sequence) {
                // The dump goes on, and the kernel refuses another one before its end.
                is_interrupted |= message.is_interrupted();
                match message.end_of_dump()? {
                    true if is_interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    true => return Ok(()),
                    false => each(&message),
                }
            }
        }
    }

    pub(crate) fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives messages. The kernel answers before `send` returns.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        const PATIENCE: u16 = 5_000;
        let ready = poll(
            &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(PATIENCE),
        )?;
        if ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// A message with the fields of its header.
pub(crate) struct RouteMessage<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) bytes: &'a [u8],
}

/// The messages that answer the request with this sequence number. An answer to an earlier request
/// may come after its timeout.
pub(crate) fn answers(bytes: &[u8], sequence: u32) -> impl Iterator<Item = RouteMessage<'_>> {
    let mut rest = bytes;
    let messages = std::iter::from_fn(move || {
        let (message, behind) = next(rest)?;
        rest = behind;
        Some(message)
    });
    messages.filter(move |message| message.sequence == sequence)
}

/// The first message, and the rest.
pub(crate) fn next(bytes: &[u8]) -> Option<(RouteMessage<'_>, &[u8])> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, kind_a, kind_b, flags_a, flags_b, e, f, g, h, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    let message = RouteMessage {
        kind: u16::from_ne_bytes([kind_a, kind_b]),
        flags: u16::from_ne_bytes([flags_a, flags_b]),
        sequence: u32::from_ne_bytes([e, f, g, h]),
        bytes: message,
    };
    Some((message, rest))
}

impl RouteMessage<'_> {
    /// The error of a message of type ERROR or DONE; `None` if there is none.
    pub(crate) fn errno(&self) -> Option<Errno> {
        let code = self.bytes.get(HEADER..HEADER + 4)?.try_into().ok()?;
        let code = i32::from_ne_bytes(code);
        (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
    }

    /// Whether the content changed during the dump.
    fn is_interrupted(&self) -> bool {
        self.flags & INTERRUPTED != 0
    }

    /// Whether this message ends a dump.
    pub(crate) fn end_of_dump(&self) -> io::Result<bool> {
        match (self.kind, self.errno()) {
            // A kernel without the feature, or without it for this family.
            (ERROR | DONE, None | Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => Ok(true),
            (ERROR | DONE, Some(errno)) => Err(errno.into()),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::socketpair;

    use super::*;

    impl RouteSocket {
        /// A socket of which the test is the kernel.
        pub(crate) fn pair() -> (OwnedFd, Self) {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (kernel, socket) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
            (kernel, Self { socket, sequence: 0 })
        }
    }

    fn message(kind: u16, flags: u16) -> Vec<u8> {
        let (length, sequence) = (u32::try_from(HEADER + 4).unwrap(), 1_u32);
        let words = [&kind.to_ne_bytes()[..], &flags.to_ne_bytes(), &sequence.to_ne_bytes()];
        [&length.to_ne_bytes()[..], &words.concat(), &[0; 8]].concat()
    }

    /// The rest of an interrupted dump would be mistaken for an answer, or refuse the next one.
    #[test]
    fn interrupted_dump_is_read_to_its_end() {
        let (kernel, mut socket) = RouteSocket::pair();
        for answer in [message(32, 0), message(32, INTERRUPTED), message(32, 0), message(DONE, 0)] {
            send(kernel.as_raw_fd(), &answer, MsgFlags::empty()).unwrap();
        }
        let mut seen = 0;
        let dumped = socket.dump(34, &[0; 12], |_| seen += 1);
        assert_eq!(dumped.unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(seen, 3);
        let left = recv(socket.socket.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT);
        assert_eq!(left, Err(Errno::EAGAIN), "nothing is left to read");
    }
}
