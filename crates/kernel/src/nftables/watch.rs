//! Watches commits to the ruleset by any program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::batch::message_type;
use super::element::RawKey;
use super::socket::NfTablesSocket;
use super::{DataplaneError, Generation, attribute, family};
use rulegen_os::process::Process;

/// A socket that receives commit events.
pub struct Watcher {
    socket: NfTablesSocket,
    tables: Vec<(IpFamily, Name)>,
    /// Filter for chains, by name.
    concerns: fn(&str) -> bool,
    /// Port ID of a socket whose changes are not decoded, if they were received before the filter or
    /// without it.
    ignored: Option<u32>,
    /// Changes to our tables by the commit that is being received.
    pending: Notification,
}

/// A watch event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A commit of any program.
    Commit(Commit),
    /// The socket's buffer overflowed, so any change may be missing. Read the kernel again.
    Lost,
}

/// A commit to the ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Generation of the ruleset after the commit.
    pub generation: Generation,
    /// Author.
    pub writer: Writer,
    /// Changes to the watched tables, at most [`Commit::MAX_CHANGES`]; empty if it changed only other
    /// tables.
    pub changes: Vec<TableChange>,
    /// Chains of the watched tables that it changed.
    pub chains: TouchedChains,
    /// Elements of the watched tables that it changed.
    pub elements: TouchedElements,
}

impl Commit {
    /// Maximum number of changes listed for a commit.
    pub const MAX_CHANGES: usize = 20;

    /// Maximum number of chains listed for a commit.
    pub const MAX_CHAINS: usize = 10_000;

    /// Maximum number of elements listed for a commit.
    pub const MAX_ELEMENTS: usize = 10_000;
}

/// A change to a watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Kind of change.
    pub kind: ChangeKind,
    /// Kind of the changed object.
    pub object: ObjectKind,
    /// Family of the table.
    pub family: IpFamily,
    /// Name of the table that was changed.
    pub table: String,
    /// Name of the object; for a rule, the name of its chain.
    pub name: Option<String>,
}

/// What happened to an object of nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The object is new (NFT_MSG_NEW*).
    Added,
    /// The object is gone (NFT_MSG_DEL*).
    Deleted,
    /// Any other change: the type of its message is unknown here.
    Changed,
}

/// Kind of an object in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// The table itself.
    Table,
    /// A chain of the table.
    Chain,
    /// A rule of one of its chains.
    Rule,
    /// A set or map.
    Set,
    /// An element of a set or map.
    Element,
    /// Anything else, such as a stateful object or a flowtable.
    Other,
}

impl fmt::Display for TableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChangeKind::Added => "added",
            ChangeKind::Deleted => "deleted",
            ChangeKind::Changed => "changed",
        };
        let object = match self.object {
            ObjectKind::Table => "table",
            ObjectKind::Chain => "chain",
            ObjectKind::Rule => "rule of",
            ObjectKind::Set => "set",
            ObjectKind::Element => "element of",
            ObjectKind::Other => "object",
        };
        write!(f, "{kind} {object} {} {}", self.family.nft_name(), self.table)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// A chain by family, table and name.
pub type TouchedChain = (IpFamily, String, String);

/// Chains that a commit changed, including their rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchedChains {
    /// Exactly these chains.
    These(BTreeSet<TouchedChain>),
    /// Any chain: a table itself changed, or more than [`Commit::MAX_CHAINS`] chains did.
    Any,
}

impl Default for TouchedChains {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl TouchedChains {
    /// Adds the chains of a later commit.
    pub(super) fn merge(&mut self, later: TouchedChains) {
        match (&mut *self, later) {
            (Self::These(chains), Self::These(more)) => chains.extend(more),
            (any, _) => *any = Self::Any,
        }
    }

    fn add(&mut self, change: &TableChange) {
        let Self::These(chains) = self else { return };
        match (change.object, &change.name) {
            (ObjectKind::Table, _) => *self = Self::Any,
            (ObjectKind::Chain | ObjectKind::Rule, Some(name)) => {
                chains.insert((change.family, change.table.clone(), name.clone()));
                if chains.len() > Commit::MAX_CHAINS {
                    *self = Self::Any;
                }
            }
            _ => {}
        }
    }
}

/// A set by family, table and name.
pub type TouchedSet = (IpFamily, String, String);

/// Elements that a commit added or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchedElements {
    /// Exactly these, by set.
    These(BTreeMap<TouchedSet, BTreeSet<RawKey>>),
    /// Any: a table or set itself changed, an element without a key (`*` in nft) did, or more than
    /// [`Commit::MAX_ELEMENTS`] elements.
    Any,
}

