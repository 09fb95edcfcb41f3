//! Hears of every commit to the ruleset, whoever made it.

use std::time::Duration;

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::Family;
use rulegen_ruleset::nftables::Name;

use super::batch::message_type;
use super::socket::Socket;
use super::{Error, Generation, attribute, family};

/// A socket that is told of commits.
pub struct Watcher {
    socket: Socket,
    tables: Vec<(Family, Name)>,
    /// Which chains of them count, by their names.
    concerns: fn(&str) -> bool,
    /// What the commit that is being told did to our tables so far.
    changes: Vec<String>,
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
    /// What it did to the watched tables, in words; nothing if it changed only others. At most
    /// [`Commit::TOLD`] are told.
    pub changes: Vec<String>,
}

impl Commit {
    /// Of the changes of one commit so many are told.
    pub const TOLD: usize = 20;
}

/// Who made a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The process, 0 if the kernel does not tell.
    pub pid: u32,
    /// Its name, as in /proc/pid/comm.
    pub program: String,
    /// The address of its socket: see [`NfTables::port`](super::NfTables::port).
    pub port: u32,
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
    pub fn open(tables: &[(Family, Name)], room: usize) -> Result<Self, Error> {
        let socket = Socket::for_events(room)?;
        Ok(Self { socket, tables: tables.to_vec(), concerns: |_| true, changes: Vec::new() })
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
        let Self { socket, tables, concerns, changes } = self;
        let mut events = Vec::new();
        let heard = socket.hear(patience, |message, kind, port| {
            if kind == message_type(libc::NFT_MSG_NEWGEN) {
                let changes = std::mem::take(changes);
                events.extend(commit(message, port, changes).map(Event::Commit));
            } else if let Some(change) = change(tables, *concerns, message, kind) {
                tell(changes, change, kind);
            }
        });
        match heard {
            Ok(heard) => Ok((heard, events)),
            Err(Error::Lost) => {
                changes.clear();
                Ok((true, vec![Event::Lost]))
            }
            Err(error) => Err(error),
        }
    }
}

/// A table comes first, for it says more than what went with it; what is said already is not
/// said again.
fn tell(changes: &mut Vec<String>, change: String, kind: u16) {
    let is_table = [libc::NFT_MSG_NEWTABLE, libc::NFT_MSG_DELTABLE].map(message_type);
    if is_table.contains(&kind) {
        changes.insert(0, change);
        changes.truncate(Commit::TOLD);
    } else if changes.len() < Commit::TOLD && changes.last() != Some(&change) {
        changes.push(change);
    }
}

fn commit(message: &[u8], port: u32, changes: Vec<String>) -> Option<Commit> {
    // NFTA_GEN_ID, NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME.
    let generation = Generation(attribute::be32(message, 1)?);
    let pid = attribute::be32(message, 2).unwrap_or_default();
    let program = attribute::text(message, 3).unwrap_or_default();
    Some(Commit { generation, writer: Writer { pid, program, port }, changes })
}

/// What a message says was done, if it was to one of the tables and chains.
fn change(
    tables: &[(Family, Name)],
    concerns: fn(&str) -> bool,
    message: &[u8],
    kind: u16,
) -> Option<String> {
    // Behind the header of netlink: the family, in the header of nfnetlink.
    const FAMILY: usize = 16;
    let of = family::of_number(u32::from(*message.get(FAMILY)?))?;
    let table = attribute::text(message, 1)?;
    if !tables.iter().any(|(family, name)| *family == of && name.as_str() == table) {
        return None;
    }
    let (done, what) = KINDS
        .into_iter()
        .find(|(number, ..)| message_type(*number) == kind)
        .map_or(("changed", "object"), |(_, done, what)| (done, what));
    let word = of.word();
    // A rule names its chain, all others themselves, a chain only behind its handle.
    let name = if what == "chain" { 3 } else { 2 };
    let name = if what == "table" { None } else { attribute::text(message, name) };
    let is_of_chain = matches!(what, "chain" | "rule of");
    if is_of_chain && name.as_deref().is_some_and(|chain| !concerns(chain)) {
        return None;
    }
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    Some(format!("{done} {what} {word} {table}{name}"))
}

const KINDS: [(i32, &str, &str); 10] = [
    (libc::NFT_MSG_NEWTABLE, "added", "table"),
    (libc::NFT_MSG_DELTABLE, "deleted", "table"),
    (libc::NFT_MSG_NEWCHAIN, "added", "chain"),
    (libc::NFT_MSG_DELCHAIN, "deleted", "chain"),
    (libc::NFT_MSG_NEWRULE, "added", "rule of"),
    (libc::NFT_MSG_DELRULE, "deleted", "rule of"),
    (libc::NFT_MSG_NEWSET, "added", "set"),
    (libc::NFT_MSG_DELSET, "deleted", "set"),
    (libc::NFT_MSG_NEWSETELEM, "added", "element of"),
    (libc::NFT_MSG_DELSETELEM, "deleted", "element of"),
];
