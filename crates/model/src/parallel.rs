//! Work on many items at once.

use rayon::prelude::*;

/// With fewer items, waking the other threads costs more than they save: after each piece of work
/// they look for more for a while before they sleep.
const MANY: usize = 100;

/// Maps items in order: many in parallel, few on this thread.
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    if items.len() < MANY {
        return items.into_iter().map(work).collect();
    }
    items.into_par_iter().map(work).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn few_items_wake_no_other_thread() {
        let here = thread::current().id();
        let on = map((1..MANY).collect(), |_| thread::current().id());
        assert!(on.iter().all(|thread| *thread == here), "{on:?}");
        let on = map((0..MANY).collect(), |_| thread::current().id());
        assert!(on.iter().all(|thread| *thread != here), "{on:?}");
    }

    #[test]
    fn parallel_map_keeps_the_order() {
        let double = |count: u32| map((0..count).collect(), |n| 2 * n);
        for count in [0, 1, 10_000] {
            let expected: Vec<u32> = (0..count).map(|n| 2 * n).collect();
            assert_eq!(double(count), expected);
        }
    }
}
