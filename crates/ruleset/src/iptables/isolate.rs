//! Finds the parts of the desired rules that iptables refuses.

use super::{Ownership, Ruleset, Transaction, diff, retaining};
use crate::Bisection;

/// Tables of one family: iptables, or a fake in tests.
pub trait Tables {
    /// Error of a read or a write.
    type Error;

    /// Reads all tables.
    ///
    /// # Errors
    /// Nothing was read.
    fn save(&mut self) -> Result<Ruleset, Self::Error>;

    /// Applies a transaction, which may be empty.
    ///
    /// # Errors
    /// Tables before the refused one may have been written.
    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), Self::Error>;

    /// True if a rule may be the cause of an error, rather than the moment or the caller.
    fn is_about_content(error: &Self::Error) -> bool;
}

/// The rules of a subset of the parts, and the rules of the others.
#[derive(Debug)]
pub struct Split {
    /// Rules of the chosen parts, and rules that belong to no part.
    pub chosen: Ruleset,
    /// Rules of all other parts.
    pub rest: Ruleset,
}

/// Finds the parts without which iptables accepts all others: see [`crate::isolate`].
///
/// iptables cannot test a transaction without writing it. Each trial is written, so existing rules
/// of parts outside the trial are kept.
///
/// # Errors
/// The refusal if the rules are refused even without any part, or the error of a failed trial.
pub fn isolate<T: Clone, F: Tables>(
    tables: &mut F,
    ours: &Ownership<'_>,
    settled: &[T],
    suspects: &[T],
    most: usize,
    split: impl Fn(&[T]) -> Split,
) -> Result<Bisection<T>, F::Error> {
    let mut known = None;
    crate::isolate(settled, suspects, most, |parts| {
        let actual = match known.take() {
            Some(actual) => actual,
            None => tables.save()?,
        };
        let Split { chosen, rest } = split(parts);
        let desired = retaining(&actual, chosen, &rest, ours);
        let transaction = diff(&actual, &desired, ours);
        match tables.restore(&transaction) {
            Ok(()) => {
                let mut after = actual.clone();
                transaction.apply(&mut after);
                known = Some(after);
                Ok(None)
            }
            // One table may have been written before another was refused, so the next trial reads
            // the tables again.
            Err(error) if F::is_about_content(&error) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;

    use super::*;

    /// Refuses the second transaction, and records the calls.
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

    /// A table before the refused one may have been written, so the tables must be read again.
    #[test]
    fn isolate_reads_the_tables_again_after_a_refused_trial() {
        let ours = Ownership { chains: &[], prefixes: &[] };
        let mut tables = Recorder::default();
        let split = |_: &[u8]| Split {
            chosen: Ruleset::new(IpFamily::Ipv4),
            rest: Ruleset::new(IpFamily::Ipv4),
        };
        let found = isolate(&mut tables, &ours, &[], &[1, 2], 10, split).unwrap();
        assert_eq!(found.refused, Vec::<u8>::new());
        // Trials: no part, both parts, the first, the second.
        let expected = ["save", "restore", "restore", "save", "restore", "restore"];
        assert_eq!(tables.asked, expected);
    }
}
