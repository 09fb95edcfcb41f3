//! Writes transactions of iptables in one batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::{RefusalReason, RefusedOperation};
use rulegen_ruleset::iptables::nf_tables::{BuiltInChain, built_in_chain, encode};
use rulegen_ruleset::iptables::{
    ChainName, Change, Edit, Rule, RuleWithHandle, Table, TableChanges, Transaction, edits,
};

use super::read::{CHAIN_NAME, KernelChain, RULE_CHAIN, TABLE, chain, chains, rules};
use crate::nftables::batch::{Batch, Finished};
use crate::nftables::raw::MessageHeader;
use crate::nftables::read::Interrupted;
use crate::nftables::socket::NfTablesSocket;
use crate::nftables::watch::TouchedChains;
use crate::nftables::{CommitCost, DataplaneError, Generation};

/// A batch that is ready to be sent.
pub(super) struct EncodedBatch {
    batch: Finished,
    /// Time to read the chains that change and to encode what differs.
    took: Duration,
}

impl EncodedBatch {
    /// Sends the batch, which the kernel refuses if the ruleset has left this generation.
    pub(super) fn commit(
        &mut self,
        socket: &mut NfTablesSocket,
        generation: Generation,
    ) -> Result<CommitCost, DataplaneError> {
        let begun = Instant::now();
        self.batch.set_generation(generation);
        socket.commit(&self.batch)?;
        let (bytes, encoding) = (self.batch.bytes.len(), self.took);
        Ok(CommitCost { bytes, encoding, kernel: begun.elapsed() })
    }
}

/// A chain by family, table and name.
pub(super) type ChainKey = (IpFamily, Table, ChainName);

