//! Hears of every commit to the ruleset, whoever made it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;

use super::batch::message_type;
use super::socket::Socket;
use super::{Error, Generation, attribute, family};
use crate::process::Process;

/// A socket that is told of commits.
pub struct Watcher {
    socket: Socket,
    tables: Vec<(IpFamily, Name)>,
    /// Which chains of them count, by their names.
    concerns: fn(&str) -> bool,
    /// What the commit that is being told did to our tables so far.
    told: Notification,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody committed.
    Commit(Commit),
    /// More was told than the socket holds: anything may have happened. Read the kernel again.
    Lost,
}

/// A commit to the ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The ruleset's generation since.
    pub generation: Generation,
    /// Who made it.
    pub writer: Writer,
    /// What it did to the watched tables; nothing if it changed only others. At most
    /// [`Commit::TOLD`] are told.
    pub changes: Vec<Change>,
    /// The chains of the watched tables that it changed.
    pub chains: TouchedChains,
}

impl Commit {
    /// Of the changes of one commit so many are told.
    pub const TOLD: usize = 20;

    /// Of the chains of one commit so many are named.
    pub const CHAINS: usize = 10_000;
}

/// One change to a watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What was done.
    pub done: Done,
    /// To what kind of object.
    pub object: Object,
    /// The family of the table.
    pub family: IpFamily,
    /// The table.
    pub table: String,
    /// The name of the object, or for a rule that of its chain.
    pub name: Option<String>,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Done {
    Added,
    Deleted,
    Changed,
}

/// The kinds of objects in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are netfilter's")]
pub enum Object {
    Table,
    Chain,
    Rule,
    Set,
    Element,
    Other,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.done {
            Done::Added => "added",
            Done::Deleted => "deleted",
            Done::Changed => "changed",
        };
        let object = match self.object {
            Object::Table => "table",
            Object::Chain => "chain",
            Object::Rule => "rule of",
            Object::Set => "set",
            Object::Element => "element of",
            Object::Other => "object",
        };
        write!(f, "{done} {object} {} {}", self.family.nft_name(), self.table)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// A chain by its family, table and name.
pub type TouchedChain = (IpFamily, String, String);

/// The chains that a commit changed: the chains themselves, or rules in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchedChains {
    /// These and no others.
    These(BTreeSet<TouchedChain>),
    /// A table itself changed, or more than [`Commit::CHAINS`] chains did.
    Any,
}

impl Default for TouchedChains {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl TouchedChains {
    fn add(&mut self, change: &Change) {
        let Self::These(chains) = self else { return };
        match (change.object, &change.name) {
            (Object::Table, _) => *self = Self::Any,
            (Object::Chain | Object::Rule, Some(name)) => {
                chains.insert((change.family, change.table.clone(), name.clone()));
                if chains.len() > Commit::CHAINS {
                    *self = Self::Any;
                }
            }
            _ => {}
        }
    }
}

/// Who made a commit. The kernel names the thread; this is the process that the thread belongs to,
/// as far as /proc still shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer {
    /// The process, 0 if the kernel does not tell.
    pub pid: u32,
    /// Its name, as in /proc/pid/comm. Any program may call itself anything: escape it for output.
    pub program: String,
    /// Whether `pid` and `program` are those of the thread, because its process could not be looked
    /// up: it has ended, or it is in a PID namespace that we do not see. They are those of the
    /// process too where it has only one thread, as nft and iptables do.
    pub is_thread: bool,
    /// The address of its socket: see [`NfTables::port`](super::NfTables::port).
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

/// The part of a commit that was received before its end.
#[derive(Debug, Default)]
struct Notification {
    changes: Vec<Change>,
    chains: TouchedChains,
}

impl Notification {
    /// A table comes first, for it says more than what went with it; what is said already is not
    /// said again.
    fn add(&mut self, change: Change) {
        self.chains.add(&change);
        let changes = &mut self.changes;
        if change.object == Object::Table {
            changes.insert(0, change);
            changes.truncate(Commit::TOLD);
        } else if changes.len() < Commit::TOLD && changes.last() != Some(&change) {
            changes.push(change);
        }
    }

