//! Sets and maps.

use std::time::Duration;

use nftnl::nftnl_sys as sys;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Comment, DataType, Expression, Field, Name, Set};

use super::raw::Owned;
use super::{attribute, expression, family, userdata};

pub(super) type RawSet = Owned<sys::nftnl_set>;

/// NFT_SET_* of linux/netfilter/nf_tables.h.
const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
const CONCATENATION: u32 = 0x80;

/// NFT_DATA_VERDICT of linux/netfilter/nf_tables.h.
const VERDICT: u32 = 0xffff_ff00;

/// A message about this set.
pub(super) fn named(of: IpFamily, table: &Name, name: &Name) -> RawSet {
    of_table(of, table).text(sys::NFTNL_SET_NAME, name.as_str())
}

/// A message about the sets of a table.
pub(super) fn of_table(of: IpFamily, table: &Name) -> RawSet {
    RawSet::new()
        .u32(sys::NFTNL_SET_FAMILY, family::number(of).into())
        .text(sys::NFTNL_SET_TABLE, table.as_str())
}

/// Encodes a set without its elements. The kernel needs an ID that is unique within the batch.
pub(super) fn encode(of: IpFamily, table: &Name, name: &Name, set: &Set, id: u32) -> RawSet {
    let mut raw = named(of, table, name)
        .u32(sys::NFTNL_SET_ID, id)
        .u32(sys::NFTNL_SET_FLAGS, flags(set))
        .u32(sys::NFTNL_SET_KEY_TYPE, type_of(of, &set.key))
        .u32(sys::NFTNL_SET_KEY_LEN, length_of(of, &set.key))
        .bytes(sys::NFTNL_SET_USERDATA, &userdata::of_set(of, set));
    if let Some(data) = set.data {
        let (kind, length) = data_of(of, data);
        raw = raw.u32(sys::NFTNL_SET_DATA_TYPE, kind).u32(sys::NFTNL_SET_DATA_LEN, length);
    }
    if let Some(timeout) = set.timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        raw = raw.u64(sys::NFTNL_SET_TIMEOUT, milliseconds);
    }
    if set.counter {
        raw = raw.expression(expression::encode(&Expression::Counter));
    }
    if flags(set) & CONCATENATION != 0 {
        let lengths: Vec<u8> = set.key.iter().map(|field| length(of, *field)).collect();
        raw = raw.bytes(sys::NFTNL_SET_DESC_CONCAT, &lengths);
    }
    raw
}

/// How a set can be changed.
pub(super) enum SetKind {
    /// Anonymous: part of a rule such as `{ 1.1.1.1, 2.2.2.2 }`, and deleted with it.
    Anonymous,
    /// Constant: cannot change while a rule uses it.
    Constant,
    /// Any change is possible.
    Plain,
}

/// How a set can be changed.
pub(super) fn kind(raw: &RawSet) -> SetKind {
    let flags = raw.borrow().get_u32(sys::NFTNL_SET_FLAGS).unwrap_or_default();
    match (flags & ANONYMOUS != 0, flags & CONSTANT != 0) {
        (true, _) => SetKind::Anonymous,
        (false, true) => SetKind::Constant,
        (false, false) => SetKind::Plain,
    }
}

/// The number of elements that the message about a set reports (Linux 6.18). It includes elements
/// that are being added or deleted, but not the one for all other keys (`*` in nft).
pub(super) fn count(message: &[u8]) -> Option<u32> {
    // NFTA_SET_COUNT of linux/netfilter/nf_tables.h, which libnftnl does not read.
    const COUNT: u16 = 20;
    attribute::be32(message, COUNT)
}

/// True for a dynamic set.
pub(super) fn is_dynamic(raw: &RawSet) -> bool {
    raw.borrow().get_u32(sys::NFTNL_SET_FLAGS).is_some_and(|flags| flags & DYNAMIC != 0)
}

/// Decodes a set without its elements; `None` in place of the set if rulegen does not make such
/// sets.
pub(super) fn decode(of: IpFamily, raw: &RawSet) -> Option<(Name, Option<Set>)> {
    let is_ours = |set: &Set| {
        // A dynamic set gets its size from the first rule that adds elements (nft_dynset_init() of
        // net/netfilter/nft_dynset.c).
        const DYNSET_SIZE: u32 = 0xffff;
        let part = raw.borrow();
        let size = part.get_u32(sys::NFTNL_SET_DESC_SIZE);
        let is_sized = size.is_some_and(|size| !set.dynamic || size != DYNSET_SIZE);
        let comment = part.get(sys::NFTNL_SET_USERDATA).and_then(userdata::set_comment_of);
        !is_sized && comment.is_some() && set.timeout.is_none() && flags_of(raw) == flags(set)
    };
    let (name, set) = decode_any(of, raw)?;
    Some((name, set.filter(is_ours)))
}

