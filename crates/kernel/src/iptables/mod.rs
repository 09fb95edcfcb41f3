//! iptables, in both variants.
//!
//! The tables of iptables-nft are read and written through netlink. The interface of iptables-legacy
//! takes whole tables in a layout private to iptables, so those are read and written with one call
//! of `iptables-save` and `iptables-restore` per family. The programs of iptables-nft can be used in
//! the same way.

mod access;
mod error;
mod installed;
mod legacy;
mod lock;
mod own;
mod program;
mod refusal;
mod variant;
mod watch;

use std::time::Duration;

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table, Tables, Transaction, parse};

pub use access::Access;
pub use error::IptablesError;
pub use installed::{accessible, choose, holds_chain, installed, is_accessible, is_installed};
pub use legacy::{LegacyTable, legacy_tables};
pub use own::OwnCommits;
pub use program::Restored;
pub use variant::Variant;
pub use watch::Watcher;

use crate::nftables::NfTables;
use program::Program;

/// The iptables of one family and variant.
#[derive(Debug, Clone)]
pub struct Iptables {
    family: IpFamily,
    variant: Variant,
    access: Access,
    lock_timeout: Duration,
}

impl Iptables {
    /// The tables of a variant. Programs wait at most `lock_timeout` for the xtables lock.
    pub fn new(family: IpFamily, variant: Variant, lock_timeout: Duration) -> Self {
        Self { family, variant, access: Access::default(), lock_timeout }
    }

    /// The same tables, accessed in this way.
    #[must_use]
    pub fn accessed_by(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// True if the tables are accessed through netlink, not through programs.
    pub fn uses_netlink(&self) -> bool {
        (self.variant, self.access) == (Variant::Nft, Access::Netlink)
    }

    /// Reads all tables. An unreadable line is skipped with a warning in the log, because foreign
    /// chains may contain anything.
    ///
    /// # Errors
    /// See [`IptablesError`].
    pub fn save(&self) -> Result<Ruleset, IptablesError> {
        if self.uses_netlink() {
            tracing::debug!(family = self.family.api_name(), "reading tables of iptables-nft");
            let (_, ruleset) = NfTables::open()?.read_iptables(self.family)?;
            return Ok(ruleset);
        }
        let text = self.program("save").run(&[])?;
        refuse_incompatible(&text)?;
        let (ruleset, errors) = parse(self.family, &text);
        for error in errors {
            tracing::warn!(%error, "cannot parse line of iptables-save");
        }
        Ok(ruleset)
    }

    /// Reads only these chains. A missing chain is left out through netlink; a program reports it as
    /// [`IptablesError::Refused`]. A program of iptables-nft takes 7 ms for a chain.
    ///
    /// # Errors
    /// See [`IptablesError`].
    pub fn read_chains<'a>(
        &self,
        chains: impl IntoIterator<Item = &'a (Table, ChainName)>,
    ) -> Result<Ruleset, IptablesError> {
        if self.uses_netlink() {
            return Ok(NfTables::open()?.read_iptables_chains(self.family, chains)?);
        }
        let mut read = Ruleset::new(self.family);
        for (table, chain) in chains {
            let program = Program::of_chains(self.family, self.variant);
            let listed = program.run(&["-t", table.name(), "-S", chain.as_str()])?;
            // The first line declares the chain, in a format that iptables-save does not use.
            let rules = listed.split_once('\n').map_or("", |(_, rules)| rules);
            let (one, errors) = parse(self.family, &format!("*{table}\n:{chain} -\n{rules}"));
            for error in errors {
                tracing::warn!(%error, "cannot parse line of iptables");
            }
            for (table, chains) in one.tables {
                read.tables.entry(table).or_default().extend(chains);
            }
        }
        Ok(read)
    }

    /// Applies a transaction completely or not at all; through programs, each of its tables. Through
    /// netlink, a chain that another program's rule or map leads to is emptied instead of deleted.
    ///
    /// # Errors
    /// See [`IptablesError`].
    pub fn restore(&self, transaction: &Transaction<'_>) -> Result<Restored, IptablesError> {
        if self.uses_netlink() {
            return Self::commit_together(&[(self.family, transaction)]);
        }
        let wait = self.lock_timeout.as_secs().max(1).to_string();
        let restore = self.program("restore");
        restore.feed(&["-w", &wait, "--noflush"], transaction).map_err(|error| match error {
            // Only iptables-legacy has the lock.
            IptablesError::Refused { status: Some(status), .. }
                if self.variant == Variant::Legacy && lock::is_timeout(status) =>
            {
                IptablesError::Locked {
                    path: lock::path(),
                    holder: lock::holder(),
                    waited: self.lock_timeout,
                }
            }
            error => error,
        })
    }

    /// Applies the transactions of several families in one commit through netlink.
    ///
    /// # Errors
    /// See [`IptablesError`]; nothing is written.
    pub fn commit_together(
        transactions: &[(IpFamily, &Transaction<'_>)],
    ) -> Result<Restored, IptablesError> {
        let mut kernel = NfTables::open()?;
        let (cost, in_use) = kernel.commit_iptables(transactions)?;
        // Without a difference, nothing was sent.
        let commits = usize::from(cost.bytes > 0);
        Ok(Restored { id: kernel.port(), bytes: cost.bytes, commits, in_use })
    }

    fn program(&self, what: &str) -> Program {
        Program::new(self.family, self.variant, what)
    }
}

/// iptables-nft-save skips a table that it cannot decode, says so in a comment, and succeeds. If
/// that table were taken for empty, every rule would be added a second time.
fn refuse_incompatible(saved: &str) -> Result<(), IptablesError> {
    let ours =
        [Table::Filter, Table::Nat].map(|table| format!("# Table `{table}' is incompatible"));
    let line = saved.lines().find(|line| ours.iter().any(|start| line.starts_with(start)));
    line.map_or(Ok(()), |line| Err(IptablesError::Incompatible { line: line.to_owned() }))
}

impl Tables for Iptables {
    type Error = IptablesError;

    fn save(&mut self) -> Result<Ruleset, IptablesError> {
        Iptables::save(self)
    }

    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), IptablesError> {
        match transaction.is_empty() {
            true => Ok(()),
            false => Iptables::restore(self, transaction).map(drop),
        }
    }

    fn is_about_content(error: &IptablesError) -> bool {
        error.is_about_content()
    }
}
