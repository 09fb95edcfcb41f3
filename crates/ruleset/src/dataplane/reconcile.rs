//! Makes the kernel's tables equal to the desired ones, regardless of their content, even if other
//! programs write at the same time.

use std::borrow::Borrow;
use std::thread;
use std::time::Duration;

use rulegen_net::IpFamily;

use super::{Dataplane, DataplaneError, Generation, RefusalReason, RefusedOperation};
use crate::nftables::{
    Actual, Name, Operation, Table, Transaction, diff, diff_compared, replacement, stages,
};

/// How often a write is repeated when another program commits in between.
const ATTEMPTS: u32 = 10;

/// Time for the kernel to notice that a chain is no longer used.
const GRACE: Duration = Duration::from_millis(50);

/// Writes the differences between the desired tables and the kernel's tables of the same names, in
/// one commit, or nothing if they are equal. Returns the result of `describe` for the last commit.
///
/// Where the kernel refuses to change its tables into the desired ones, they are replaced as a
/// whole, still in one commit.
///
/// # Errors
/// An error that reading and retrying cannot fix. The kernel then has the previous tables, or the
/// desired ones with additional unused chains; after [`DataplaneError::Lost`] it is unknown which.
pub fn reconcile<R>(
    dataplane: &mut impl Dataplane,
    desired: &[impl Borrow<Table>],
    describe: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<R, DataplaneError> {
    let desired: Vec<&Table> = desired.iter().map(Borrow::borrow).collect();
    let done = reconcile_unless(dataplane, &desired, |_| Ok(false), describe)?;
    done.ok_or(DataplaneError::Busy { attempts: ATTEMPTS })
}

/// Like [`reconcile`], but asks `may_change` with the kernel's tables, read as a whole, before
/// anything is written. Returns `None` if it returns false.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_if<D: Dataplane, R>(
    dataplane: &mut D,
    desired: &[impl Borrow<Table>],
    mut may_change: impl FnMut(&[Option<Actual>]) -> bool,
    describe: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<Option<R>, DataplaneError> {
    let desired: Vec<&Table> = desired.iter().map(Borrow::borrow).collect();
    let names: Vec<(IpFamily, &Name)> =
        desired.iter().map(|table| (table.family, &table.name)).collect();
    // If the tables changed since they were compared, the commit fails and all is read again.
    let is_forbidden = |dataplane: &mut D| Ok(!may_change(&dataplane.read(&names)?.1));
    reconcile_unless(dataplane, &desired, is_forbidden, describe)
}

fn reconcile_unless<D: Dataplane, R>(
    dataplane: &mut D,
    desired: &[&Table],
    mut is_forbidden: impl FnMut(&mut D) -> Result<bool, DataplaneError>,
    describe: impl Fn(&[Transaction<'_>]) -> R,
) -> Result<Option<R>, DataplaneError> {
    let mut last = DataplaneError::Busy { attempts: ATTEMPTS };
    for _ in 0..ATTEMPTS {
        let (generation, compared) = dataplane.compare(desired)?;
        let transactions: Vec<Transaction<'_>> = compared
            .iter()
            .zip(desired)
            .map(|(compared, desired)| diff_compared(compared.as_ref(), desired))
            .collect();
        if transactions.iter().all(Transaction::is_empty) {
            return Ok(Some(describe(&transactions)));
        }
        if is_forbidden(dataplane)? {
            return Ok(None);
        }
        let refusals = match commit_in_stages(dataplane, Some(generation), &transactions) {
            Ok(()) => return Ok(Some(describe(&transactions))),
            Err(DataplaneError::Refused(refusals)) => refusals,
            Err(DataplaneError::Stale) => {
                last = DataplaneError::Busy { attempts: ATTEMPTS };
                continue;
            }
            Err(DataplaneError::Lost) => {
                last = DataplaneError::Lost;
                continue;
            }
            Err(error) => return Err(error),
        };
        let exist: Vec<bool> = compared.iter().map(Option::is_some).collect();
        let recovery = Recovery::from(&refusals, &exist);
        last = DataplaneError::Refused(refusals);
        let Some(instead) = recovery.transactions(&transactions, &exist, desired) else {
            match recovery {
                Recovery::Reread => continue,
                Recovery::DeleteLater | Recovery::Replace | Recovery::None => return Err(last),
            }
        };
        match dataplane.commit(Some(generation), &instead) {
            Ok(()) if recovery == Recovery::Replace => return Ok(Some(describe(&instead))),
            Ok(()) => thread::sleep(GRACE),
            Err(DataplaneError::Stale | DataplaneError::Lost) => {}
            Err(DataplaneError::Refused(_)) if recovery == Recovery::Replace => return Err(last),
            Err(DataplaneError::Refused(_)) => thread::sleep(GRACE),
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Most elements per commit. The kernel accepts no other change during a commit; this many elements
/// took at most 0.5 s on two busy cores, in any kind of set.
const ELEMENTS_PER_COMMIT: usize = 200_000;

/// Commits transactions, in several commits if one would be too large. See [`stages`].
///
/// # Errors
/// As [`Dataplane::commit`]. Stages before the failed one stay committed.
pub fn commit_in_stages(
    dataplane: &mut impl Dataplane,
    mut generation: Option<Generation>,
    transactions: &[Transaction<'_>],
) -> Result<(), DataplaneError> {
    let elements: usize = transactions.iter().map(Transaction::elements).sum();
    if elements <= ELEMENTS_PER_COMMIT {
        return dataplane.commit(generation, transactions);
    }
    for stage in stages(transactions, ELEMENTS_PER_COMMIT) {
        // After the first commit the generation is our own; another writer shows up as drift.
        dataplane.commit(generation.take(), &stage)?;
    }
    Ok(())
}

/// Recovery after a refused transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Elements with a timeout expire without a new generation, so an element to delete may be
    /// gone. A dump may also have missed elements while the kernel resized a set.
    Reread,
    /// Before Linux 6.2 a chain stayed in use for some time after the last element that led to it
    /// was deleted, and could not be deleted in the same commit. It is deleted in the next commit.
    DeleteLater,
    /// The kernel's table contains something that cannot be changed piece by piece.
    Replace,
    /// No recovery possible.
    None,
}

impl Recovery {
    pub(super) fn from(refusals: &[RefusedOperation], exist: &[bool]) -> Self {
        let all = |are: fn(&RefusedOperation) -> bool| refusals.iter().all(are);
        let of_content = |refusal: &RefusedOperation| {
            !matches!(refusal.reason, RefusalReason::Content | RefusalReason::Circumstances)
        };
        let is_gone = |refusal: &RefusedOperation| {
            refusal.of_elements
                && matches!(refusal.reason, RefusalReason::NotFound | RefusalReason::Exists)
        };
        if all(is_gone) {
            Recovery::Reread
        } else if all(|refusal| refusal.reason == RefusalReason::Busy) {
            Recovery::DeleteLater
        } else if all(of_content) && exist.contains(&true) {
            Recovery::Replace
        } else {
            Recovery::None
        }
    }
}

impl Recovery {
    /// The transactions to commit instead, if that may help. `exist` says which of the tables exist.
    pub(super) fn transactions<'a>(
        self,
        refused: &[Transaction<'a>],
        exist: &[bool],
        desired: &[&'a Table],
    ) -> Option<Vec<Transaction<'a>>> {
        match self {
            Recovery::Reread | Recovery::None => None,
            Recovery::DeleteLater => Some(refused.iter().map(without_deletions).collect()),
            Recovery::Replace => {
                let replace = |(exists, desired): (&bool, &&'a Table)| match exists {
                    true => replacement(desired),
                    false => diff(None, desired),
                };
                Some(exist.iter().zip(desired).map(replace).collect())
            }
        }
    }
}

/// The transaction without deletions of chains that are not added again.
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
