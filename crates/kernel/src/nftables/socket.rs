//! Requests, batches and events of nf_tables.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nftnl::nftnl_sys::libc;
use nix::errno::Errno;

use super::batch::{Finished, message_type};
use super::raw::{MessageHeader, Scratch};
use super::refusal::unreachable;
use super::{DataplaneError, RefusedOperation};
use crate::netlink::{self, AnswerMessage, Dumped, ERROR, Fields, answer};

pub(super) struct NfTablesSocket {
    netlink: netlink::Socket,
    scratch: Scratch,
    sequence: u32,
    read: ReadCost,
}

/// Work of all requests so far: a measure of their cost that does not depend on the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Netlink requests sent.
    pub requests: usize,
    /// Objects received one by one. An answer with several elements counts as one.
    pub found: usize,
    /// Messages of dumps.
    pub dumped: usize,
    /// Bytes received.
    pub bytes: usize,
}

impl NfTablesSocket {
    /// Opens a socket for requests and batches.
    pub(super) fn open() -> Result<Self, DataplaneError> {
        Self::bound_to(0)
    }

    /// Opens a socket that receives an event for each commit to the ruleset (NFNLGRP_NFTABLES of
    /// linux/netfilter/nfnetlink.h).
    pub(super) fn for_events(room: usize) -> Result<Self, DataplaneError> {
        const GROUP: u32 = 7;
        Self::of_group(GROUP, room)
    }

    /// Opens a socket that receives the events of a group, with a buffer of `room` bytes.
    pub(super) fn of_group(group: u32, room: usize) -> Result<Self, DataplaneError> {
        let socket = Self::bound_to(1 << (group - 1))?;
        socket.netlink.room_to_receive(room);
        Ok(socket)
    }

    /// Does not receive the changes by this author, only its generations, where the filter is allowed.
    pub(super) fn drop_changes_of(&self, port: u32) {
        self.netlink.drop_events_of(port, Some(message_type(libc::NFT_MSG_NEWGEN)));
    }

    /// Does not receive the events by this author, where the filter is allowed.
    pub(super) fn drop_events_of(&self, port: u32) {
        self.netlink.drop_events_of(port, None);
    }

