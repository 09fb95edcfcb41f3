//! Iterates over two ordered maps together.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::iter::Peekable;

/// Iterates over two maps together, by key.
pub(super) struct Merge<'a, K, A, B> {
    left: Peekable<Iter<'a, K, A>>,
    right: Peekable<Iter<'a, K, B>>,
}

pub(super) fn merge<'a, K: Ord, A, B>(
    left: &'a BTreeMap<K, A>,
    right: &'a BTreeMap<K, B>,
) -> Merge<'a, K, A, B> {
    Merge { left: left.iter().peekable(), right: right.iter().peekable() }
}

impl<'a, K: Ord, A, B> Iterator for Merge<'a, K, A, B> {
    type Item = (&'a K, Option<&'a A>, Option<&'a B>);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.peek(), self.right.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let left = if order.is_le() { self.left.next() } else { None };
        let right = if order.is_ge() { self.right.next() } else { None };
        let (key, _) = left.map(|(key, _)| (key, ())).or(right.map(|(key, _)| (key, ())))?;
        Some((key, left.map(|(_, value)| value), right.map(|(_, value)| value)))
    }
}
