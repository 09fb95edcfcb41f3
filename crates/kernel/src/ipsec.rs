//! IPsec policies (ip-xfrm(8)).

use std::io;

use mnl::Bus;

use crate::netlink::{Dumped, Socket, SocketError, attribute};

/// Whether this network namespace has IPsec policies, which may drop packets or put them into others.
///
/// # Errors
/// The kernel does not answer, or refuses.
pub fn has_policies() -> io::Result<bool> {
    // XFRM_MSG_GETSPDINFO of linux/xfrm.h, NLM_F_REQUEST and NLM_F_ACK of linux/netlink.h.
    const GET_POLICY_INFO: u16 = 0x25;
    const REQUEST_AND_ACK: u16 = 5;
    const LENGTH: u32 = 20;
    const SEQUENCE: u32 = 1;
    let header = [GET_POLICY_INFO.to_ne_bytes(), REQUEST_AND_ACK.to_ne_bytes()].concat();
    let words = [SEQUENCE.to_ne_bytes(), [0; 4], [0; 4]].concat();
    let request = [&LENGTH.to_ne_bytes()[..], &header, &words].concat();
    let mut socket = match Socket::of_bus(Bus::Xfrm, 0) {
        Ok(socket) => socket,
        // A kernel without IPsec.
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut found = false;
    let asked = socket.ask(&request, SEQUENCE, false, |message| found |= counts_policies(message));
    match asked {
        Ok(Dumped::Whole | Dumped::Interrupted | Dumped::Nothing) => Ok(found),
        Err(error) => Err(failed(error)),
    }
}

/// The first three numbers of struct xfrmu_spdinfo: policies for received, sent and forwarded packets.
fn counts_policies(message: &[u8]) -> bool {
    const HEADERS: usize = 16 + 4;
    const NUMBERS: u16 = 1;
    let numbers = attribute::find_behind(message, HEADERS, NUMBERS).unwrap_or_default();
    numbers.iter().take(12).any(|byte| *byte != 0)
}

fn is_absent(error: &SocketError) -> bool {
    matches!(error, SocketError::Unreachable(source) if crate::netlink::is_absence(source))
}

fn failed(error: SocketError) -> io::Error {
    match error {
        SocketError::Unreachable(source) => source,
        SocketError::Lost => io::Error::other("an answer was lost"),
        SocketError::Timeout => io::ErrorKind::TimedOut.into(),
        SocketError::Malformed(text) => io::Error::new(io::ErrorKind::InvalidData, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipsec_policies_are_counted_for_each_direction() {
        let message = |numbers: [u32; 6]| {
            let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
            [vec![0; 20], vec![28, 0, 1, 0], numbers].concat()
        };
        assert!(!counts_policies(&message([0, 0, 0, 4, 5, 6])));
        for numbers in [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 256, 0, 0, 0]] {
            assert!(counts_policies(&message(numbers)), "{numbers:?}");
        }
        assert!(!counts_policies(&[]));
        has_policies().unwrap();
    }
}