    /// The process of a commit that changed nothing here is not looked up.
    fn commit(self, message: &[u8], port: u32) -> Option<Commit> {
        // NFTA_GEN_ID, NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME.
        let generation = Generation(attribute::be32(message, 1)?);
        let thread = attribute::be32(message, 2).unwrap_or_default();
        let name = attribute::text(message, 3).unwrap_or_default();
        let Self { changes, chains } = self;
        let writer = match changes.is_empty() {
            true => Writer { pid: thread, program: name, is_thread: true, port },
            false => Writer::of_thread(thread, name, port),
        };
        Some(Commit { generation, writer, changes, chains })
    }
}

impl Watcher {
    /// Room for what is told of a commit of 400,000 elements, in bytes. The kernel takes it only
    /// while events are not fetched.
    pub const ROOM: usize = 1 << 26;

    /// Watches these tables from now on. What is read after this is followed by all changes to
    /// it. Events that there is no room for are lost, and that they were is told.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open(tables: &[(IpFamily, Name)], room: usize) -> Result<Self, Error> {
        let socket = Socket::for_events(room)?;
        Ok(Self {
            socket,
            tables: tables.to_vec(),
            concerns: |_| true,
            told: Notification::default(),
        })
    }

    /// Leaves out what is done to other chains than these and to their rules.
    #[must_use]
    pub fn of_chains(self, concerns: fn(&str) -> bool) -> Self {
        Self { concerns, ..self }
    }

    /// The next events; none if there were none within the time. Without a time it waits until
    /// there are.
    ///
    /// # Errors
    /// The socket is of no more use: see [`Error`].
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Vec<Event>, Error> {
        loop {
            let (heard, events) = self.hear(patience)?;
            // A large commit is told in pieces, the last of which names it.
            if !heard || !events.is_empty() {
                return Ok(events);
            }
        }
    }

    fn hear(&mut self, patience: Option<Duration>) -> Result<(bool, Vec<Event>), Error> {
        let Self { socket, tables, concerns, told } = self;
        let mut events = Vec::new();
        let heard = socket.hear(patience, |message, kind, port| {
            if kind == message_type(libc::NFT_MSG_NEWGEN) {
                events.extend(std::mem::take(told).commit(message, port).map(Event::Commit));
            } else if let Some(change) = change(tables, *concerns, message, kind) {
                told.add(change);
            }
        });
        match heard {
            Ok(heard) => Ok((heard, events)),
            Err(Error::Lost) => {
                *told = Notification::default();
                Ok((true, vec![Event::Lost]))
            }
            Err(error) => Err(error),
        }
    }
}

/// What a message says was done, if it was to one of the tables and chains.
fn change(
    tables: &[(IpFamily, Name)],
    concerns: fn(&str) -> bool,
    message: &[u8],
    kind: u16,
) -> Option<Change> {
    // Behind the header of netlink: the family, in the header of nfnetlink.
    const FAMILY: usize = 16;
    let family = family::of_number(u32::from(*message.get(FAMILY)?))?;
    let table = attribute::text(message, 1)?;
    if !tables.iter().any(|(of, name)| *of == family && name.as_str() == table) {
        return None;
    }
    let (done, object) = KINDS
        .into_iter()
        .find(|(number, ..)| message_type(*number) == kind)
        .map_or((Done::Changed, Object::Other), |(_, done, object)| (done, object));
    // A rule names its chain, all others themselves, a chain only behind its handle.
    let name = match object {
        Object::Table => None,
        Object::Chain => attribute::text(message, 3),
        Object::Rule | Object::Set | Object::Element | Object::Other => attribute::text(message, 2),
    };
    let is_of_chain = matches!(object, Object::Chain | Object::Rule);
    if is_of_chain && name.as_deref().is_some_and(|chain| !concerns(chain)) {
        return None;
    }
    Some(Change { done, object, family, table, name })
}

const KINDS: [(i32, Done, Object); 10] = [
    (libc::NFT_MSG_NEWTABLE, Done::Added, Object::Table),
    (libc::NFT_MSG_DELTABLE, Done::Deleted, Object::Table),
    (libc::NFT_MSG_NEWCHAIN, Done::Added, Object::Chain),
    (libc::NFT_MSG_DELCHAIN, Done::Deleted, Object::Chain),
    (libc::NFT_MSG_NEWRULE, Done::Added, Object::Rule),
    (libc::NFT_MSG_DELRULE, Done::Deleted, Object::Rule),
    (libc::NFT_MSG_NEWSET, Done::Added, Object::Set),
    (libc::NFT_MSG_DELSET, Done::Deleted, Object::Set),
    (libc::NFT_MSG_NEWSETELEM, Done::Added, Object::Element),
    (libc::NFT_MSG_DELSETELEM, Done::Deleted, Object::Element),
];
