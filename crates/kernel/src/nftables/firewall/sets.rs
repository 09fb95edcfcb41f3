//! Elements of sets and maps that rules look up.

use std::collections::{BTreeMap, BTreeSet};

use nftnl::nftnl_sys::libc;
use rulegen_ruleset::firewall::{Action, Ranges};

use super::value::{left_aligned, verdict};
use crate::netlink::Dumped;
use crate::nftables::attribute;
use crate::nftables::nat_base_chains::{dump, inside};
use crate::nftables::read::Interrupted;
use crate::nftables::socket::NfTablesSocket;

/// Sets read per table. Each costs a request of about 20 µs; the rest is unknown.
const MOST_SETS: usize = 4_096;
/// Elements kept per table; sets with more are unknown.
const MOST_ELEMENTS: usize = 100_000;

/// The content of sets by name. A set that is missing here is unknown.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<String, (usize, Vec<KeyRange>)>);

/// An element whose key is one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRange {
    /// First key, left-aligned.
    pub(super) low: u128,
    /// Last key.
    pub(super) high: u128,
    /// Verdict of a map's element.
    pub(super) action: Option<Action>,
}

/// Properties of a set.
struct Shape {
    is_interval: bool,
    key_length: usize,
}

impl Sets {
    /// Reads the sets with these names, except those with keys of several fields or with elements
    /// that come and go.
    pub(super) fn read<'a>(
        socket: &mut NfTablesSocket,
        of: u8,
        table: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Interrupted> {
        let names: BTreeSet<&str> = names.collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
        dump(socket, libc::NFT_MSG_GETSET, of, Some(table), |message| {
            let read = shape(message, table);
            shapes.extend(read.filter(|(name, _)| names.contains(name.as_str())));
        })?;
        let (mut sets, mut room) = (BTreeMap::new(), MOST_ELEMENTS);
        for (name, shape) in shapes.into_iter().take(MOST_SETS) {
            let Some(elements) = elements(socket, of, (table, &name), &shape, room)? else {
                continue;
            };
            room = room.saturating_sub(elements.len());
            sets.insert(name, (shape.key_length, elements));
        }
        Ok(Self(sets))
    }

    /// The elements of a set whose keys have this length in bytes.
    pub(super) fn elements(&self, name: &str, key_length: usize) -> Option<&[KeyRange]> {
        let (length, elements) = self.0.get(name)?;
        (*length == key_length).then_some(elements)
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, key_length: usize, elements: Vec<KeyRange>) -> Self {
        Self([(name.to_owned(), (key_length, elements))].into())
    }
}

/// The keys of elements as ranges.
pub(super) fn ranges(elements: &[KeyRange]) -> Ranges {
    elements.iter().map(|element| (element.low, element.high)).collect()
}

fn shape(message: &[u8], table: &str) -> Option<(String, Shape)> {
    // NFTA_SET_* and NFT_SET_INTERVAL, _TIMEOUT, _EVAL, _CONCAT.
    const TABLE: u16 = 1;
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_LENGTH: u16 = 5;
    const INTERVAL: u32 = 0x4;
    const TIMEOUT: u32 = 0x10;
    const EVALUATED: u32 = 0x20;
    const CONCATENATION: u32 = 0x80;
    let flags = attribute::be32(message, FLAGS).unwrap_or_default();
    let is_of_table = attribute::text(message, TABLE).as_deref() == Some(table);
    let is_readable = flags & (TIMEOUT | EVALUATED | CONCATENATION) == 0;
    let key_length = usize::try_from(attribute::be32(message, KEY_LENGTH)?).ok()?;
    let shape = Shape { is_interval: flags & INTERVAL != 0, key_length };
    (is_of_table && is_readable && key_length <= 16)
        .then_some((attribute::text(message, NAME)?, shape))
}

/// One point of a set: an element, or the end of an interval (exclusive).
struct Point {
    key: u128,
    is_end: bool,
    action: Option<Action>,
}