    /// File descriptor to poll for events.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.netlink.descriptor()
    }

    fn bound_to(groups: u32) -> Result<Self, DataplaneError> {
        let (netlink, scratch) = (netlink::Socket::open(groups)?, Scratch::new());
        Ok(Self { netlink, scratch, sequence: 1, read: ReadCost::default() })
    }

    /// Port ID of this socket. The kernel identifies the author of a commit by it.
    pub(super) fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// See [`netlink::Socket::namespace_cookie`].
    pub(super) fn namespace_cookie(&self) -> Option<u64> {
        self.netlink.namespace_cookie()
    }

    /// Work of all requests so far.
    pub(super) fn read_cost(&self) -> ReadCost {
        self.read
    }

    /// The first of enough consecutive sequence numbers for a batch.
    pub(super) fn first_sequence(&mut self) -> u32 {
        if self.sequence > u32::MAX / 2 {
            self.sequence = 1;
        }
        self.sequence
    }

    /// Sends a request and passes on the kernel's answers.
    pub(super) fn ask(
        &mut self,
        kind: i32,
        of: u16,
        is_dump: bool,
        body: impl FnOnce(&mut MessageHeader<'_>),
        mut each: impl FnMut(&[u8]),
    ) -> Result<Dumped, DataplaneError> {
        let flags = if is_dump { libc::NLM_F_DUMP } else { libc::NLM_F_ACK };
        let flags = u16::try_from(flags).unwrap_or_default();
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let message = self.scratch.write(message_type(kind), of, flags, sequence, body);
        let read = &mut self.read;
        read.requests += 1;
        Ok(self.netlink.ask(message, sequence, is_dump, |message| {
            let count = if is_dump { &mut read.dumped } else { &mut read.found };
            *count += 1;
            read.bytes += message.len();
            each(message);
        })?)
    }

    /// Sends a batch and returns the operations that the kernel refused. The kernel aborts a batch
    /// `without_end` without an error.
    pub(super) fn commit(&mut self, batch: &Finished) -> Result<(), DataplaneError> {
        self.sequence = batch.sequences.end.wrapping_add(1);
        self.netlink.room_to_send(batch.bytes.len())?;
        self.netlink.send(&batch.bytes)?;
        let mut answers = Answers::new(batch);
        while answers.outcome.is_none() {
            let received = self.netlink.receive(|message, fields| answers.take(message, fields));
            if let Err(failure) = received {
                // The buffer had no room for all answers; those that are left are enough.
                self.netlink.drain(|message, fields| answers.take(message, fields));
                answers.end(failure.into());
            }
        }
        let Answers { outcome, refusals, .. } = answers;
        outcome.unwrap_or(Ok(()))?;
        if refusals.is_empty() { Ok(()) } else { Err(DataplaneError::Refused(refusals)) }
    }

    /// Passes on the messages of one event, with the port ID of its author. Returns false if there
    /// was none in time.
    pub(super) fn receive_event(
        &mut self,
        patience: Option<Duration>,
        each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, DataplaneError> {
        Ok(self.netlink.receive_event(patience, each)?)
    }

    /// Like [`Self::receive_event`], but returns events received before a loss first.
    pub(super) fn receive_next_event(
        &mut self,
        patience: Option<Duration>,
        each: impl FnMut(&[u8], u16, u32),
    ) -> Result<bool, DataplaneError> {
        Ok(self.netlink.receive_next_event(patience, each)?)
    }
}

/// The kernel's answers to a batch.
struct Answers<'a> {
    batch: &'a Finished,
    refusals: Vec<RefusedOperation>,
    /// Set once no more answers follow.
    outcome: Option<Result<(), DataplaneError>>,
}

impl<'a> Answers<'a> {
    fn new(batch: &'a Finished) -> Self {
        Self { batch, refusals: Vec::new(), outcome: None }
    }

    fn take(&mut self, message: &[u8], fields: &Fields) {
        let sequences = &self.batch.sequences;
        let is_ours = fields.kind == ERROR && sequences.contains(&fields.sequence);
        if self.outcome.is_some() || !is_ours {
            return;
        }
        if let AnswerMessage::Refused(errno, words) = answer(message, fields) {
            if fields.sequence == sequences.start {
                self.outcome = refused_whole(errno);
            }
            // Out of memory, the kernel discards all answers except this one.
            if errno == Errno::ENOMEM {
                self.outcome = Some(Ok(()));
            }
            self.refusals.push(self.batch.refusal(fields.sequence, errno, words));
        }
        if fields.sequence == sequences.end.wrapping_sub(1) {
            self.outcome.get_or_insert(Ok(()));
        }
    }

    /// No more answers can be received. A refusal means that the whole batch was aborted; without
    /// one, it is unknown whether the batch took effect.
    fn end(&mut self, error: DataplaneError) {
        let lost = matches!(
            error,
            DataplaneError::Lost | DataplaneError::Timeout { .. } | DataplaneError::Malformed(_)
        );
        let unknown = if lost { DataplaneError::Lost } else { error };
        let known = if self.refusals.is_empty() { Err(unknown) } else { Ok(()) };
        self.outcome.get_or_insert(known);
    }
}

/// Result for a batch refused as a whole, for which no answer to the last message comes.
fn refused_whole(errno: Errno) -> Option<Result<(), DataplaneError>> {
    match errno {
        Errno::ERESTART => Some(Err(DataplaneError::Stale)),
        Errno::EPERM | Errno::EOPNOTSUPP => Some(Err(unreachable(errno.into()))),
        _ => None,
    }
}