/// Reads the chains that change and encodes what differs; `None` if nothing does. Chains in use are
/// emptied instead of deleted.
pub(super) fn encoded(
    socket: &mut NfTablesSocket,
    generation: Generation,
    transactions: &[(IpFamily, &Transaction<'_>)],
    in_use: &BTreeSet<ChainKey>,
) -> Result<Option<EncodedBatch>, Interrupted> {
    let begun = Instant::now();
    let first = socket.first_sequence();
    let mut batch = Batch::at(generation, room(transactions), first);
    for (family, transaction) in transactions {
        let actual = existing(socket, *family, transaction)?;
        for changes in &transaction.tables {
            let table = changes.table;
            let (batch, actual) = (&mut batch, &actual);
            let mut writer = TableWriter { socket, batch, family: *family, table, actual, in_use };
            writer.table(changes)?;
        }
    }
    if batch.is_empty() {
        return Ok(None);
    }
    let batch = batch.asking().finish();
    Ok(Some(EncodedBatch { batch, took: begun.elapsed() }))
}

/// True if a commit touched a chain that a transaction changes.
pub(super) fn is_affected(
    transactions: &[(IpFamily, &Transaction<'_>)],
    touched: &TouchedChains,
) -> bool {
    let TouchedChains::These(touched) = touched else { return true };
    let touched: HashSet<(IpFamily, &str, &str)> =
        touched.iter().map(|(family, table, chain)| (*family, &**table, &**chain)).collect();
    transactions.iter().any(|(family, transaction)| {
        transaction.tables.iter().any(|TableChanges { table, changes, .. }| {
            changes
                .iter()
                .any(|change| touched.contains(&(*family, table.name(), change.chain().as_str())))
        })
    })
}

/// The chains that the kernel refused to delete because something leads to them; `None` if it also
/// refused anything else.
pub(super) fn in_use(
    transactions: &[(IpFamily, &Transaction<'_>)],
    refusals: &[RefusedOperation],
) -> Option<BTreeSet<ChainKey>> {
    let mut deleted = HashMap::new();
    for (family, transaction) in transactions {
        for TableChanges { table, changes } in &transaction.tables {
            let chains = changes.iter().filter_map(deleted_chain);
            deleted.extend(chains.map(|chain| {
                let id = (*family, *table, chain.clone());
                (operation(*family, *table, DELETE_CHAIN, chain.as_str()), id)
            }));
        }
    }
    let is_busy = |refused: &&RefusedOperation| refused.reason == RefusalReason::Busy;
    let chain = |refused: &RefusedOperation| {
        Some(refused).filter(is_busy).and_then(|busy| deleted.get(&busy.operation)).cloned()
    };
    refusals.iter().map(chain).collect()
}

fn deleted_chain<'a>(change: &Change<'a>) -> Option<&'a ChainName> {
    match change {
        Change::Delete { chain } => Some(chain),
        _ => None,
    }
}

const DELETE_CHAIN: &str = "delete chain";

/// Names an operation in error messages.
fn operation(family: IpFamily, table: Table, what: &str, chain: &str) -> String {
    let text = format!("{what} {} {table} {chain}", family.nft_name());
    text.trim_end().to_owned()
}

/// Estimated size of the batch in bytes. What is not used is never made resident.
fn room(transactions: &[(IpFamily, &Transaction<'_>)]) -> usize {
    const OF_A_RULE: usize = 700;
    const OF_A_CHAIN: usize = 200;
    let counts = transactions.iter().map(|(_, transaction)| transaction.counts());
    counts.map(|counts| counts.rules * OF_A_RULE + counts.changes() * OF_A_CHAIN).sum()
}

type KernelChains = BTreeMap<(Table, ChainName), KernelChain>;

/// The chains of a transaction that exist. A few are requested by name; for many the names of all
/// chains are read.
fn existing(
    socket: &mut NfTablesSocket,
    family: IpFamily,
    transaction: &Transaction<'_>,
) -> Result<KernelChains, Interrupted> {
    const FEW: usize = 256;
    let changes = transaction.tables.iter();
    let named = changes.flat_map(|of| of.changes.iter().map(|change| (of.table, change.chain())));
    let named: Vec<(Table, &ChainName)> = named.collect();
    let mut actual = KernelChains::new();
    if named.len() > FEW {
        let all = chains(socket, family)?.into_iter();
        actual.extend(all.map(|chain| (chain.id(), chain)));
    } else {
        for (table, name) in named {
            let found = chain(socket, family, table, name)?;
            actual.extend(found.map(|chain| (chain.id(), chain)));
        }
    }
    Ok(actual)
}

/// Writes the changes of one table.
struct TableWriter<'a> {
    socket: &'a mut NfTablesSocket,
    batch: &'a mut Batch,
    family: IpFamily,
    table: Table,
    actual: &'a KernelChains,
    in_use: &'a BTreeSet<ChainKey>,
}

/// Place of a new rule in its chain.
enum InsertPosition {
    Start,
    Before(u64),
    End,
}

impl TableWriter<'_> {
    /// First the chains, so that no rule leads to a missing one. Chains are deleted at the end, when
    /// no rule leads to them.
    fn table(&mut self, changes: &TableChanges<'_>) -> Result<(), Interrupted> {
        self.declare(changes)?;
        self.removals(changes)?;
        for change in &changes.changes {
            if let Change::Prepend { chain, rule } = change {
                self.step("add rule to", chain.as_str());
                self.add(chain, rule, &InsertPosition::Start)?;
            }
        }
        for change in &changes.changes {
            if let Change::Fill { chain, rules } = change {
                self.fill(chain, rules)?;
            }
        }
        let deleted = changes.changes.iter().filter_map(deleted_chain);
        let deleted = deleted.filter(|chain| self.actual_chain(chain).is_some());
        let (in_use, deleted): (Vec<_>, Vec<_>) = deleted.partition(|chain| self.is_in_use(chain));
        in_use.into_iter().try_for_each(|chain| self.fill(chain, &[]))?;
        self.delete(deleted);
        Ok(())
    }

    fn is_in_use(&self, chain: &ChainName) -> bool {
        self.in_use.contains(&(self.family, self.table, chain.clone()))
    }

    fn actual_chain(&self, chain: &ChainName) -> Option<&KernelChain> {
        self.actual.get(&(self.table, chain.clone()))
    }

    /// Creates the chains that do not exist. A built-in one that does must be that of iptables.
    fn declare(&mut self, changes: &TableChanges<'_>) -> Result<(), Interrupted> {
        let mut missing = BTreeSet::new();
        for change in &changes.changes {
            let (Change::Fill { chain, .. } | Change::Prepend { chain, .. }) = change else {
                continue;
            };
            match (self.actual_chain(chain), built_in_chain(self.table, chain)) {
                (Some(actual), Some(base)) if !actual.is(base) => {
                    const WHY: &str = "it has another hook, priority or type than iptables' chain";
                    return Err(self.refused("add rule to", chain, WHY));
                }
                (Some(_), _) => {}
                (None, _) => {
                    missing.insert(*chain);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let table = self.table.name();
        self.step("add table", "");
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, |header| {
            header.text(TABLE, table);
        });
        for chain in missing {
            self.step("add chain", chain.as_str());
            let base = built_in_chain(self.table, chain);
            self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, |header| {
                header.text(TABLE, table);
                header.text(CHAIN_NAME, chain.as_str());
                if let Some(base) = base {
                    write_base(header, base);
                }
            });
        }
        Ok(())
    }

    /// Removes single rules. One that is not there needs no removal.
    fn removals(&mut self, changes: &TableChanges<'_>) -> Result<(), Interrupted> {
        let mut removed: BTreeMap<&ChainName, Vec<&Rule>> = BTreeMap::new();
        for change in &changes.changes {
            if let Change::Remove { chain, rule } = change {
                removed.entry(chain).or_default().push(rule);
            }
        }
        for (chain, mut removed) in removed {
            self.step("delete rule of", chain.as_str());
            for RuleWithHandle { handle, rule } in self.rules(chain)? {
                if let Some(at) = removed.iter().position(|removed| **removed == rule) {
                    removed.swap_remove(at);
                    self.delete_rule(chain, Some(handle));
                }
            }
        }
        Ok(())
    }

    /// Makes these the only rules of a chain.
    fn fill(&mut self, chain: &ChainName, desired: &[Rule]) -> Result<(), Interrupted> {
        let is_new = self.actual_chain(chain).is_none();
        let actual = if is_new { Vec::new() } else { self.rules(chain)? };
        let edits = edits(&actual, desired);
        if edits.is_empty() {
            return Ok(());
        }
        self.step("add rules to", chain.as_str());
        const MANY: usize = 64;
        // The kernel searches each handle from the start of the chain, which takes nanoseconds per
        // rule, and writes a rule in microseconds: so this many searches take as long as writing the
        // chain, however long it is.
        const MOST_SEARCHES: usize = 8000;
        let is_most = edits.len() > MANY && edits.len() * 2 > actual.len() + desired.len();
        let is_rewritten = is_most || edits.len() > MOST_SEARCHES;
        if is_rewritten && desired.iter().all(|rule| matches!(rule, Rule::Known(_))) {
            if !actual.is_empty() {
                self.delete_rule(chain, None);
            }
            return desired.iter().try_for_each(|rule| self.add(chain, rule, &InsertPosition::End));
        }
        for edit in edits {
            match edit {
                Edit::Delete(handle) => self.delete_rule(chain, Some(handle)),
                Edit::InsertBefore(handle, rule) => {
                    self.add(chain, rule, &InsertPosition::Before(handle))?;
                }
                Edit::Append(rule) => self.add(chain, rule, &InsertPosition::End)?,
            }
        }
        Ok(())
    }

    /// Deletes chains, which may lead to each other.
    fn delete(&mut self, chains: Vec<&ChainName>) {
        for chain in &chains {
            self.step("delete all rules of", chain.as_str());
            self.delete_rule(chain, None);
        }
        let table = self.table.name();
        for chain in chains {
            self.step(DELETE_CHAIN, chain.as_str());
            self.message(libc::NFT_MSG_DELCHAIN, 0, |header| {
                header.text(TABLE, table);
                header.text(CHAIN_NAME, chain.as_str());
            });
        }
    }

    fn rules(&mut self, chain: &ChainName) -> Result<Vec<RuleWithHandle>, Interrupted> {
        rules(self.socket, self.family, self.table, chain)
    }

    /// Deletes one rule, or without a handle all rules of the chain.
    fn delete_rule(&mut self, chain: &ChainName, handle: Option<u64>) {
        let table = self.table.name();
        self.message(libc::NFT_MSG_DELRULE, 0, |header| {
            header.text(TABLE, table);
            header.text(RULE_CHAIN, chain.as_str());
            if let Some(handle) = handle {
                header.bytes(RULE_HANDLE, &handle.to_be_bytes());
            }
        });
    }

    fn add(
        &mut self,
        chain: &ChainName,
        rule: &Rule,
        place: &InsertPosition,
    ) -> Result<(), Interrupted> {
        // NFTA_RULE_* and NFTA_RULE_COMPAT_*.
        const EXPRESSIONS: u16 = 4 | NESTED;
        const COMPATIBILITY: u16 = 5 | NESTED;
        const POSITION: u16 = 6;
        const PROTOCOL: u16 = 1;
        const FLAGS: u16 = 2;
        let Rule::Known(spec) = rule else {
            return Err(self.refused("add rule to", chain, "a foreign rule cannot be written"));
        };
        let encoded = encode(self.family, spec)
            .map_err(|error| self.refused("add rule to", chain, &error.to_string()))?;
        let flags = match place {
            InsertPosition::End => libc::NLM_F_CREATE | libc::NLM_F_APPEND,
            InsertPosition::Start | InsertPosition::Before(_) => libc::NLM_F_CREATE,
        };
        let table = self.table.name();
        self.message(libc::NFT_MSG_NEWRULE, flags, |header| {
            header.text(TABLE, table);
            header.text(RULE_CHAIN, chain.as_str());
            if let InsertPosition::Before(handle) = place {
                header.bytes(POSITION, &handle.to_be_bytes());
            }
            header.bytes(EXPRESSIONS, &encoded.expressions);
            header.nest(COMPATIBILITY, |header| {
                header.be32(PROTOCOL, encoded.protocol.into());
                header.be32(FLAGS, 0);
            });
        });
        Ok(())
    }

    fn message(&mut self, kind: i32, flags: i32, body: impl FnOnce(&mut MessageHeader<'_>)) {
        self.batch.message(kind, self.family, flags, body);
    }

    fn step(&mut self, what: &str, chain: &str) {
        self.batch.step(operation(self.family, self.table, what, chain));
    }

    fn refused(&self, what: &str, chain: &ChainName, why: &str) -> Interrupted {
        Interrupted::Failed(DataplaneError::Refused(vec![RefusedOperation {
            operation: operation(self.family, self.table, what, chain.as_str()),
            of_elements: false,
            reason: RefusalReason::Content,
            errno: why.to_owned(),
            message: None,
        }]))
    }
}

/// NFTA_RULE_HANDLE and NLA_F_NESTED.
const RULE_HANDLE: u16 = 3;
const NESTED: u16 = 0x8000;

/// The hook, priority, policy and type of a new base chain, in the order of iptables-nft.
fn write_base(header: &mut MessageHeader<'_>, base: BuiltInChain) {
    // NFTA_CHAIN_*, NFTA_HOOK_* and NF_ACCEPT.
    const HOOK: u16 = 4 | NESTED;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const ACCEPT: u32 = 1;
    header.nest(HOOK, |header| {
        header.be32(NUMBER, base.hook);
        header.be32(PRIORITY, base.priority.cast_unsigned());
    });
    header.be32(POLICY, ACCEPT);
    header.text(TYPE, base.kind);
}