/// The elements of a set, sorted; `None` if there are more than `room`, or one is not understood.
fn elements(
    socket: &mut NfTablesSocket,
    of: u8,
    (table, name): (&str, &str),
    shape: &Shape,
    room: usize,
) -> Result<Option<Vec<KeyRange>>, Interrupted> {
    // NFTA_SET_ELEM_LIST_*.
    const TABLE: u16 = 1;
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    let mut points: Option<Vec<Point>> = Some(Vec::new());
    let body = |header: &mut crate::nftables::raw::MessageHeader<'_>| {
        header.text(TABLE, table);
        header.text(SET, name);
    };
    let dumped = socket.ask(libc::NFT_MSG_GETSETELEM, of.into(), true, body, |message| {
        let list = attribute::find(message, ELEMENTS).unwrap_or_default();
        for (_, element) in attribute::each(list) {
            let read = point(element, shape);
            let is_full = points.as_ref().is_some_and(|points| points.len() > 2 * room);
            match (read, points.as_mut()) {
                (Some(point), Some(points)) if !is_full => points.push(point),
                _ => points = None,
            }
        }
    })?;
    match dumped {
        Dumped::Whole => Ok(points.map(|points| joined(points, shape))),
        Dumped::Interrupted | Dumped::Nothing => Err(Interrupted::Changed),
    }
}

fn point(element: &[u8], shape: &Shape) -> Option<Point> {
    // NFTA_SET_ELEM_* and NFTA_DATA_VALUE, NFT_SET_ELEM_INTERVAL_END and _CATCHALL.
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const FLAGS: u16 = 3;
    const VALUE: u16 = 1;
    const INTERVAL_END: u32 = 1;
    let flags = inside(element, FLAGS).and_then(|flags| flags.try_into().ok());
    let flags = flags.map_or(0, u32::from_be_bytes);
    let key = inside(inside(element, KEY)?, VALUE)?;
    let is_known = flags & !INTERVAL_END == 0 && key.len() == shape.key_length;
    is_known.then(|| Point {
        key: left_aligned(key),
        is_end: flags & INTERVAL_END != 0,
        action: inside(element, DATA).and_then(verdict),
    })
}

/// Joins the ends of intervals. A start without an end goes up to the next start, or to the highest
/// key.
fn joined(mut points: Vec<Point>, shape: &Shape) -> Vec<KeyRange> {
    points.sort_by_key(|point| (point.key, !point.is_end));
    let length = u32::try_from(shape.key_length.saturating_mul(8)).unwrap_or(u32::MAX);
    let highest = !u128::MAX.checked_shr(length).unwrap_or(0);
    let next_keys = points.iter().skip(1).map(|point| Some(point.key)).chain([None]);
    let next_keys: Vec<Option<u128>> = next_keys.collect();
    let starts = points.into_iter().zip(next_keys).filter(|(point, _)| !point.is_end);
    let elements = starts.map(|(Point { key, action, .. }, next)| {
        let high = match (shape.is_interval, next) {
            (false, _) => key,
            (true, Some(next)) => next.saturating_sub(1),
            (true, None) => highest,
        };
        KeyRange { low: key, high: high.max(key), action }
    });
    elements.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firewall_set_intervals_end_before_the_next_point() {
        let key = |last: u8| left_aligned(&[10, 0, 0, last]);
        let point = |last, is_end| Point { key: key(last), is_end, action: None };
        let points = || vec![point(9, false), point(4, true), point(0, false), point(4, false)];
        let shape = |is_interval| Shape { is_interval, key_length: 4 };
        let found = joined(points(), &shape(true));
        let found: Vec<(u128, u128)> = found.iter().map(|one| (one.low, one.high)).collect();
        let highest = left_aligned(&[255; 4]);
        assert_eq!(found, [(key(0), key(4) - 1), (key(4), key(9) - 1), (key(9), highest)]);
        let found = joined(vec![point(3, false), point(1, false)], &shape(false));
        let found: Vec<(u128, u128)> = found.iter().map(|one| (one.low, one.high)).collect();
        assert_eq!(found, [(key(1), key(1)), (key(3), key(3))]);
    }
}
