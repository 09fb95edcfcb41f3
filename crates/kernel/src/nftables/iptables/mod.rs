//! Tables of iptables-nft, read and written without its programs.
//!
//! [`rulegen_ruleset::iptables::nf_tables`] converts rules. Their expressions are taken from and put
//! into messages as bytes: libnftnl does not keep expressions that it does not know, and takes
//! ownership of the structures of matches and targets, which needs unsafe code for each.

mod edit;
mod read;
mod write;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table, Transaction};

use super::read::{Interrupted, generation};
use super::{ATTEMPTS, CommitCost, DataplaneError, Generation, NfTables};

impl NfTables {
    /// Reads all tables of iptables of a family at one generation.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn read_iptables(
        &mut self,
        family: IpFamily,
    ) -> Result<(Generation, Ruleset), DataplaneError> {
        self.at_one_generation(|socket| read::all(socket, family))
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
    /// rules that differ are written.
    ///
    /// # Errors
    /// See [`DataplaneError`].
    pub fn commit_iptables(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
    ) -> Result<CommitCost, DataplaneError> {
        if transactions.iter().all(|(_, transaction)| transaction.is_empty()) {
            return Ok(CommitCost::default());
        }
        for _ in 0..ATTEMPTS {
            match write::commit(&mut self.socket, transactions) {
                Ok(cost) => {
                    self.last = cost;
                    tracing::debug!(written = ?cost, "committed");
                    return Ok(cost);
                }
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {
                    tracing::debug!("ruleset changed before the commit, retrying");
                }
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }
}
