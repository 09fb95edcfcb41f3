//! The table of connections through netlink (ctnetlink), without any program.
//!
//! `message` writes requests and reads flows; the socket is that of `netlink`.

mod error;
mod fill;
mod message;

use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::Flow;

pub use error::Error;
pub use fill::Fill;

use crate::netlink::{Dumped, Failure, Socket};

/// The connections that conntrack follows in the network namespace that this was made in.
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens a socket to the kernel. Whether it has ctnetlink is seen only at the first question,
    /// which makes the kernel load the module.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(0)?, sequence: 0 })
    }

    /// Hands over each flow of a family and a protocol. Only one piece of the list (at most
    /// 32 KiB) is in memory at a time. Flows that come or go meanwhile may be told or not, and
    /// while the kernel makes its hash table larger a flow may be told twice or not at all,
    /// which it does not always say.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if flows may be missing: those that were there are handed over all
    /// the same, and the caller may list again. Else [`Error::Unreachable`] or
    /// [`Error::Misunderstood`].
    pub fn for_each(
        &mut self,
        family: IpFamily,
        protocol: Protocol,
        mut each: impl FnMut(Flow),
    ) -> Result<(), Error> {
        match self.list(family, Some(protocol), protocol, &mut each) {
            // A kernel that does not know the filter may refuse it, and has told nothing yet.
            Err(error) if error.is_absence() => self.list(family, None, protocol, &mut each),
            listed => listed,
        }
    }

    /// Has the kernel forget a flow, whose next packet then is the first of a new one. Says
    /// whether it was there; one that came after it with the same addresses stays.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Misunderstood`]; [`Error::Interrupted`] if the answer
    /// was lost.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, Error> {
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
    ) -> Result<(), Error> {
        let sequence = self.next_sequence();
        let request = message::list(family, filter, sequence);
        let listed = self.socket.ask(&request, sequence, true, |message| {
            // Older kernels do not look at the filter.
            if let Some(flow) = message::flow(message)
                && flow.protocol == wanted
            {
                each(flow);
            }
        })?;
        match listed {
            Dumped::Whole | Dumped::Nothing => Ok(()),
            Dumped::Interrupted => Err(Failure::Lost.into()),
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}
