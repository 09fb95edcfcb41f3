//! A filter of received messages that runs in the kernel (classic BPF, packet(7)).

use std::io;
use std::os::fd::BorrowedFd;

use socket2::{SockFilter, SockRef};

/// Drops packets whose first message is by the author with this port ID, unless it is of the type
/// `except`, if there is one. All messages in a packet of nf_tables events have one author.
///
/// # Errors
/// The process may not set the option, for example because of a seccomp filter.
pub(super) fn drop_packets_of(
    socket: BorrowedFd<'_>,
    port: u32,
    except: Option<u16>,
) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(&program(port, except))
}

/// BPF_* of linux/bpf_common.h.
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// The filter loads numbers as big-endian; those of a netlink header (struct nlmsghdr of
/// linux/netlink.h) are native.
fn program(port: u32, except: Option<u16>) -> [SockFilter; 6] {
    /// Not the type of any message.
    const NONE: u16 = 0;
    const TYPE: u32 = 4;
    const PORT: u32 = 12;
    const WHOLE: u32 = u32::MAX;
    [
        SockFilter::new(LOAD_HALF, 0, 0, TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 2, 0, except.unwrap_or(NONE).to_be().into()),
        SockFilter::new(LOAD_WORD, 0, 0, PORT),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, port.to_be()),
        SockFilter::new(RETURN, 0, 0, WHOLE),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn header(kind: u16, port: u32) -> Vec<u8> {
        let (length, flags, sequence) = (16_u32, 0_u16, 7_u32);
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &sequence.to_ne_bytes(),
            &port.to_ne_bytes(),
        ]
        .concat()
    }

    #[test]
    fn filter_drops_only_packets_of_the_port_without_the_excepted_type() {
        let (own, other) = (0x0102_0304, 0x0403_0201);
        let (new_element, generation) = (0x0a0c, 0x0a0f);
        let passed = |except| {
            let (sender, receiver) = UnixDatagram::pair().unwrap();
            drop_packets_of(receiver.as_fd(), own, except).unwrap();
            receiver.set_nonblocking(true).unwrap();
            let mut buffer = [0; 64];
            let is_received = |(kind, port): &(u16, u32)| {
                let header = header(*kind, *port);
                sender.send(&header).unwrap();
                receiver.recv(&mut buffer).is_ok_and(|length| buffer[..length] == header)
            };
            let mut sent = vec![
                (new_element, own),
                (new_element, other),
                (generation, own),
                (generation, other),
                (0x0c0a, own),
            ];
            sent.retain(is_received);
            sent
        };
        let of_others = [(new_element, other), (generation, other)];
        assert_eq!(passed(None), of_others);
        let with_generations = [(new_element, other), (generation, own), (generation, other)];
        assert_eq!(passed(Some(generation)), with_generations);
    }
}
