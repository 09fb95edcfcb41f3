//! Access to nf_tables through netlink, without external programs.
//!
//! ```text
//! read ──▶ Actual tables, all at one generation ──diff──▶ Transactions ──commit──▶ kernel
//! ```
//!
//! Requires CAP_NET_ADMIN in the user namespace that owns the network namespace. Rulegen's tables
//! need Linux 5.6, and 5.7 if connections are counted; [`NfTables::missing`] probes for what a
//! kernel lacks. Newer features are used if the kernel has them: deletions that ignore missing
//! elements (Linux 6.3), and trace tables that the kernel removes (Linux 5.12).
//!
//! `raw` wraps libnftnl. One file each for tables, chains, sets, elements, rules and expressions
//! converts its objects to and from types of [`rulegen_ruleset::nftables`]. `batch` and `read` put
//! them into messages, and `socket` sends these through `netlink` and receives the answers.

mod as_wanted;
mod batch;
mod by_key;
mod chain;
mod counted;
mod delete;
mod element;
mod expression;
mod feature;
mod fill;
mod firewall;
mod iptables;
mod nat_base_chains;
mod nftrace;
mod raw;
mod read;
mod refusal;
mod rule;
mod set;
mod socket;
mod table;
mod unrelated;
mod userdata;
mod verdict;
mod watch;

use std::time::{Duration, Instant};

use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::RefusalReason;
use rulegen_ruleset::nftables::{
    Actual, ComparedTable, Key, Name, Operation, Set, Table, TablePart, Transaction,
};

pub use counted::Counted;
pub use element::RawKey;
pub use feature::Missing;
pub use fill::SetFill;
pub use iptables::ChainInUse;
pub use nat_base_chains::NatBaseChain;
pub use nftrace::{Received, TraceListener, TraceSession};
pub use read::Reading;
pub use rulegen_ruleset::dataplane::{
    Dataplane, DataplaneError, DynamicSets, Generation, RefusedOperation, commit_in_stages,
    isolate, reconcile, reconcile_if,
};
pub use watch::{
    ChangeKind, Commit, Event, ObjectKind, TableChange, TouchedChain, TouchedChains,
    TouchedElements, TouchedSet, Watcher, Writer,
};

use batch::Batch;
use read::{Interrupted, TableOwner};
use socket::NfTablesSocket;
pub use socket::ReadCost;
use unrelated::Unrelated;

use crate::netlink::{attribute, family};

/// nf_tables of one network namespace: that of the thread that called [`NfTables::open`].
pub struct NfTables {
    socket: NfTablesSocket,
    last: CommitCost,
    /// False once the kernel has refused NFT_MSG_DESTROYSETELEM as unknown.
    has_destroy: bool,
    /// True to use the element counts that newer kernels report for sets.
    reads_counts: bool,
}

/// What identifies the content of tables without reading it: as long as the machine runs, every
/// commit by any program changes the generation of its network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetIdentity {
    /// Cookie of the network namespace (SO_NETNS_COOKIE). No other namespace gets the same until the
    /// next boot.
    pub namespace: u64,
    /// Generation. It starts again after 2³² commits.
    pub generation: Generation,
    /// The tables with their handles. A table that is created again gets another.
    pub tables: Vec<(IpFamily, Name, u64)>,
}

/// Cost of the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitCost {
    /// Bytes sent.
    pub bytes: usize,
    /// Time to encode the transactions.
    pub encoding: Duration,
    /// Time that the kernel took.
    pub kernel: Duration,
}

/// How often a read is repeated when others keep changing the ruleset.
const ATTEMPTS: u32 = 20;

impl NfTables {
    /// Opens a socket to the kernel.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`].
    pub fn open() -> Result<Self, DataplaneError> {
        let (socket, last) = (NfTablesSocket::open()?, CommitCost::default());
        Ok(Self { socket, last, has_destroy: true, reads_counts: true })
    }

    /// Port ID of this socket: a [`Commit`] with this port is our own.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Cost of the last commit, even if it was refused.
    pub fn last_written(&self) -> CommitCost {
        self.last
    }

    /// Work of all reads so far.
    pub fn read_cost(&self) -> ReadCost {
        self.socket.read_cost()
    }

    /// Current generation of the ruleset.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`].
    pub fn generation(&mut self) -> Result<Generation, DataplaneError> {
        read::generation(&mut self.socket)
    }

