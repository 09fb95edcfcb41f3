//! Encodes transactions as the messages of one netlink batch.

use std::fmt::Display;
use std::ops::Range;

use nftnl::nftnl_sys::libc;
use nix::errno::Errno;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Element, Key, Name, Operation, Set, Transaction};

use super::RefusedOperation;
use super::raw::{Message, Owned, Scratch};
use super::refusal::reason;
use super::{Generation, chain, element, family, rule, set, table};

/// A batch: messages that take effect together or not at all.
pub(super) struct Batch {
    scratch: Scratch,
    bytes: Vec<u8>,
    /// Sequence number of the next message.
    sequence: u32,
    /// Sequence number of the message that begins the batch.
    first: u32,
    steps: Vec<BatchOperation>,
    sets: u32,
    /// Offset of the last message that changes something, in bytes.
    last: usize,
}

/// NLM_F_* of linux/netlink.h.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const AT_END: i32 = libc::NLM_F_CREATE | libc::NLM_F_APPEND;

impl Batch {
    /// Encodes all transactions. The kernel refuses the batch if the ruleset has left the given
    /// generation.
    pub(super) fn new(
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
        first: u32,
    ) -> Self {
        let mut batch = Self::begun(generation, expected(transactions), first);
        for transaction in transactions {
            for operation in &transaction.operations {
                batch.operation(transaction.family, transaction.table, operation);
            }
        }
        batch.asking()
    }

    /// An empty batch with room for this many bytes, for messages that no operation produces. The
    /// kernel refuses it if the ruleset has left the given generation.
    pub(super) fn at(generation: Generation, room: usize, first: u32) -> Self {
        Self::begun(Some(generation), room, first)
    }

    /// True if it has no message between its begin and its end.
    pub(super) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// An empty batch, for messages that no operation produces.
    pub(super) fn empty(first: u32) -> Self {
        Self::begun(None, expected(&[]), first)
    }

    /// Requests an answer to the last message. No message may be added after this.
    pub(super) fn asking(mut self) -> Self {
        self.ask_for_answer();
        self
    }

    fn begun(generation: Option<Generation>, room: usize, first: u32) -> Self {
        let mut batch = Self {
            scratch: Scratch::new(),
            bytes: Vec::with_capacity(room),
            sequence: first,
            first,
            steps: Vec::new(),
            sets: 0,
            last: 0,
        };
        batch.begin(generation);
        batch
    }

    /// Describes the messages added after this, for error messages.
    pub(super) fn step(&mut self, text: String) {
        self.steps.push(BatchOperation { first: self.sequence, text, of_elements: false });
    }

    /// The bytes of a batch to commit.
    pub(super) fn finish(mut self) -> Finished {
        let end = self.scratch.write_bound(false, self.sequence, |_| {});
        self.bytes.extend_from_slice(end);
        Finished { bytes: self.bytes, sequences: self.first..self.sequence, steps: self.steps }
    }

    /// The bytes of a batch that the kernel only validates: it aborts a batch without an end.
    pub(super) fn without_end(self) -> Finished {
        Finished { bytes: self.bytes, sequences: self.first..self.sequence, steps: self.steps }
    }

