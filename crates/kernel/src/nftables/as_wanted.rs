//! Recognises elements that are as desired by comparing bytes, without decoding them: nearly all are.

use rulegen_ruleset::nftables::{Data, Element, Key, Set};

use super::element::{self, RawKey};
use super::{attribute, userdata, verdict};

/// NFTA_SET_ELEM_* of linux/netfilter/nf_tables.h.
const KEY: u16 = 1;
const DATA: u16 = 2;
const USERDATA: u16 = 6;
const EXPRESSION: u16 = 7;
/// NFTA_DATA_*.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// NFTA_VERDICT_*.
const CODE: u16 = 1;
const CHAIN: u16 = 2;
/// NFTA_EXPR_NAME.
const EXPRESSION_NAME: u16 = 1;

/// True if a message contains only this element, with nothing but its key, data, comment and the
/// set's counter. If false, it may still be equal, encoded in another way.
pub(super) fn is_as_wanted(message: &[u8], set: &Set, key: &Key, element: &Element) -> bool {
    // NFTA_SET_ELEM_LIST_ELEMENTS.
    const ELEMENTS: u16 = 3;
    let Some(list) = attribute::find(message, ELEMENTS) else { return false };
    let mut elements = attribute::each(list);
    let (Some((_, found)), None) = (elements.next(), elements.next()) else { return false };
    let mut parts = 0;
    for (kind, value) in attribute::each(found) {
        let is_wanted = match kind {
            KEY => nested(value, VALUE) == Some(&RawKey::from(key).0),
            DATA => element.data.as_ref().is_some_and(|data| is_data(value, data)),
            USERDATA => {
                let comment = element.comment.as_ref();
                comment.is_some_and(|comment| value == userdata::of_comment(comment))
            }
            EXPRESSION => set.counter && nested(value, EXPRESSION_NAME) == Some(b"counter\0"),
            _ => false,
        };
        if !is_wanted {
            return false;
        }
        parts += 1;
    }
    let optional = [element.data.is_some(), element.comment.is_some(), set.counter];
    parts == 1 + optional.into_iter().filter(|is_there| *is_there).count()
}

fn is_data(value: &[u8], data: &Data) -> bool {
    match data {
        Data::AddrPort(to) => nested(value, VALUE) == Some(&element::addr_port(*to)),
        Data::Verdict(desired) => {
            let (number, chain) = verdict::encode(desired);
            let Some(found) = nested(value, VERDICT) else { return false };
            let name = nested(found, CHAIN).and_then(|name| name.strip_suffix(&[0]));
            nested(found, CODE) == Some(&number.to_be_bytes())
                && name == chain.map(|chain| chain.as_str().as_bytes())
        }
    }
}

fn nested(value: &[u8], desired: u16) -> Option<&[u8]> {
    attribute::each(value).find(|(kind, _)| *kind == desired).map(|(_, value)| value)
}