    /// Identifies the current content of tables; `None` if one does not exist, or before Linux 5.14.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn identity(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<Option<RulesetIdentity>, DataplaneError> {
        let Some(namespace) = self.socket.namespace_cookie() else { return Ok(None) };
        let (generation, tables) = self.at_one_generation(|socket| {
            let handle = |(family, name): &(IpFamily, &Name)| {
                let handle = read::table_handle(socket, *family, name)?;
                Ok(handle.map(|handle| (*family, (*name).clone(), handle)))
            };
            tables.iter().map(handle).collect::<Result<Option<Vec<_>>, Interrupted>>()
        })?;
        Ok(tables.map(|tables| RulesetIdentity { namespace, generation, tables }))
    }

    /// True if a table exists for each of these names, whatever its content.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn has_all(&mut self, tables: &[(IpFamily, &Name)]) -> Result<bool, DataplaneError> {
        for (family, name) in tables {
            if !read::exists(&mut self.socket, *family, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if the table exists and has the flag dormant: the kernel does not use its rules.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn is_dormant(&mut self, family: IpFamily, name: &Name) -> Result<bool, DataplaneError> {
        read::is_dormant(&mut self.socket, family, name)
    }

    /// Deletes the tables that exist, and returns them.
    ///
    /// # Errors
    /// See [`DataplaneError`]; nothing was deleted.
    pub fn delete(
        &mut self,
        tables: &[(IpFamily, Name)],
    ) -> Result<Vec<(IpFamily, Name)>, DataplaneError> {
        for _ in 0..ATTEMPTS {
            match self.delete_once(tables) {
                // Another program deleted it first.
                Err(DataplaneError::Refused(refusals))
                    if refusals.iter().all(|refusal| refusal.reason == RefusalReason::NotFound) => {
                }
                done => return done,
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }

    /// Reads the keys of one set. `set` describes their fields.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn read_keys(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        set: &Set,
        each: impl FnMut(Key),
    ) -> Result<Reading, DataplaneError> {
        read::keys(&mut self.socket, family, table, (name, set), each)
    }

    /// Reads parts of tables to compare them, all at one generation. `None` if one cannot be compared
    /// alone: its table or a set is missing or is another, or an element is foreign.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn compare_parts(
        &mut self,
        parts: &[TablePart],
    ) -> Result<(Generation, Option<Vec<ComparedTable>>), DataplaneError> {
        self.at_one_generation(|socket| parts.iter().map(|part| read::part(socket, part)).collect())
    }

    /// Reads one set of a table with its elements. `None` if it does not exist, or rulegen does not
    /// make such sets.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn read_set(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
    ) -> Result<Option<Set>, DataplaneError> {
        let read = self.at_one_generation(|socket| read::set(socket, family, table, name));
        read.map(|(_, set)| set)
    }

    /// Fill levels of the dynamic sets of a table. Linux 6.18 reports the number of elements. On
    /// older kernels the elements are read and counted, which takes 0.8 s for a full set.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn fills(
        &mut self,
        family: IpFamily,
        table: &Name,
    ) -> Result<Vec<SetFill>, DataplaneError> {
        fill::read(&mut self.socket, family, table, self.reads_counts)
    }

    /// Uses only the features of older kernels, for tests.
    #[doc(hidden)]
    pub fn as_in_old_kernels(self) -> Self {
        Self { has_destroy: false, reads_counts: false, ..self }
    }

    /// Reads the counters of all elements and rules of a table. Objects changed during the read may
    /// be missing.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`] if the ruleset changed while it was read.
    pub fn counted(
        &mut self,
        family: IpFamily,
        table: &Name,
        mut each: impl FnMut(Counted),
    ) -> Result<(), DataplaneError> {
        match read::counted(&mut self.socket, family, table, &mut each) {
            Ok(()) => Ok(()),
            Err(Interrupted::Failed(error)) => Err(error),
            Err(Interrupted::Changed) => Err(DataplaneError::Busy { attempts: 1 }),
        }
    }

    /// Reads the counters of the elements and rules in `part` of a table. Objects missing in the
    /// kernel are left out.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`] if the ruleset changed while it was read.
    pub fn counted_of(
        &mut self,
        part: &Table,
        mut each: impl FnMut(Counted),
    ) -> Result<(), DataplaneError> {
        match read::counted_of(&mut self.socket, part, &mut each) {
            Ok(()) => Ok(()),
            Err(Interrupted::Failed(error)) => Err(error),
            Err(Interrupted::Changed) => Err(DataplaneError::Busy { attempts: 1 }),
        }
    }

    fn delete_once(
        &mut self,
        tables: &[(IpFamily, Name)],
    ) -> Result<Vec<(IpFamily, Name)>, DataplaneError> {
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

    /// Reads tables of another program at one generation, with the sets that belong to their rules.
    /// `None` in place of a table that does not exist. Such an [`Actual`] is only for reading: the
    /// sets of rules cannot be written.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn read_of_others(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<Vec<Option<Actual>>, DataplaneError> {
        self.read_tables(tables, TableOwner::Other).map(|(_, tables)| tables)
    }

    fn read_tables(
        &mut self,
        tables: &[(IpFamily, &Name)],
        owner: TableOwner,
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError> {
        self.at_one_generation(|socket| {
            let read =
                |(family, name): &(IpFamily, &Name)| read::table(socket, *family, name, owner);
            tables.iter().map(read).collect()
        })
    }

    /// Repeats a read until the ruleset does not change meanwhile.
    fn at_one_generation<T>(
        &mut self,
        read: impl FnMut(&mut NfTablesSocket) -> Result<T, Interrupted>,
    ) -> Result<(Generation, T), DataplaneError> {
        self.at_generation(read, |_, _| false)
    }

    /// Repeats a read until the ruleset does not change meanwhile, or only in a way that `is_harmless`
    /// knows, given the generations before and after.
    fn at_generation<T>(
        &mut self,
        mut read: impl FnMut(&mut NfTablesSocket) -> Result<T, Interrupted>,
        mut is_harmless: impl FnMut(Generation, Generation) -> bool,
    ) -> Result<(Generation, T), DataplaneError> {
        let socket = &mut self.socket;
        for _ in 0..ATTEMPTS {
            let before = read::generation(socket)?;
            match read(socket) {
                Ok(done) => {
                    let after = read::generation(socket)?;
                    if after == before || is_harmless(before, after) {
                        return Ok((after, done));
                    }
                }
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {}
            }
            tracing::debug!("ruleset changed during read, retrying");
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }
}

impl Dataplane for NfTables {
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError> {
        self.read_tables(tables, TableOwner::Rulegen)
    }

    fn compare(
        &mut self,
        desired: &[&Table],
    ) -> Result<(Generation, Vec<Option<ComparedTable>>), DataplaneError> {
        let reads_counts = self.reads_counts;
        let tables = desired.iter().map(|table| (table.family, table.name.clone()));
        // Requesting many elements takes longer than other programs usually leave the ruleset alone.
        let mut unrelated = Unrelated::watch(&tables.collect::<Vec<_>>())?;
        self.at_generation(
            |socket| {
                desired.iter().map(|table| read::compared(socket, table, reads_counts)).collect()
            },
            |from, to| unrelated.changed_only_others(from, to),
        )
    }

    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(());
        }
        let begun = Instant::now();
        let first = self.socket.first_sequence();
        let batch = Batch::new(generation, transactions, first).finish();
        let encoding = begun.elapsed();
        let done = self.socket.commit(&batch);
        let kernel = begun.elapsed().saturating_sub(encoding);
        self.last = CommitCost { bytes: batch.bytes.len(), encoding, kernel };
        tracing::debug!(written = ?self.last, "committed");
        done
    }

    fn validate(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError> {
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(());
        }
        let first = self.socket.first_sequence();
        let batch = Batch::new(Some(generation), transactions, first).without_end();
        self.socket.commit(&batch)
    }
}

impl DynamicSets for NfTables {
    fn delete_if_present(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        set: &Set,
        keys: &[Key],
    ) -> Result<(), DataplaneError> {
        let of_set = delete::ElementsToDelete { family, table, name, set };
        if self.has_destroy {
            match of_set.destroy(&mut self.socket, keys) {
                Err(error) if delete::is_unknown_message(&error) => self.has_destroy = false,
                done => return done,
            }
        }
        of_set.delete(&mut self.socket, keys)
    }
}