    fn begin(&mut self, generation: Option<Generation>) {
        // NFNL_BATCH_GENID of linux/netfilter/nfnetlink.h.
        const GENERATION: u16 = 1;
        let message = self.scratch.write_bound(true, self.sequence, |header| {
            if let Some(generation) = generation {
                header.be32(GENERATION, generation.0);
            }
        });
        self.bytes.extend_from_slice(message);
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub(super) fn operation(&mut self, of: IpFamily, table: &Name, operation: &Operation<'_>) {
        let word = of.nft_name();
        let of_elements =
            matches!(operation, Operation::AddElements(..) | Operation::DeleteElements(..));
        let mut step = |what: &str, name: &dyn Display| {
            let text = format!("{what} {word} {table} {name}").trim_end().to_owned();
            self.steps.push(BatchOperation { first: self.sequence, text, of_elements });
        };
        match operation {
            Operation::AddTable(made) => {
                step("add table", &"");
                self.add(libc::NFT_MSG_NEWTABLE, of, NEW, &table::encode(of, table, &made.comment));
            }
            Operation::DeleteTable => {
                step("delete table", &"");
                self.add(libc::NFT_MSG_DELTABLE, of, 0, &table::named(of, table));
            }
            Operation::AddSet(name, made) => {
                step("add set", name);
                self.sets += 1;
                let raw = set::encode(of, table, name, made, self.sets);
                self.add(libc::NFT_MSG_NEWSET, of, NEW, &raw);
            }
            Operation::DeleteSet(name) => {
                step("delete set", name);
                self.add(libc::NFT_MSG_DELSET, of, 0, &set::named(of, table, name));
            }
            Operation::AddChain(name, base) => {
                step("add chain", name);
                let raw = chain::encode(of, table, name, *base);
                self.add(libc::NFT_MSG_NEWCHAIN, of, NEW, &raw);
            }
            Operation::DeleteChain(name) => {
                step("delete chain", name);
                self.add(libc::NFT_MSG_DELCHAIN, of, 0, &chain::named(of, table, name));
            }
            Operation::AddRule(chain, made) => {
                step("add rule to", chain);
                let raw = rule::encode(of, table, chain, made);
                self.add(libc::NFT_MSG_NEWRULE, of, AT_END, &raw);
            }
            Operation::DeleteRule(chain, actual) => {
                step("delete rule of", chain);
                let raw = rule::with_handle(of, table, chain, actual.handle);
                self.add(libc::NFT_MSG_DELRULE, of, 0, &raw);
            }
            Operation::FlushChain(chain) => {
                step("delete all rules of", chain);
                self.add(libc::NFT_MSG_DELRULE, of, 0, &rule::of_chain(of, table, chain));
            }
            Operation::AddElements(name, set, elements) => {
                step("add elements to", name);
                let made = elements.iter().map(|(key, element)| (*key, Some(*element)));
                self.elements(libc::NFT_MSG_NEWSETELEM, of, NEW, (table, name, set), made);
            }
            Operation::DeleteElements(name, set, elements) => {
                step("delete elements of", name);
                let gone = elements.iter().map(|(key, _)| (*key, None));
                self.elements(libc::NFT_MSG_DELSETELEM, of, 0, (table, name, set), gone);
            }
            Operation::FlushSet(name) => {
                step("delete all elements of", name);
                self.add(libc::NFT_MSG_DELSETELEM, of, 0, &set::named(of, table, name));
            }
        }
    }

    pub(super) fn add<T: Message>(
        &mut self,
        kind: i32,
        of: IpFamily,
        flags: i32,
        object: &Owned<T>,
    ) {
        self.message(kind, of, flags, |header| object.build(header));
    }

    /// Deletes elements and ignores missing ones (Linux 6.3 or later).
    pub(super) fn destroy_elements(
        &mut self,
        of: IpFamily,
        of_set: (&Name, &Name, &Set),
        keys: &[Key],
    ) {
        // NFT_MSG_DESTROYSETELEM of linux/netfilter/nf_tables.h.
        const DESTROY: i32 = 30;
        self.elements(DESTROY, of, 0, of_set, keys.iter().map(|key| (key, None)));
    }

    /// Deletes one element in a message of its own.
    pub(super) fn delete_element(&mut self, of: IpFamily, of_set: (&Name, &Name, &Set), key: &Key) {
        self.elements(libc::NFT_MSG_DELSETELEM, of, 0, of_set, [(key, None)].into_iter());
    }

    /// libnftnl keeps elements in a linked list, so they are encoded in pieces.
    fn elements<'e>(
        &mut self,
        kind: i32,
        of: IpFamily,
        flags: i32,
        (table, name, set): (&Name, &Name, &Set),
        elements: impl Iterator<Item = (&'e Key, Option<&'e Element>)>,
    ) {
        const PIECE: usize = 4096;
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let mut raw = set::named(of, table, name);
            for (key, element) in elements.by_ref().take(PIECE) {
                element::encode(set, key, element).into_iter().for_each(|one| raw.add(one));
            }
            raw.write_elements(|body| self.message(kind, of, flags, body));
        }
    }

    /// Adds a message.
    pub(super) fn message(
        &mut self,
        kind: i32,
        of: IpFamily,
        flags: i32,
        body: impl FnOnce(&mut super::raw::MessageHeader<'_>),
    ) {
        let kind = message_type(kind);
        let flags = u16::try_from(flags).unwrap_or_default();
        let message = self.scratch.write(kind, family::number(of), flags, self.sequence, body);
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Requests an answer to the last message that changes something. Before Linux 6.10 the kernel
    /// did not answer the end of a batch.
    fn ask_for_answer(&mut self) {
        // The flags of struct nlmsghdr, after its length and type.
        const FLAGS: usize = 6;
        let at = self.last + FLAGS;
        if let Some([a, b]) = self.bytes.get_mut(at..at + 2) {
            let asked = u16::try_from(libc::NLM_F_ACK).unwrap_or_default();
            [*a, *b] = (u16::from_ne_bytes([*a, *b]) | asked).to_ne_bytes();
        }
    }
}

/// Estimated size of transactions in bytes. A buffer that grows by doubling spends as much time on
/// fresh pages as on writing.
fn expected(transactions: &[Transaction<'_>]) -> usize {
    const OF_AN_ELEMENT: usize = 80;
    const OF_ALL_ELSE: usize = 1 << 16;
    let elements: usize = transactions.iter().map(Transaction::elements).sum();
    elements.saturating_mul(OF_AN_ELEMENT).saturating_add(OF_ALL_ELSE)
}

/// A message type: the message's number in the nf_tables subsystem (linux/netfilter/nfnetlink.h).
pub(super) fn message_type(number: i32) -> u16 {
    u16::try_from(libc::NFNL_SUBSYS_NFTABLES << 8 | number).unwrap_or_default()
}

/// An encoded batch.
pub(super) struct Finished {
    pub(super) bytes: Vec<u8>,
    /// Sequence numbers of its messages; the kernel answers the last one and all that fail.
    pub(super) sequences: Range<u32>,
    steps: Vec<BatchOperation>,
}

/// An operation, identified by its first message.
struct BatchOperation {
    first: u32,
    text: String,
    of_elements: bool,
}

impl Finished {
    /// Replaces the generation of a batch that was made with one.
    pub(super) fn set_generation(&mut self, generation: Generation) {
        // After the headers of the first message and of its first attribute.
        const AT: usize = 16 + 4 + 4;
        if let Some(place) = self.bytes.get_mut(AT..AT + 4) {
            place.copy_from_slice(&generation.0.to_be_bytes());
        }
    }

    /// The refusal of a message.
    pub(super) fn refusal(
        &self,
        sequence: u32,
        errno: Errno,
        message: Option<String>,
    ) -> RefusedOperation {
        let begun = self.steps.partition_point(|step| step.first <= sequence);
        let step = begun.checked_sub(1).and_then(|index| self.steps.get(index));
        RefusedOperation {
            operation: step.map_or("the transaction", |step| &step.text).to_owned(),
            of_elements: step.is_some_and(|step| step.of_elements),
            reason: reason(errno),
            errno: errno.to_string(),
            message,
        }
    }
}
