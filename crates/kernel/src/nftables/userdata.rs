//! Userdata that nft stores with tables, sets, elements and rules: comments, and the original types
//! of set keys. The kernel only stores it.
//!
//! Encoded as type and length of one byte each, and the value (libnftnl/udata.h). The numbers of
//! expressions, protocols and their fields are nft's own (include/expression.h, proto.h and
//! datatype.h of nftables). They are stored in kernels, so no version of nft can change them.

use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Comment, DataType, Field, Set};

/// NFTNL_UDATA_{TABLE,RULE,SET_ELEM}_COMMENT.
const COMMENT: u8 = 0;

/// NFTNL_UDATA_SET_*.
mod set {
    pub(super) const KEY_BYTE_ORDER: u8 = 0;
    pub(super) const DATA_BYTE_ORDER: u8 = 1;
    pub(super) const KEY_TYPEOF: u8 = 3;
    pub(super) const DATA_TYPEOF: u8 = 4;
    pub(super) const DATA_INTERVAL: u8 = 6;
    pub(super) const COMMENT: u8 = 7;
}

/// Encodes the comment of a table, an element or a rule.
pub(super) fn of_comment(comment: &Comment) -> Vec<u8> {
    let mut data = Vec::with_capacity(comment.as_str().len() + 3);
    put_comment(&mut data, COMMENT, comment);
    data
}

/// Decodes the comment of a table, an element or a rule.
pub(super) fn comment_of(data: &[u8]) -> Option<Comment> {
    find(data, COMMENT).map(comment)
}

/// Encodes the comment of a set and the types that `nft list` shows.
pub(super) fn of_set(family: IpFamily, of: &Set) -> Vec<u8> {
    let mut data = Vec::new();
    put_number(&mut data, set::KEY_BYTE_ORDER, byte_order(&of.key));
    if of.data.is_some() {
        put_number(&mut data, set::DATA_BYTE_ORDER, MIXED);
    }
    if of.needs_typeof() {
        put(&mut data, set::KEY_TYPEOF, &typeof_fields(family, &of.key));
        // nft ignores the types of the key of a map if those of its data are missing.
        if let Some(kind) = of.data {
            put(&mut data, set::DATA_TYPEOF, &typeof_data(family, kind));
            put_number(&mut data, set::DATA_INTERVAL, 0);
        }
    }
    put_comment(&mut data, set::COMMENT, &of.comment);
    data
}

/// Decodes the comment of a set.
pub(super) fn set_comment_of(data: &[u8]) -> Option<Comment> {
    find(data, set::COMMENT).map(comment)
}

/// BYTEORDER_INVALID for concatenations, BYTEORDER_HOST_ENDIAN and BYTEORDER_BIG_ENDIAN.
const MIXED: u32 = 0;
const HOST: u32 = 1;
const BIG_ENDIAN: u32 = 2;

fn byte_order(key: &[Field]) -> u32 {
    match key {
        [Field::Address | Field::Port] => BIG_ENDIAN,
        [Field::Number] => HOST,
        _ => MIXED,
    }
}

fn typeof_data(family: IpFamily, kind: DataType) -> Vec<u8> {
    const VERDICT: u32 = 1;
    match kind {
        DataType::Verdict => expression(VERDICT, &[]),
        DataType::AddrPort => typeof_fields(family, &[Field::Address, Field::Port]),
    }
}

/// One field, or EXPR_CONCAT with the fields by index.
fn typeof_fields(family: IpFamily, fields: &[Field]) -> Vec<u8> {
    const CONCATENATION: u32 = 13;
    if let [field] = fields {
        return typeof_field(family, *field);
    }
    let mut parts = Vec::new();
    for (turn, field) in (0..).zip(fields) {
        put(&mut parts, turn, &typeof_field(family, *field));
    }
    expression(CONCATENATION, &parts)
}

fn typeof_field(family: IpFamily, field: Field) -> Vec<u8> {
    const PAYLOAD: u32 = 7;
    const META: u32 = 9;
    const NUMBER: u32 = 23;
    let mut about = Vec::new();
    let kind = match field {
        Field::Address => {
            // PROTO_DESC_IP and IPHDR_DADDR, PROTO_DESC_IP6 and IP6HDR_DADDR.
            let (protocol, destination) = match family {
                IpFamily::Ipv4 => (12, 12),
                IpFamily::Ipv6 => (13, 9),
            };
            put_number(&mut about, 0, protocol);
            put_number(&mut about, 1, destination);
            PAYLOAD
        }
        Field::Port => {
            // PROTO_DESC_TH and THDR_DPORT.
            put_number(&mut about, 0, 11);
            put_number(&mut about, 1, 2);
            PAYLOAD
        }
        Field::Protocol => {
            // NFT_META_L4PROTO.
            put_number(&mut about, 0, 16);
            META
        }
        Field::Number => {
            // NFT_NG_RANDOM, modulus and offset.
            put_number(&mut about, 0, 1);
            put_number(&mut about, 1, u32::MAX);
            put_number(&mut about, 2, 0);
            NUMBER
        }
    };
    expression(kind, &about)
}

fn expression(kind: u32, about: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    put_number(&mut data, 0, kind);
    put(&mut data, 1, about);
    data
}

fn put_number(data: &mut Vec<u8>, kind: u8, value: u32) {
    put(data, kind, &value.to_ne_bytes());
}

fn put_comment(data: &mut Vec<u8>, kind: u8, comment: &Comment) {
    let length = u8::try_from(comment.as_str().len() + 1).unwrap_or_default();
    data.extend([kind, length]);
    data.extend(comment.as_str().bytes());
    data.push(0);
}

fn put(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    data.extend([kind, u8::try_from(value.len()).unwrap_or_default()]);
    data.extend(value);
}

fn find(mut data: &[u8], desired: u8) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = data {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *kind == desired {
            return Some(value);
        }
        data = behind;
    }
    None
}

fn comment(value: &[u8]) -> Comment {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    Comment::from(String::from_utf8_lossy(text))
}
