//! iptables through its own programs, of either variant.
//!
//! The kernel's old interface takes a whole table at a time and its layout is iptables' own
//! business, so rulesets go through `iptables-save` and `iptables-restore`: one call of each a
//! family.

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

pub use legacy::{LegacyTable, legacy_tables};
pub use own::OwnCommits;
pub use program::Restored;
pub use variant::{Variant, choose, holds_chain, installed, is_installed};
pub use watch::Watcher;

use program::Program;

/// What went wrong between us and iptables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there. Retrying does not help.
    #[error("{program} is not installed (Debian: apt-get install iptables)")]
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// The program could not be run or spoken to.
    #[error("{program} could not be run")]
    Run {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process holds the lock of iptables. Retrying helps once it is done.
    #[error(
        "the lock of iptables ({path}) is held by {holder}, and waiting {waited:?} did not help; \
         try again, or wait longer with --iptables-lock-timeout"
    )]
    Locked {
        /// The lock file.
        path: String,
        /// The process that holds it, as far as that can be told.
        holder: String,
        /// How long we waited.
        waited: Duration,
    },
    /// A table holds rules that only `nft` can have made, and iptables cannot show it. Retrying
    /// helps once they are gone.
    #[error(
        "iptables cannot read a table of its own ({line}): somebody put a rule into it that is \
         not iptables'; find it with `nft list table ip nat` or `nft list table ip filter`"
    )]
    Incompatible {
        /// In the words of iptables-nft-save.
        line: String,
    },
    /// The program refused; nothing was changed in the table it names.
    #[error("{program} failed: {message}")]
    Refused {
        /// Its name.
        program: String,
        /// Its exit status, unless a signal ended it.
        status: Option<i32>,
        /// Its own words, and the line it names.
        message: String,
    },
}

impl Error {
    /// Whether a rule itself may be why the program refused, and not the moment or who asks: without
    /// that rule it may take the rest.
    pub fn is_about_content(&self) -> bool {
        match self {
            Error::Refused { status: Some(status), message, .. } => {
                refusal::is_about_content(*status, message)
            }
            _ => false,
        }
    }
}

/// One family's iptables of one variant.
#[derive(Debug, Clone)]
pub struct Iptables {
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
}

impl Iptables {
    /// Speaks to the kernel through a variant's programs, waiting at most so long for the lock.
    pub fn new(family: IpFamily, variant: Variant, lock_timeout: Duration) -> Self {
        Self { family, variant, lock_timeout }
    }

    /// Reads all tables. A line that is not understood is left out, with a warning in the log:
    /// other chains than ours may hold anything.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn save(&self) -> Result<Ruleset, Error> {
        let text = self.program("save").run(&[])?;
        refuse_incompatible(&text)?;
        let (ruleset, errors) = parse(self.family, &text);
        for error in errors {
            tracing::warn!(%error, "iptables-save printed what is not understood");
        }
        Ok(ruleset)
    }

    /// Reads some chains, each of which must be there, and nothing else. Of iptables-nft a chain takes
    /// 7 ms, where saving the rules of 1,500 Services with 5 endpoints each takes 0.9 s.
    ///
    /// # Errors
    /// See [`Error`]; a chain that is not there is [`Error::Refused`].
    pub fn read_chains<'a>(
        &self,
        chains: impl IntoIterator<Item = &'a (Table, ChainName)>,
    ) -> Result<Ruleset, Error> {
        let mut read = Ruleset::new(self.family);
        for (table, chain) in chains {
            let program = Program::of_chains(self.family, self.variant);
            let listed = program.run(&["-t", table.name(), "-S", chain.as_str()])?;
            // The first line declares the chain, in a form that iptables-save does not have.
            let rules = listed.split_once('\n').map_or("", |(_, rules)| rules);
            let (one, errors) = parse(self.family, &format!("*{table}\n:{chain} -\n{rules}"));
            for error in errors {
                tracing::warn!(%error, "iptables printed what is not understood");
            }
            for (table, chains) in one.tables {
                read.tables.entry(table).or_default().extend(chains);
            }
        }
        Ok(read)
    }

    /// Carries a transaction out. Each table in it changes whole or not at all.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn restore(&self, transaction: &Transaction<'_>) -> Result<Restored, Error> {
        let wait = self.lock_timeout.as_secs().max(1).to_string();
        let restore = self.program("restore");
        restore.feed(&["-w", &wait, "--noflush"], transaction).map_err(|error| match error {
            Error::Refused { message, .. } if lock::is_complaint(&message) => Error::Locked {
                path: lock::path(),
                holder: lock::holder(),
                waited: self.lock_timeout,
            },
            error => error,
        })
    }

    fn program(&self, what: &str) -> Program {
        Program::new(self.family, self.variant, what)
    }
}

/// iptables-nft-save leaves out a table that holds what it does not understand, says so in a
/// comment, and succeeds. Taken for empty, it would get every rule a second time.
fn refuse_incompatible(saved: &str) -> Result<(), Error> {
    let ours =
        [Table::Filter, Table::Nat].map(|table| format!("# Table `{table}' is incompatible"));
    let line = saved.lines().find(|line| ours.iter().any(|start| line.starts_with(start)));
    line.map_or(Ok(()), |line| Err(Error::Incompatible { line: line.to_owned() }))
}

impl Tables for Iptables {
    type Error = Error;

    fn save(&mut self) -> Result<Ruleset, Error> {
        Iptables::save(self)
    }

    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Error> {
        match transaction.is_empty() {
            true => Ok(()),
            false => Iptables::restore(self, transaction).map(drop),
        }
    }

    fn is_about_content(error: &Error) -> bool {
        error.is_about_content()
    }
}
