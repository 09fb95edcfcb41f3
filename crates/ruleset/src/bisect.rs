//! Finds the refused items among many, in few trials.

/// Trials after which a search in a dataplane stops: each takes as long as writing all rules.
pub const MOST_TRIALS: usize = 200;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bisection<T> {
    /// Items that are refused together with everything accepted before them.
    pub refused: Vec<T>,
    /// Items not tried alone, because too many others were refused.
    pub untried: Vec<T>,
    /// How often `accepts` was called.
    pub trials: usize,
}

/// Adds items piece by piece until all are accepted except those that cause a refusal. `accepts`
/// tries to add items to those accepted so far. If two items are refused only together, the later
/// one is refused.
///
/// For k refused items among n this takes at most 1 + 2 k ⌈log₂ n⌉ trials, and never more than
/// `most`.
///
/// # Errors
/// The first error of `accepts`: a trial had no result.
pub fn bisect<T: Clone, E>(
    items: &[T],
    most: usize,
    accepts: impl FnMut(&[T]) -> Result<bool, E>,
) -> Result<Bisection<T>, E> {
    let found = Bisection { refused: Vec::new(), untried: Vec::new(), trials: 0 };
    let mut search = BisectionRun { most, accepts, found };
    search.add(items, false)?;
    Ok(search.found)
}

/// Finds the items without which all others are accepted together. `refusal` tries a subset and
/// returns the reason if it is refused.
///
/// The `settled` items were accepted before, and one of the `suspects` is probably the cause. The
/// settled items are divided only if they are refused too. That takes two more trials than
/// [`bisect`].
///
/// # Errors
/// The refusal if even the empty list is refused, or the error of a trial that had no result.
pub fn isolate<T: Clone, E>(
    settled: &[T],
    suspects: &[T],
    most: usize,
    mut refusal: impl FnMut(&[T]) -> Result<Option<E>, E>,
) -> Result<Bisection<T>, E> {
    refusal(&[])?.map_or(Ok(()), Err)?;
    let is_settled = !settled.is_empty() && refusal(settled)?.is_none();
    let (mut accepted, suspects) = match is_settled {
        true => (settled.to_vec(), suspects.to_vec()),
        false => (Vec::new(), [settled, suspects].concat()),
    };
    bisect(&suspects, most, |items| {
        let together = [accepted.as_slice(), items].concat();
        let is_accepted = refusal(&together)?.is_none();
        if is_accepted {
            accepted = together;
        }
        Ok(is_accepted)
    })
}

struct BisectionRun<T, A> {
    most: usize,
    accepts: A,
    found: Bisection<T>,
}

impl<T: Clone, E, A: FnMut(&[T]) -> Result<bool, E>> BisectionRun<T, A> {
    /// Returns true if all were accepted. `is_refused`: the items are known to be refused together,
    /// and are divided at once.
    fn add(&mut self, items: &[T], is_refused: bool) -> Result<bool, E> {
        if items.is_empty() {
            return Ok(true);
        }
        if !is_refused || items.len() == 1 {
            if self.found.trials == self.most {
                self.found.untried.extend_from_slice(items);
                return Ok(false);
            }
            self.found.trials += 1;
            if (self.accepts)(items)? {
                return Ok(true);
            }
        }
        if items.len() == 1 {
            self.found.refused.extend_from_slice(items);
            return Ok(false);
        }
        let (first, second) = items.split_at(items.len() / 2);
        let is_first_accepted = self.add(first, false)?;
        self.add(second, is_first_accepted)?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches `n` items for the culprits, with `refuses` as the test for a subset.
    fn search(
        count: u32,
        most: usize,
        refuses: impl Fn(&[u32]) -> bool,
    ) -> (Bisection<u32>, Vec<u32>) {
        let items: Vec<u32> = (0..count).collect();
        let mut accepted: Vec<u32> = Vec::new();
        let found = bisect(&items, most, |chunk| {
            let together = [accepted.as_slice(), chunk].concat();
            let is_accepted = !refuses(&together);
            if is_accepted {
                accepted = together;
            }
            Ok::<bool, Infallible>(is_accepted)
        });
        let Ok(found) = found;
        (found, accepted)
    }

    #[test]
    fn bisect_finds_each_culprit_within_the_bound() {
        for count in [1_u32, 2, 3, 7, 100, 10_000] {
            for step in [1, 2, 5, 1_000] {
                let bad: Vec<u32> = (0..count).filter(|n| n % 1_009 % step == 1).take(40).collect();
                let (found, accepted) =
                    search(count, usize::MAX, |all| all.iter().any(|item| bad.contains(item)));
                assert_eq!(found.refused, bad);
                assert_eq!(accepted.len() + bad.len(), count as usize);
                let levels = count.next_power_of_two().trailing_zeros() as usize;
                assert!(found.trials <= 1 + 2 * bad.len() * levels, "{count} {step}: {found:?}");
            }
        }
    }

    #[test]
    fn bisect_leaves_out_one_of_a_pair_refused_together() {
        let is_pair = |all: &[u32]| all.contains(&3) && all.contains(&700);
        let (found, accepted) = search(1_000, usize::MAX, is_pair);
        assert_eq!(found.refused, [700]);
        assert_eq!(accepted.len(), 999);
    }

    #[test]
    fn bisect_stops_when_everything_is_refused() {
        let (found, accepted) = search(1_000, 50, |_| true);
        assert_eq!((found.trials, accepted.len()), (50, 0));
        assert_eq!(found.refused.len() + found.untried.len(), 1_000);
    }

    #[test]
    fn bisect_stops_at_the_first_error() {
        let failed = bisect(&[1, 2], 10, |_| Err::<bool, &str>("away"));
        assert_eq!(failed, Err("away"));
    }
}
