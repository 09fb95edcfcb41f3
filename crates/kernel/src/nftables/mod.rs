//! nf_tables through netlink, without any program.
//!
//! ```text
//! read ──▶ Actual of each table, all of one generation ──diff──▶ Transactions ──commit──▶ kernel
//! ```
//!
//! `raw` holds what libnftnl owns; one file each for tables, chains, sets, elements, rules and
//! expressions turns it into types of [`rulegen_ruleset::nftables`] and back; `batch` and `read`
//! put those into messages; `socket` sends them, through that of `netlink`, and hears the answers.

mod batch;
mod chain;
mod delete;
mod element;
mod expression;
mod feature;
mod fill;
mod nat_base_chains;
mod nftrace;
mod raw;
mod read;
mod refusal;
mod rule;
mod set;
mod socket;
mod table;
mod userdata;
mod verdict;
mod watch;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::Reason;
use rulegen_ruleset::nftables::{Actual, Comment, Key, Name, Operation, Set, Table, Transaction};

pub use feature::Missing;
pub use fill::SetFill;
pub use nat_base_chains::NatBaseChain;
pub use nftrace::{Heard, TraceListener, TraceSession};
pub use read::Reading;
pub use rulegen_ruleset::dataplane::{
    Dataplane, Error, Generation, Refusal, commit_in_stages, isolate, reconcile, reconcile_if,
};
pub use watch::{
    Change, Commit, Done, Event, Object, TouchedChain, TouchedChains, Watcher, Writer,
};

use batch::Batch;
use read::Interrupted;
use socket::Socket;

use crate::netlink::{attribute, family};

/// The nf_tables of the network namespace that this was made in.
pub struct NfTables {
    socket: Socket,
    last: Written,
    /// Whether the kernel may know NFT_MSG_DESTROYSETELEM.
    has_destroy: bool,
    /// Whether numbers of elements are taken from the kernel, where it reports them.
    reads_counts: bool,
}

/// What the last commit took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were sent.
    pub bytes: usize,
    /// To make messages of the transactions.
    pub encoding: Duration,
    /// The kernel.
    pub kernel: Duration,
}

/// What something of a table counted since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// An element.
    Element {
        /// Of which set.
        set: Name,
        /// Its key.
        key: Key,
        /// Where it leads.
        endpoint: SocketAddr,
        /// What it is for.
        comment: Comment,
        /// How often it was found.
        packets: u64,
    },
    /// A rule.
    Rule {
        /// Of which chain.
        chain: Name,
        /// How many packets met it.
        packets: u64,
    },
}

/// How often reading is begun anew, when others keep changing the ruleset.
const ATTEMPTS: u32 = 20;