/// Decodes a set of any program without its elements; `None` in place of the set if the types do
/// not describe it.
pub(super) fn decode_any(of: IpFamily, raw: &RawSet) -> Option<(Name, Option<Set>)> {
    let name = Name::from_kernel(raw.borrow().get_text(sys::NFTNL_SET_NAME)?);
    Some((name, decode_shape(of, raw)))
}

fn flags_of(raw: &RawSet) -> u32 {
    raw.borrow().get_u32(sys::NFTNL_SET_FLAGS).unwrap_or_default()
}

fn decode_shape(of: IpFamily, raw: &RawSet) -> Option<Set> {
    let counter = match raw.expressions(expression::decode).as_slice() {
        [] => false,
        [Some(Expression::Counter)] => true,
        _ => return None,
    };
    let actual = flags_of(raw) & !(ANONYMOUS | CONSTANT);
    let raw = raw.borrow();
    let number = |attribute: sys::nftnl_set_attr| raw.get_u32(attribute).unwrap_or_default();
    let data = match (actual & MAP != 0, number(sys::NFTNL_SET_DATA_TYPE)) {
        (false, _) => None,
        (true, VERDICT) => Some(DataType::Verdict),
        (true, kind) if kind == data_of(of, DataType::AddrPort).0 => Some(DataType::AddrPort),
        (true, _) => return None,
    };
    let timeout = raw.get_u64(sys::NFTNL_SET_TIMEOUT).filter(|timeout| *timeout != 0);
    let comment = raw.get(sys::NFTNL_SET_USERDATA).and_then(userdata::set_comment_of);
    let set = Set {
        key: fields_of(of, number(sys::NFTNL_SET_KEY_TYPE))?,
        data,
        interval: actual & INTERVAL != 0,
        dynamic: actual & DYNAMIC != 0,
        timeout: timeout.map(Duration::from_millis),
        counter,
        comment: comment.unwrap_or_else(|| Comment::from("")),
        elements: Default::default(),
    };
    let is_described = actual == flags(&set)
        && number(sys::NFTNL_SET_KEY_LEN) == length_of(of, &set.key)
        && !raw.has(sys::NFTNL_SET_OBJ_TYPE);
    is_described.then_some(set)
}

fn flags(set: &Set) -> u32 {
    let when = |is: bool, flag: u32| if is { flag } else { 0 };
    when(set.data.is_some(), MAP)
        | when(set.interval, INTERVAL)
        | when(set.interval && set.key.len() > 1, CONCATENATION)
        | when(set.dynamic, TIMEOUT | DYNAMIC)
}

/// nft's number for a type (include/datatype.h); concatenations have 6 bits per field.
fn type_of(of: IpFamily, fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, field| kind << 6 | number_of(of, *field))
}

fn fields_of(of: IpFamily, kind: u32) -> Option<Vec<Field>> {
    let numbers = (0..5).rev().map(|part| kind >> (6 * part) & 0x3f).skip_while(|part| *part == 0);
    numbers.map(|number| ALL.into_iter().find(|field| number_of(of, *field) == number)).collect()
}

const ALL: [Field; 4] = [Field::Address, Field::Protocol, Field::Port, Field::Number];

fn number_of(of: IpFamily, field: Field) -> u32 {
    match (field, of) {
        (Field::Number, _) => 4,
        (Field::Address, IpFamily::Ipv4) => 7,
        (Field::Address, IpFamily::Ipv6) => 8,
        (Field::Protocol, _) => 12,
        (Field::Port, _) => 13,
    }
}

/// Length of a field in bytes.
pub(super) fn length(of: IpFamily, field: Field) -> u8 {
    match (field, of) {
        (Field::Address, IpFamily::Ipv4) | (Field::Number, _) => 4,
        (Field::Address, IpFamily::Ipv6) => 16,
        (Field::Protocol, _) => 1,
        (Field::Port, _) => 2,
    }
}

/// In concatenations each field starts at a register boundary.
fn length_of(of: IpFamily, fields: &[Field]) -> u32 {
    match fields {
        [field] => length(of, *field).into(),
        fields => fields.iter().map(|f| u32::from(length(of, *f)).next_multiple_of(4)).sum(),
    }
}

fn data_of(of: IpFamily, data: DataType) -> (u32, u32) {
    let socket = [Field::Address, Field::Port];
    match data {
        DataType::Verdict => (VERDICT, 0),
        DataType::AddrPort => (type_of(of, &socket), length_of(of, &socket)),
    }
}
