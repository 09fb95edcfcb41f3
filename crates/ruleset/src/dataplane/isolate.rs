//! Finds the parts of the desired tables that the kernel refuses.

use rulegen_net::IpFamily;

use super::reconcile::Recovery;
use super::{Dataplane, DataplaneError, Generation, RefusedOperation};
use crate::Bisection;
use crate::nftables::{Actual, Name, Table, Transaction, diff};

/// How often a trial is repeated when another program commits in between.
const ATTEMPTS: u32 = 10;

/// Finds the parts without which the kernel accepts all others: see [`crate::isolate`]. The kernel
/// validates each trial and aborts it, so its ruleset does not change.
///
/// `tables` renders the desired tables of a subset of the parts.
///
/// # Errors
/// The refusal if the tables are refused even without any part, or the error of a failed trial.
pub fn isolate<T: Clone>(
    dataplane: &mut impl Dataplane,
    settled: &[T],
    suspects: &[T],
    most: usize,
    tables: impl Fn(&[T]) -> Vec<Table>,
) -> Result<Bisection<T>, DataplaneError> {
    let mut trials = Trials { dataplane, actual: None };
    crate::isolate(settled, suspects, most, |parts| trials.refusal(&tables(parts)))
}

struct Trials<'a, D> {
    dataplane: &'a mut D,
    actual: Option<(Generation, Vec<Option<Actual>>)>,
}

impl<D: Dataplane> Trials<'_, D> {
    /// Returns the kernel's refusal of these tables, or `None` if it accepts them.
    fn refusal(&mut self, tables: &[Table]) -> Result<Option<DataplaneError>, DataplaneError> {
        let tables: Vec<&Table> = tables.iter().collect();
        let mut last = DataplaneError::Busy { attempts: ATTEMPTS };
        for _ in 0..ATTEMPTS {
            let (is_fresh, (generation, actual)) = match self.actual.take() {
                Some(actual) => (false, actual),
                None => (true, self.read(&tables)?),
            };
            match try_all(self.dataplane, generation, &actual, &tables) {
                // Elements with a timeout may have expired since the read.
                Err(DataplaneError::Refused(refusals))
                    if !is_fresh && is_outdated(&refusals, &actual) => {}
                Err(error @ (DataplaneError::Stale | DataplaneError::Lost)) => last = error,
                result => {
                    self.actual = Some((generation, actual));
                    return match result {
                        Ok(()) => Ok(None),
                        Err(error) if error.is_about_content() => Ok(Some(error)),
                        Err(error) => Err(error),
                    };
                }
            }
        }
        Err(last)
    }

    fn read(
        &mut self,
        tables: &[&Table],
    ) -> Result<(Generation, Vec<Option<Actual>>), DataplaneError> {
        let names: Vec<(IpFamily, &Name)> = tables.iter().map(|t| (t.family, &t.name)).collect();
        self.dataplane.read(&names)
    }
}

/// Tries both ways of writing the tables: as a difference, and as a replacement.
fn try_all(
    dataplane: &mut impl Dataplane,
    generation: Generation,
    actual: &[Option<Actual>],
    desired: &[&Table],
) -> Result<(), DataplaneError> {
    let transactions: Vec<Transaction<'_>> = actual
        .iter()
        .zip(desired)
        .map(|(actual, desired)| diff(actual.as_ref(), desired))
        .collect();
    let refusals = match dataplane.validate(generation, &transactions) {
        Err(DataplaneError::Refused(refusals)) => refusals,
        done => return done,
    };
    let exist = exist(actual);
    match Recovery::from(&refusals, &exist).transactions(&transactions, &exist, desired) {
        Some(instead) => dataplane.validate(generation, &instead),
        None => Err(DataplaneError::Refused(refusals)),
    }
}

fn is_outdated(refusals: &[RefusedOperation], actual: &[Option<Actual>]) -> bool {
    Recovery::from(refusals, &exist(actual)) == Recovery::Reread
}

fn exist(actual: &[Option<Actual>]) -> Vec<bool> {
    actual.iter().map(Option::is_some).collect()
}
