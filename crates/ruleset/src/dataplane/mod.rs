//! Reconciles nftables tables with the desired ones. Pure logic: the kernel crate and the fake
//! kernel of the tests implement [`Dataplane`].

mod error;
mod isolate;
mod reconcile;

use rulegen_net::IpFamily;

use crate::nftables::{Actual, ComparedTable, Key, Name, Set, Table, Transaction};

pub use error::{AccessFailure, DataplaneError, RefusalReason, RefusedOperation};
pub use isolate::isolate;
pub use reconcile::{commit_in_stages, reconcile, reconcile_if};

/// The kernel's generation number of the whole ruleset. Each commit of any program increases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after the next commit. The kernel skips zero.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// Store of nftables tables: the kernel, or a fake kernel in tests.
pub trait Dataplane {
    /// Reads tables, all at the same generation; `None` for each table that does not exist.
    ///
    /// # Errors
    /// See [`DataplaneError`]; nothing was read.
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError>;

    /// Reads the tables of the same names as the desired ones, all at the same generation, and
    /// compares their elements; `None` for each table that does not exist.
    ///
    /// # Errors
    /// See [`DataplaneError`]; nothing was read.
    fn compare(
        &mut self,
        desired: &[&Table],
    ) -> Result<(Generation, Vec<Option<ComparedTable>>), DataplaneError>;

    /// Commits all transactions or none. Commits none if the ruleset has left the given generation.
    ///
    /// # Errors
    /// See [`DataplaneError`]. Nothing was changed, except that the outcome of [`DataplaneError::Lost`] is unknown.
    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError>;

    /// Validates transactions as [`Dataplane::commit`] does, without changing anything.
    ///
    /// # Errors
    /// See [`DataplaneError`]; the commit would fail with the same error.
    fn validate(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), DataplaneError>;
}

/// A store whose sets get elements from packets, with a timeout ("dynamic" in nft).
pub trait DynamicSets {
    /// Deletes those of the elements that still exist. They may expire at any time, and the kernel
    /// refuses to delete missing elements.
    ///
    /// # Errors
    /// See [`DataplaneError`]; nothing was deleted.
    fn delete_if_present(
        &mut self,
        family: IpFamily,
        table: &Name,
        name: &Name,
        set: &Set,
        keys: &[Key],
    ) -> Result<(), DataplaneError>;
}
