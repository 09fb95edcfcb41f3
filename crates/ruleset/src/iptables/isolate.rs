//! Finds which parts of the wanted rules iptables refuses.

use super::{Ownership, Ruleset, Transaction, diff, retaining};
use crate::Bisection;

/// The tables of one family: iptables, or a fake in tests.
pub trait Tables {
    /// Why the tables were not read or written.
    type Error;

    /// Reads all tables.
    ///
    /// # Errors
    /// Nothing was read.
    fn save(&mut self) -> Result<Ruleset, Self::Error>;

    /// Carries a transaction out, which may be empty.
    ///
    /// # Errors
    /// Tables before the refused one may have been written.
    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Self::Error>;

    /// Whether a rule may be the reason of an error, rather than the moment or the caller.
    fn is_about_content(error: &Self::Error) -> bool;
}

/// The rules of some parts, and the rules of all others.
#[derive(Debug)]
pub struct Split {
    /// The rules of the chosen parts, and all rules that belong to no part.
    pub chosen: Ruleset,
    /// The rules of all other parts.
    pub rest: Ruleset,
}

/// Finds the parts without which iptables takes all others: see [`crate::isolate`].
///
/// iptables cannot try a transaction without writing it. Each trial is written, so the rules that
/// are held of parts outside the trial stay as they are.
///
/// # Errors
/// The refusal, if the rules are refused without any part; else why a trial failed.
pub fn isolate<T: Clone, Actual: Tables>(
    tables: &mut Actual,
    ours: &Ownership<'_>,
    settled: &[T],
    suspects: &[T],
    most: usize,
    split: impl Fn(&[T]) -> Split,
) -> Result<Bisection<T>, Actual::Error> {
    let mut known = None;
    crate::isolate(settled, suspects, most, |parts| {
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
            // One table may have been written before the other was refused, so the next trial
            // reads the tables.
            Err(error) if Actual::is_about_content(&error) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;

    use super::*;

    /// Refuses the second transaction, and records what it is asked.
    #[derive(Default)]
    struct Recorder {
        asked: Vec<&'static str>,
        trials: usize,
    }

    impl Tables for Recorder {
        type Error = ();

        fn save(&mut self) -> Result<Ruleset, ()> {
            self.asked.push("save");
            Ok(Ruleset::new(IpFamily::Ipv4))
        }

        fn restore(&mut self, _: &Transaction<'_>) -> Result<(), ()> {
            self.asked.push("restore");
            self.trials += 1;
            match self.trials {
                2 => Err(()),
                _ => Ok(()),
            }
        }

        fn is_about_content((): &()) -> bool {
            true
        }
    }

    /// A table before the refused one may have been written.
    #[test]
    fn the_tables_are_read_again_after_a_refused_trial() {
        let ours = Ownership { chains: &[], prefixes: &[] };
        let mut tables = Recorder::default();
        let split = |_: &[u8]| Split {
            chosen: Ruleset::new(IpFamily::Ipv4),
            rest: Ruleset::new(IpFamily::Ipv4),
        };
        let found = isolate(&mut tables, &ours, &[], &[1, 2], 10, split).unwrap();
        assert_eq!(found.refused, Vec::<u8>::new());
        // Without any, both, the first, the second.
        let expected = ["save", "restore", "restore", "save", "restore", "restore"];
        assert_eq!(tables.asked, expected);
    }
}