impl Default for TouchedElements {
    fn default() -> Self {
        Self::These(BTreeMap::new())
    }
}

impl TouchedElements {
    fn add(&mut self, change: &TableChange, message: &[u8]) {
        let Self::These(sets) = self else { return };
        match (change.object, &change.name) {
            (ObjectKind::Chain | ObjectKind::Rule, Some(_)) => {}
            (ObjectKind::Element, Some(name)) => {
                let set = (change.family, change.table.clone(), name.clone());
                let known = sets.entry(set).or_default();
                let Some(keys) = keys(message) else { return *self = Self::Any };
                known.extend(keys);
                let count: usize = sets.values().map(BTreeSet::len).sum();
                if count > Commit::MAX_ELEMENTS {
                    *self = Self::Any;
                }
            }
            _ => *self = Self::Any,
        }
    }
}

/// The keys of the elements in a message; `None` if one has no key.
fn keys(message: &[u8]) -> Option<Vec<RawKey>> {
    // NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_KEY and NFTA_DATA_VALUE.
    const ELEMENTS: u16 = 3;
    const KEY: u16 = 1;
    const VALUE: u16 = 1;
    let find = |nested, desired| {
        attribute::each(nested).find(|(kind, _)| *kind == desired).map(|(_, value)| value)
    };
    let elements = attribute::each(attribute::find(message, ELEMENTS)?);
    let key = |(_, element)| Some(RawKey(find(find(element, KEY)?, VALUE)?.to_vec()));
    elements.map(key).collect()
}

/// Author of a commit. The kernel reports the thread; this is its process, if /proc still shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer {
    /// Process ID, 0 if the kernel does not report it.
    pub pid: u32,
    /// Name as in /proc/pid/comm. Any program can choose its name, so escape it for output.
    pub program: String,
    /// True if `pid` and `program` are those of the thread, because its process could not be found:
    /// it has ended or is in an invisible PID namespace. For a process with a single thread, such as
    /// nft and iptables, both are the same.
    pub is_thread: bool,
    /// Port ID of its socket: see [`NfTables::port`](super::NfTables::port).
    pub port: u32,
}

impl Writer {
    fn of_thread(thread: u32, name: String, port: u32) -> Self {
        match Process::of_thread(thread, &name) {
            Some(process) => {
                Self { pid: process.pid, program: process.name, is_thread: false, port }
            }
            None => Self { pid: thread, program: name, is_thread: true, port },
        }
    }
}

/// The received part of a commit.
#[derive(Debug, Default)]
struct Notification {
    changes: Vec<TableChange>,
    chains: TouchedChains,
    elements: TouchedElements,
}

impl Notification {
    /// Adds a change. A change of a table comes first, because it covers the others; duplicates are
    /// skipped.
    fn add(&mut self, change: TableChange, message: &[u8]) {
        self.chains.add(&change);
        self.elements.add(&change, message);
        let changes = &mut self.changes;
        if change.object == ObjectKind::Table {
            changes.insert(0, change);
            changes.truncate(Commit::MAX_CHANGES);
        } else if changes.len() < Commit::MAX_CHANGES && changes.last() != Some(&change) {
            changes.push(change);
        }
    }

    /// Completes the commit. The process is not looked up if the commit changed nothing here.
    fn commit(self, message: &[u8], port: u32) -> Option<Commit> {
        // NFTA_GEN_ID, NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME.
        let generation = Generation(attribute::be32(message, 1)?);
        let thread = attribute::be32(message, 2).unwrap_or_default();
        let name = attribute::text(message, 3).unwrap_or_default();
        let Self { changes, chains, elements } = self;
        let writer = match changes.is_empty() {
            true => Writer { pid: thread, program: name, is_thread: true, port },
            false => Writer::of_thread(thread, name, port),
        };
        Some(Commit { generation, writer, changes, chains, elements })
    }
}

impl Watcher {
    /// Receive buffer in bytes, enough for the events of a commit of 400,000 elements. The kernel
    /// uses the memory only while events are pending.
    pub const ROOM: usize = 1 << 26;

