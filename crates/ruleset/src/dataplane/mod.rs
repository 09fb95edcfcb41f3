//! Brings a dataplane of nftables to the wanted tables. Pure logic: the kernel crate and the fake
//! kernel of the tests implement [`Dataplane`].

mod error;
mod isolate;
mod reconcile;

use rulegen_net::IpFamily;

use crate::nftables::{Actual, Name, Transaction};

pub use error::{Error, Obstacle, Reason, Refusal};
pub use isolate::isolate;
pub use reconcile::{commit_in_stages, reconcile, reconcile_if};

/// The kernel's generation number of the whole ruleset. Each commit of any program increases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub u32);

/// Holds nftables tables: the kernel, or a fake kernel in tests.
pub trait Dataplane {
    /// Reads tables, all of one generation; `None` for those that are not there.
    ///
    /// # Errors
    /// Nothing was read: see [`Error`].
    fn read(
        &mut self,
        tables: &[(IpFamily, &Name)],
    ) -> Result<(Generation, Vec<Option<Actual>>), Error>;

    /// Carries all transactions out, or none, and none if the ruleset is no longer of the
    /// generation that is given.
    ///
    /// # Errors
    /// Nothing was changed, or, with [`Error::Lost`], it is not known: see [`Error`].
    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error>;

    /// Has transactions looked at as [`Dataplane::commit`] does, and changes nothing.
    ///
    /// # Errors
    /// They would be refused: see [`Error`].
    fn rehearse(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error>;
}