impl NfTables {
    /// Opens a socket to the kernel.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open() -> Result<Self, Error> {
        let (socket, last) = (Socket::open()?, Written::default());
        Ok(Self { socket, last, has_destroy: true, reads_counts: true })
    }

    /// The address of this socket: a [`Commit`] of that port is our own.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// What the last commit took, also one that was refused.
    pub fn last_written(&self) -> Written {
        self.last
    }

    /// The generation that the ruleset is of.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn generation(&mut self) -> Result<Generation, Error> {
        read::generation(&mut self.socket)
    }

    /// Whether there is a table of each of these names, whatever is in it.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Lost`].
    pub fn has_all(&mut self, tables: &[(IpFamily, &Name)]) -> Result<bool, Error> {
        for (family, name) in tables {
            if !read::exists(&mut self.socket, *family, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes those of the tables away that are there, and says which they were.
    ///
    /// # Errors
    /// None was taken away: see [`Error`].
    pub fn delete(&mut self, tables: &[(IpFamily, Name)]) -> Result<Vec<(IpFamily, Name)>, Error> {
        for _ in 0..ATTEMPTS {
            match self.delete_once(tables) {
                // Somebody was faster.
                Err(Error::Refused(refusals))
                    if refusals.iter().all(|refusal| refusal.reason == Reason::NotFound) => {}
                done => return done,
            }
        }
        Err(Error::Busy { attempts: ATTEMPTS })
    }

    /// Reads the keys of one set of a table. `set` says what the keys are made of.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Lost`].
    pub fn read_keys(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        set: &Set,
        each: impl FnMut(Key),
    ) -> Result<Reading, Error> {
        read::keys(&mut self.socket, family, table, (name, set), each)
    }

    /// How full the sets of a table are that packets fill. The kernel reports the number of elements
    /// (Linux 6.18 does). In older kernels the elements are read and counted, which takes 0.8 s for
    /// a full set.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Lost`].
    pub fn fills(&mut self, family: IpFamily, table: &Name) -> Result<Vec<SetFill>, Error> {
        fill::read(&mut self.socket, family, table, self.reads_counts)
    }

    /// Deletes those of the elements that are still in a set: they may expire at any time, and the
    /// kernel refuses to delete what is not there.
    ///
    /// # Errors
    /// None was deleted: see [`Error`].
    pub fn delete_if_present(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        set: &Set,
        keys: &[Key],
    ) -> Result<(), Error> {
        let of_set = delete::Elements { family, table, name, set };
        if self.has_destroy {
            match of_set.destroy(&mut self.socket, keys) {
                Err(error) if delete::is_unknown_message(&error) => self.has_destroy = false,
                done => return done,
            }
        }
        of_set.delete(&mut self.socket, keys)
    }

    /// Does without what older kernels lack where there is another way. For tests.
    #[doc(hidden)]
    pub fn as_in_old_kernels(self) -> Self {
        Self { has_destroy: false, reads_counts: false, ..self }
    }

    /// Tells what the elements and rules of a table counted. Of what is changed meanwhile it may be
    /// missing.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Busy`] if the ruleset changed while it was read.
    pub fn counted(
        &mut self,
        family: IpFamily,
        table: &Name,
        mut each: impl FnMut(Counted),
    ) -> Result<(), Error> {
        match read::counted(&mut self.socket, family, table, &mut each) {
            Ok(()) => Ok(()),
            Err(Interrupted::Failed(error)) => Err(error),
            Err(Interrupted::Changed) => Err(Error::Busy { attempts: 1 }),
        }
    }

    /// Tells what some elements and rules of a table counted: those that `part` has. What the
    /// kernel does not hold of them is missing.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Busy`] if the ruleset changed while it was read.
    pub fn counted_of(&mut self, part: &Table, mut each: impl FnMut(Counted)) -> Result<(), Error> {
        match read::counted_of(&mut self.socket, part, &mut each) {
            Ok(()) => Ok(()),
            Err(Interrupted::Failed(error)) => Err(error),
            Err(Interrupted::Changed) => Err(Error::Busy { attempts: 1 }),
        }
    }

    fn delete_once(&mut self, tables: &[(IpFamily, Name)]) -> Result<Vec<(IpFamily, Name)>, Error> {
        let mut found = Vec::new();
        for (family, name) in tables {
            if read::exists(&mut self.socket, *family, name)? {
                found.push((*family, name.clone()));
            }
        }
        let transactions: Vec<Transaction<'_>> = found
            .iter()
            .map(|(family, table)| {
                let operations = vec![Operation::DeleteTable];
                Transaction { family: *family, table, operations }
            })
            .collect();
        self.commit(None, &transactions)?;
        Ok(found)
    }

    fn read_once(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), Interrupted> {
        let generation = read::generation(&mut self.socket)?;
        let held: Result<Vec<Option<Actual>>, Interrupted> = tables
            .iter()
            .map(|(family, name)| read::table(&mut self.socket, *family, name))
            .collect();
        let held = held?;
        match read::generation(&mut self.socket)? {
            same if same == generation => Ok((generation, held)),
            _ => Err(Interrupted::Changed),
        }
    }
}

impl Dataplane for NfTables {
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), Error> {
        for _ in 0..ATTEMPTS {
            match self.read_once(tables) {
                Ok(read) => return Ok(read),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => tracing::debug!("the ruleset changed while read"),
            }
        }
        Err(Error::Busy { attempts: ATTEMPTS })
    }

    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error> {
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(());
        }
        let begun = Instant::now();
        let first = self.socket.first_sequence();
        let batch = Batch::new(generation, transactions, first).finish();
        let encoding = begun.elapsed();
        let done = self.socket.commit(&batch);
        let kernel = begun.elapsed().saturating_sub(encoding);
        self.last = Written { bytes: batch.bytes.len(), encoding, kernel };
        tracing::debug!(written = ?self.last, "committed");
        done
    }

    fn rehearse(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error> {
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(());
        }
        let first = self.socket.first_sequence();
        let batch = Batch::new(Some(generation), transactions, first).without_end();
        self.socket.commit(&batch)
    }
}
