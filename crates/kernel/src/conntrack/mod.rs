//! The conntrack table through netlink (ctnetlink), without external programs. Requires
//! CAP_NET_ADMIN.
//!
//! `message` encodes requests and decodes flows; the socket is that of `netlink`.

mod error;
mod fill;
mod message;

use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::Flow;

pub use error::ConntrackError;
pub use fill::Fill;

use crate::netlink::{Dumped, Socket, SocketError};

/// The conntrack table of one network namespace: that of the thread that called
/// [`Conntrack::open`].
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens a socket to the kernel. A kernel without ctnetlink is noticed only at the first
    /// request, which makes the kernel load the module.
    ///
    /// # Errors
    /// [`ConntrackError::Unreachable`].
    pub fn open() -> Result<Self, ConntrackError> {
        Ok(Self { socket: Socket::open(0)?, sequence: 0 })
    }

    /// Passes on each flow of a family and a protocol, one piece of the list (at most 32 KiB) at a
    /// time. Linux 5.8 and later sends only flows of the protocol; older kernels send all. Flows
    /// that start or end during the dump may be missing, and while the kernel enlarges its hash
    /// table a flow may be missing or duplicated, which it does not always report.
    ///
    /// # Errors
    /// [`ConntrackError::Interrupted`] if flows may be missing: those received were passed on, and the
    /// caller may list again. Otherwise [`ConntrackError::Unreachable`] or [`ConntrackError::Malformed`].
    pub fn for_each(
        &mut self,
        family: IpFamily,
        protocol: Protocol,
        mut each: impl FnMut(Flow),
    ) -> Result<(), ConntrackError> {
        match self.list(family, Some(protocol), protocol, &mut each) {
            // A kernel without filters may refuse the request; it has sent nothing yet.
            Err(error) if error.is_absence() => self.list(family, None, protocol, &mut each),
            listed => listed,
        }
    }

    /// Deletes a flow, whose next packet then starts a new one. Returns false if it did not exist;
    /// a later flow with the same addresses is not deleted.
    ///
    /// # Errors
    /// [`ConntrackError::Unreachable`] or [`ConntrackError::Malformed`]; [`ConntrackError::Interrupted`] if the answer was
    /// lost.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, ConntrackError> {
        let sequence = self.next_sequence();
        let request = message::delete(flow, sequence);
        match self.socket.ask(&request, sequence, false, |_| {})? {
            Dumped::Whole | Dumped::Interrupted => Ok(true),
            Dumped::Nothing => Ok(false),
        }
    }

    fn list(
        &mut self,
        family: IpFamily,
        filter: Option<Protocol>,
        wanted: Protocol,
        each: &mut impl FnMut(Flow),
    ) -> Result<(), ConntrackError> {
        let sequence = self.next_sequence();
        let request = message::list(family, filter, sequence);
        let listed = self.socket.ask(&request, sequence, true, |message| {
            // Older kernels ignore the filter.
            if let Some(flow) = message::flow(message)
                && flow.protocol == wanted
            {
                each(flow);
            }
        })?;
        match listed {
            Dumped::Whole | Dumped::Nothing => Ok(()),
            Dumped::Interrupted => Err(SocketError::Lost.into()),
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}
