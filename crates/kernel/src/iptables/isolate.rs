//! Finds which parts of the wanted rules iptables refuses.

use rulegen_ruleset::Bisection;
use rulegen_ruleset::iptables::{Ownership, Ruleset, Transaction, diff, retaining};

use super::{Error, Iptables};

/// What holds the tables of one family: iptables, or its twin in tests.
pub trait Tables {
    /// Reads all tables.
    ///
    /// # Errors
    /// See [`Error`].
    fn save(&mut self) -> Result<Ruleset, Error>;

    /// Carries a transaction out, which may be empty.
    ///
    /// # Errors
    /// See [`Error`]. Tables before the refused one may have been written.
    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Error>;
}

impl Tables for Iptables {
    fn save(&mut self) -> Result<Ruleset, Error> {
        Iptables::save(self)
    }

    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Error> {
        match transaction.is_empty() {
            true => Ok(()),
            false => Iptables::restore(self, transaction).map(drop),
        }
    }
}

/// The rules of some parts, and the rules of all others.
#[derive(Debug)]
pub struct Split {
    /// With all rules that belong to no part.
    pub chosen: Ruleset,
    /// The others.
    pub rest: Ruleset,
}

/// Finds the parts without which iptables takes all others: see [`rulegen_ruleset::isolate`].
///
/// iptables cannot try a transaction without writing it. Each trial is written, so the rules that
/// are held of parts outside the trial stay as they are.
///
/// # Errors
/// The refusal, if the rules are refused without any part; else why a trial failed.
pub fn isolate<T: Clone>(
    tables: &mut impl Tables,
    ours: &Ownership<'_>,
    settled: &[T],
    suspects: &[T],
    most: usize,
    split: impl Fn(&[T]) -> Split,
) -> Result<Bisection<T>, Error> {
    let mut known = None;
    rulegen_ruleset::isolate(settled, suspects, most, |parts| {
        let held = match known.take() {
            Some(held) => held,
            None => tables.save()?,
        };
        let Split { chosen, rest } = split(parts);
        let wanted = retaining(&held, chosen, &rest, ours);
        let transaction = diff(&held, &wanted, ours);
        match tables.restore(&transaction) {
            Ok(()) => {
                let mut after = held.clone();
                transaction.apply(&mut after);
                known = Some(after);
                Ok(None)
            }
            // One table may have been written before the other was refused: reading tells.
            Err(error) if error.is_about_content() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    })
}
