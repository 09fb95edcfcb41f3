//! Makes the kernel hold what is wanted, whatever it held and whoever else writes.

use std::borrow::Borrow;
use std::thread;
use std::time::Duration;

use rulegen_net::IpFamily;

use super::{Dataplane, Error, Generation, Reason, Refusal};
use crate::nftables::{Actual, Name, Operation, Table, Transaction, diff, replacement, stages};

/// How often somebody else may come in between.
const ATTEMPTS: u32 = 10;

/// How long the kernel may take to see that nothing uses a chain any more.
const GRACE: Duration = Duration::from_millis(50);

/// Writes what differs between tables and what is held under their names, in one commit; writes
/// nothing if nothing differs. Tells what the last commit wrote.
///
/// Where the kernel refuses to have what it holds changed into the wanted, the tables are made anew
/// as a whole, still in one commit.
///
/// # Errors
/// What could not be helped by reading and trying again. The kernel then holds what it held, or
/// the wanted with chains that nothing uses; with [`Error::Lost`] it is not known.
pub fn reconcile<R>(
    dataplane: &mut impl Dataplane,
    wanted: &[impl Borrow<Table>],
    tell: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<R, Error> {
    let done = reconcile_if(dataplane, wanted, |_| true, tell)?;
    done.ok_or(Error::Busy { attempts: ATTEMPTS })
}

/// The same where somebody may object to a change: `may_change` sees what is held before anything is
/// written. Returns `None` if it said no.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_if<R>(
    dataplane: &mut impl Dataplane,
    wanted: &[impl Borrow<Table>],
    mut may_change: impl FnMut(&[Option<Actual>]) -> bool,
    tell: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<Option<R>, Error> {
    let wanted: Vec<&Table> = wanted.iter().map(Borrow::borrow).collect();
    let names: Vec<(IpFamily, &Name)> =
        wanted.iter().map(|table| (table.family, &table.name)).collect();
    let mut last = Error::Busy { attempts: ATTEMPTS };
    for _ in 0..ATTEMPTS {
        let (generation, held) = dataplane.read(&names)?;
        let transactions: Vec<Transaction<'_>> =
            held.iter().zip(&wanted).map(|(held, wanted)| diff(held.as_ref(), wanted)).collect();
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(Some(tell(&transactions)));
        }
        if !may_change(&held) {
            return Ok(None);
        }
        let refusals = match commit_in_stages(dataplane, Some(generation), &transactions) {
            Ok(()) => return Ok(Some(tell(&transactions))),
            Err(Error::Refused(refusals)) => refusals,
            Err(Error::Stale) => {
                last = Error::Busy { attempts: ATTEMPTS };
                continue;
            }
            Err(Error::Lost) => {
                last = Error::Lost;
                continue;
            }
            Err(error) => return Err(error),
        };
        let way = Recovery::around(&refusals, &held);
        last = Error::Refused(refusals);
        let Some(instead) = way.instead(&transactions, &held, &wanted) else {
            match way {
                Recovery::ReadAgain => continue,
                Recovery::InTwoSteps | Recovery::Anew | Recovery::None => return Err(last),
            }
        };
        match dataplane.commit(Some(generation), &instead) {
            Ok(()) if way == Recovery::Anew => return Ok(Some(tell(&instead))),
            Ok(()) => thread::sleep(GRACE),
            Err(Error::Stale | Error::Lost) => {}
            Err(Error::Refused(_)) if way == Recovery::Anew => return Err(last),
            Err(Error::Refused(_)) => thread::sleep(GRACE),
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The kernel takes no other change while it carries out a commit. So many elements took it at most
/// 0.5 s on two busy cores, whatever their sets.
const ELEMENTS_PER_COMMIT: usize = 200_000;

/// Commits transactions, in several commits where one would be too large. See [`stages`].
///
/// # Errors
/// As [`Dataplane::commit`]. Stages before the one that failed stay.
pub fn commit_in_stages(
    dataplane: &mut impl Dataplane,
    mut generation: Option<Generation>,
    transactions: &[Transaction<'_>],
) -> Result<(), Error> {
    let elements: usize = transactions.iter().map(Transaction::elements).sum();
    if elements <= ELEMENTS_PER_COMMIT {
        return dataplane.commit(generation, transactions);
    }
    for stage in stages(transactions, ELEMENTS_PER_COMMIT) {
        // After the first the generation is our own; another writer shows as drift.
        dataplane.commit(generation.take(), &stage)?;
    }
    Ok(())
}

/// What helps where a transaction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Elements with a timeout go by themselves, and that makes no new generation: one that was to
    /// be deleted may be gone. A dump may also have missed elements while the kernel resized a
    /// set.
    ReadAgain,
    /// Before Linux 6.2 a chain was in use until some time after the last element that led to it
    /// was gone, and so could not go with it. It goes with the next commit instead.
    InTwoSteps,
    /// The kernel holds what it does not let be changed piece by piece.
    Anew,
    /// Nothing that could be done here.
    None,
}

impl Recovery {
    pub(super) fn around(refusals: &[Refusal], held: &[Option<Actual>]) -> Self {
        let all = |are: fn(&Refusal) -> bool| refusals.iter().all(are);
        let of_content =
            |refusal: &Refusal| !matches!(refusal.reason, Reason::Content | Reason::Circumstances);
        let is_gone = |refusal: &Refusal| {
            refusal.of_elements && matches!(refusal.reason, Reason::NotFound | Reason::Exists)
        };
        if all(is_gone) {
            Recovery::ReadAgain
        } else if all(|refusal| refusal.reason == Reason::Busy) {
            Recovery::InTwoSteps
        } else if all(of_content) && held.iter().any(Option::is_some) {
            Recovery::Anew
        } else {
            Recovery::None
        }
    }
}

impl Recovery {
    /// What is committed instead, if that may help.
    pub(super) fn instead<'a>(
        self,
        refused: &[Transaction<'a>],
        held: &'a [Option<Actual>],
        wanted: &[&'a Table],
    ) -> Option<Vec<Transaction<'a>>> {
        match self {
            Recovery::ReadAgain | Recovery::None => None,
            Recovery::InTwoSteps => Some(refused.iter().map(without_deletions).collect()),
            Recovery::Anew => {
                let anew = |(held, wanted): (&Option<Actual>, &&'a Table)| match held {
                    Some(_) => replacement(wanted),
                    None => diff(None, wanted),
                };
                Some(held.iter().zip(wanted).map(anew).collect())
            }
        }
    }
}

/// Without the deletions of chains that do not come back.
fn without_deletions<'a>(transaction: &Transaction<'a>) -> Transaction<'a> {
    let added: Vec<&Name> = transaction
        .operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::AddChain(name, _) => Some(*name),
            _ => None,
        })
        .collect();
    let stays = |operation: &&Operation<'a>| match operation {
        Operation::DeleteChain(name) => added.contains(name),
        _ => true,
    };
    let kept = transaction.operations.iter().filter(stays);
    Transaction { operations: kept.cloned().collect(), ..*transaction }
}
