//! Tables of iptables-nft, read and written without its programs.
//!
//! [`rulegen_ruleset::iptables::nf_tables`] converts rules. Their expressions are taken from and put
//! into messages as bytes: libnftnl does not keep expressions that it does not know, and takes
//! ownership of the structures of matches and targets, which needs unsafe code for each.

mod in_use;
mod read;
mod since;
mod write;

use std::collections::BTreeSet;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table, Transaction};

use super::read::{Interrupted, generation};
use super::watch::TouchedChains;
use super::{ATTEMPTS, CommitCost, DataplaneError, Generation, NfTables};
use since::Since;
use write::ChainKey;

pub use in_use::ChainInUse;

impl NfTables {
    /// Reads all tables of iptables of a family at one generation.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn read_iptables(
        &mut self,
        family: IpFamily,
    ) -> Result<(Generation, Ruleset), DataplaneError> {
        let before = generation(&mut self.socket)?;
        match read::all(&mut self.socket, family) {
            Ok(ruleset) if generation(&mut self.socket)? == before => Ok((before, ruleset)),
            Ok(_) | Err(Interrupted::Changed) => self.read_iptables_between_commits(family),
            Err(Interrupted::Failed(error)) => Err(error),
        }
    }

    /// Reads all tables, then the chains that commits touched meanwhile, until there are none.
    fn read_iptables_between_commits(
        &mut self,
        family: IpFamily,
    ) -> Result<(Generation, Ruleset), DataplaneError> {
        let mut since = Since::now(&mut self.socket, &[family])?;
        for _ in 0..ATTEMPTS {
            let read = match read::all(&mut self.socket, family) {
                Ok(ruleset) => self.follow_commits(&mut since, ruleset),
                Err(interrupted) => Err(interrupted),
            };
            match read {
                Ok(ruleset) => return Ok((since.generation(), ruleset)),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {
                    tracing::debug!("ruleset changed during read, retrying");
                    since.touched(&mut self.socket)?;
                }
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }

    fn follow_commits(
        &mut self,
        since: &mut Since,
        mut ruleset: Ruleset,
    ) -> Result<Ruleset, Interrupted> {
        for _ in 0..ATTEMPTS {
            match since.touched(&mut self.socket)? {
                TouchedChains::These(touched) if touched.is_empty() => return Ok(ruleset),
                TouchedChains::These(touched) => {
                    read::again(&mut self.socket, &mut ruleset, &touched)?;
                }
                TouchedChains::Any => break,
            }
        }
        Err(Interrupted::Changed)
    }

    /// Reads these chains at one generation. A missing chain is left out.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn read_iptables_chains<'a>(
        &mut self,
        family: IpFamily,
        chains: impl IntoIterator<Item = &'a (Table, ChainName)>,
    ) -> Result<Ruleset, DataplaneError> {
        let chains: Vec<&(Table, ChainName)> = chains.into_iter().collect();
        let (_, ruleset) = self.at_one_generation(|socket| read::these(socket, family, &chains))?;
        Ok(ruleset)
    }

    /// True if the chain exists.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Lost`].
    pub fn has_iptables_chain(
        &mut self,
        family: IpFamily,
        table: Table,
        chain: &ChainName,
    ) -> Result<bool, DataplaneError> {
        Ok(read::chain(&mut self.socket, family, table, chain)?.is_some())
    }

    /// Applies the transactions of all families in one commit. Of a chain that is replaced only the
    /// rules that differ are written. A chain that should be deleted is only emptied if something
    /// else leads to it, such as another program's map; those are returned.
    ///
    /// # Errors
    /// See [`DataplaneError`].
    pub fn commit_iptables(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
    ) -> Result<(CommitCost, Vec<ChainInUse>), DataplaneError> {
        let mut in_use = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            match self.commit_except(transactions, &in_use) {
                Err(DataplaneError::Refused(refusals)) => {
                    match write::in_use(transactions, &refusals) {
                        Some(chains) => in_use.extend(chains),
                        None => return Err(DataplaneError::Refused(refusals)),
                    }
                }
                done => return Ok((done?, in_use::described(&mut self.socket, in_use))),
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }

    fn commit_except(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
        in_use: &BTreeSet<ChainKey>,
    ) -> Result<CommitCost, DataplaneError> {
        if transactions.iter().all(|(_, transaction)| transaction.is_empty()) {
            return Ok(CommitCost::default());
        }
        let cost = match self.commit_at_one_generation(transactions, in_use) {
            Err(Interrupted::Changed) => self.commit_between_commits(transactions, in_use)?,
            Err(Interrupted::Failed(error)) => return Err(error),
            Ok(cost) => cost,
        };
        self.last = cost;
        tracing::debug!(written = ?cost, "committed");
        Ok(cost)
    }

    fn commit_at_one_generation(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
        in_use: &BTreeSet<ChainKey>,
    ) -> Result<CommitCost, Interrupted> {
        let generation = generation(&mut self.socket)?;
        let encoded = write::encoded(&mut self.socket, generation, transactions, in_use)?;
        match encoded.map(|mut encoded| encoded.commit(&mut self.socket, generation)) {
            None => Ok(CommitCost::default()),
            Some(Err(DataplaneError::Stale)) => Err(Interrupted::Changed),
            // After lost answers the batch may have taken effect, and must not be written again.
            Some(done) => done.map_err(Interrupted::Failed),
        }
    }

    /// Encodes the batch once, and again only if other commits touch its chains.
    fn commit_between_commits(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
        in_use: &BTreeSet<ChainKey>,
    ) -> Result<CommitCost, DataplaneError> {
        tracing::debug!("ruleset changed before the commit, retrying");
        let families: Vec<IpFamily> = transactions.iter().map(|(family, _)| *family).collect();
        let mut since = Since::now(&mut self.socket, &families)?;
        for _ in 0..ATTEMPTS {
            let generation = since.generation();
            let encoded = write::encoded(&mut self.socket, generation, transactions, in_use);
            let mut encoded = match encoded {
                Ok(Some(encoded)) => encoded,
                Ok(None) => return Ok(CommitCost::default()),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {
                    since.touched(&mut self.socket)?;
                    continue;
                }
            };
            for _ in 0..ATTEMPTS {
                let touched = since.touched(&mut self.socket)?;
                if write::is_affected(transactions, &touched) {
                    break;
                }
                match encoded.commit(&mut self.socket, since.generation()) {
                    Err(DataplaneError::Stale) => {}
                    done => return done,
                }
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }
}
