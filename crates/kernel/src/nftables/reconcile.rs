//! Makes the kernel hold what is wanted, whatever it held and whoever else writes.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use rulegen_ruleset::Family;
use rulegen_ruleset::nftables::{Held, Name, Operation, Table, Transaction, diff};

use super::{Error, Generation, Refusal};

/// What holds tables: the kernel, or its twin in tests.
pub trait Dataplane {
    /// Reads tables, all of one generation; `None` for those that are not there.
    ///
    /// # Errors
    /// Nothing was read: see [`Error`].
    fn read(
        &mut self,
        tables: &[(Family, &Name)],
    ) -> Result<(Generation, Vec<Option<Held>>), Error>;

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
}

/// How often somebody else may come in between.
const ATTEMPTS: u32 = 10;

/// Writes what differs between tables and what is held under their names, in one commit; writes
/// nothing if nothing differs. Whatever was written is told.
///
/// # Errors
/// What could not be helped by reading and trying again. The kernel then holds what it held,
/// unless it is [`Error::Lost`].
pub fn reconcile<R>(
    dataplane: &mut impl Dataplane,
    wanted: &[Table],
    tell: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<R, Error> {
    let names: Vec<(Family, &Name)> =
        wanted.iter().map(|table| (table.family, &table.name)).collect();
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        let (generation, held) = dataplane.read(&names)?;
        let transactions: Vec<Transaction<'_>> =
            held.iter().zip(wanted).map(|(held, wanted)| diff(held.as_ref(), wanted)).collect();
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(tell(&transactions));
        }
        match dataplane.commit(Some(generation), &transactions) {
            Ok(()) => return Ok(tell(&transactions)),
            Err(Error::Stale | Error::Lost) => {
                tracing::debug!("the ruleset changed before it was written");
            }
            Err(Error::Refused(refusals)) if still_in_use(&refusals) => {
                let kept: Vec<Transaction<'_>> =
                    transactions.iter().map(without_deletions).collect();
                if kept.iter().all(Transaction::is_empty) {
                    thread::sleep(GRACE);
                } else {
                    match dataplane.commit(Some(generation), &kept) {
                        Ok(()) | Err(Error::Stale | Error::Lost) => {}
                        Err(error) => return Err(error),
                    }
                }
                refused = Some(Error::Refused(refusals));
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or(Error::Busy { attempts: ATTEMPTS }))
}

/// How long the kernel may take to see that nothing uses a chain any more.
const GRACE: Duration = Duration::from_millis(50);

/// Before Linux 6.2 a chain was in use until some time after the last element that led to it was
/// gone, and so could not go with it. It goes with the next commit instead.
fn still_in_use(refusals: &[Refusal]) -> bool {
    refusals.iter().all(|refusal| refusal.errno == Errno::EBUSY)
}

fn without_deletions<'a>(transaction: &Transaction<'a>) -> Transaction<'a> {
    let comes_back = |name: &Name| {
        let is_added = |operation: &Operation<'_>| matches!(operation, Operation::AddChain(added, _) if *added == name);
        transaction.operations.iter().any(is_added)
    };
    let stays = |operation: &&Operation<'a>| match operation {
        Operation::DeleteChain(name) => comes_back(name),
        _ => true,
    };
    let kept = transaction.operations.iter().filter(stays);
    Transaction { operations: kept.cloned().collect(), ..*transaction }
}