    /// Watches these tables from now on. A read after this call sees every change made before it,
    /// and events report all later ones. Events lost to a full buffer are reported as
    /// [`Event::Lost`].
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`].
    pub fn open(tables: &[(IpFamily, Name)], room: usize) -> Result<Self, DataplaneError> {
        let socket = NfTablesSocket::for_events(room)?;
        Ok(Self {
            socket,
            tables: tables.to_vec(),
            concerns: |_| true,
            ignored: None,
            pending: Notification::default(),
        })
    }

    /// Ignores changes to chains that `concerns` rejects, and to their rules.
    #[must_use]
    pub fn of_chains(self, concerns: fn(&str) -> bool) -> Self {
        Self { concerns, ..self }
    }

    /// Does not receive the changes by the socket with this port ID, whose first commit alone may have
    /// 50 MB of them. Its commits are reported without changes.
    #[must_use]
    pub fn ignoring(self, port: u32) -> Self {
        self.socket.drop_changes_of(port);
        Self { ignored: Some(port), ..self }
    }

    /// Does not report the commits by the socket with this port ID. Where the kernel cannot filter
    /// them, they are reported without changes.
    #[must_use]
    pub fn of_others(self, port: u32) -> Self {
        self.socket.drop_events_of(port);
        Self { ignored: Some(port), ..self }
    }

    /// Waits for the next events; empty on timeout. Waits without limit if `patience` is `None`.
    ///
    /// # Errors
    /// The socket is unusable: see [`DataplaneError`].
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Vec<Event>, DataplaneError> {
        loop {
            let (received, events) = self.receive_event(patience)?;
            // A large commit arrives in pieces; the last one has its generation.
            if !received || !events.is_empty() {
                return Ok(events);
            }
        }
    }

    fn receive_event(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<(bool, Vec<Event>), DataplaneError> {
        let Self { socket, tables, concerns, ignored, pending } = self;
        let mut events = Vec::new();
        let received = socket.receive_event(patience, |message, kind, port| {
            if kind == message_type(libc::NFT_MSG_NEWGEN) {
                events.extend(std::mem::take(pending).commit(message, port).map(Event::Commit));
            } else if *ignored != Some(port)
                && let Some(change) = change(tables, *concerns, message, kind)
            {
                pending.add(change, message);
            }
        });
        match received {
            Ok(received) => Ok((received, events)),
            Err(DataplaneError::Lost) => {
                *pending = Notification::default();
                Ok((true, vec![Event::Lost]))
            }
            Err(error) => Err(error),
        }
    }
}

/// Decodes a change, if it is to a watched table and chain.
fn change(
    tables: &[(IpFamily, Name)],
    concerns: fn(&str) -> bool,
    message: &[u8],
    kind: u16,
) -> Option<TableChange> {
    // After the netlink header: the family, in the nfnetlink header.
    const FAMILY: usize = 16;
    let family = family::of_number(u32::from(*message.get(FAMILY)?))?;
    let table = attribute::text(message, 1)?;
    if !tables.iter().any(|(of, name)| *of == family && name.as_str() == table) {
        return None;
    }
    let (kind, object) = KINDS
        .into_iter()
        .find(|(number, ..)| message_type(*number) == kind)
        .map_or((ChangeKind::Changed, ObjectKind::Other), |(_, kind, object)| (kind, object));
    // A rule has the name of its chain. Other objects have their own name; a chain has it after its
    // handle.
    let name = match object {
        ObjectKind::Table => None,
        ObjectKind::Chain => attribute::text(message, 3),
        ObjectKind::Rule | ObjectKind::Set | ObjectKind::Element | ObjectKind::Other => {
            attribute::text(message, 2)
        }
    };
    let is_of_chain = matches!(object, ObjectKind::Chain | ObjectKind::Rule);
    if is_of_chain && name.as_deref().is_some_and(|chain| !concerns(chain)) {
        return None;
    }
    Some(TableChange { kind, object, family, table, name })
}

const KINDS: [(i32, ChangeKind, ObjectKind); 10] = [
    (libc::NFT_MSG_NEWTABLE, ChangeKind::Added, ObjectKind::Table),
    (libc::NFT_MSG_DELTABLE, ChangeKind::Deleted, ObjectKind::Table),
    (libc::NFT_MSG_NEWCHAIN, ChangeKind::Added, ObjectKind::Chain),
    (libc::NFT_MSG_DELCHAIN, ChangeKind::Deleted, ObjectKind::Chain),
    (libc::NFT_MSG_NEWRULE, ChangeKind::Added, ObjectKind::Rule),
    (libc::NFT_MSG_DELRULE, ChangeKind::Deleted, ObjectKind::Rule),
    (libc::NFT_MSG_NEWSET, ChangeKind::Added, ObjectKind::Set),
    (libc::NFT_MSG_DELSET, ChangeKind::Deleted, ObjectKind::Set),
    (libc::NFT_MSG_NEWSETELEM, ChangeKind::Added, ObjectKind::Element),
    (libc::NFT_MSG_DELSETELEM, ChangeKind::Deleted, ObjectKind::Element),
];
