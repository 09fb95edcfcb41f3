//! Expressions of rules that other programs made, as conditions and actions.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

use nix::net::if_::if_indextoname;
use rulegen_ruleset::firewall::{
    Action, FilterCondition, FilterRule, MarkChange, PacketField, target_of_extension,
};

use super::sets::{KeyRange, Sets, ranges};
use super::value::{left_aligned, verdict};
use crate::nftables::attribute;
use crate::nftables::nat_base_chains::inside;

/// A rule whose lookups in sets are not resolved yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    rule: FilterRule,
    /// Its lookups, with the positions of their conditions.
    pub(super) lookups: Vec<Lookup>,
}

/// A lookup in a set or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) set: Arc<str>,
    /// The field that is looked up; `None` for several fields, or if it is not understood.
    field: Option<RegisterContent>,
    negated: bool,
    /// Whether the element's data is the verdict.
    is_verdict: bool,
    /// Position of the condition that stands for the lookup.
    at: usize,
}

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegisterContent {
    Field {
        field: PacketField,
        /// Length in bytes.
        length: usize,
        mask: u128,
        /// Whether constants are in the byte order of the host.
        is_host_order: bool,
    },
    /// Number of an input or output interface.
    Interface {
        is_input: bool,
    },
    /// RTN_* of an address.
    AddressType(PacketField),
    Unknown,
}

/// Verdict maps with more elements are not resolved.
const MOST_VERDICTS: usize = 256;

impl Decoded {
    /// The rule with the content of its sets. A rule with a verdict map becomes one for each
    /// element.
    pub(super) fn with_sets(self, sets: &Sets) -> Vec<FilterRule> {
        let Self { mut rule, lookups } = self;
        let mut verdicts = None;
        for lookup in lookups {
            let elements = lookup.field.and_then(|loaded| {
                let RegisterContent::Field { length, .. } = loaded else { return None };
                Some((loaded, sets.elements(&lookup.set, length)?))
            });
            let Some(at) = rule.conditions.get_mut(lookup.at) else { continue };
            match elements {
                Some((loaded, elements)) if lookup.is_verdict => {
                    verdicts = Some((lookup.at, loaded, elements));
                }
                Some((loaded, elements)) => {
                    if let Some(condition) = loaded.is_in(elements, lookup.negated) {
                        *at = condition;
                    }
                }
                None => {}
            }
        }
        match verdicts {
            Some((at, loaded, elements)) if elements.len() <= MOST_VERDICTS => {
                let each = elements.iter().filter_map(|element| {
                    let mut rule = rule.clone();
                    let condition = loaded.is_in(std::slice::from_ref(element), false)?;
                    *rule.conditions.get_mut(at)? = condition;
                    rule.action = element.action.clone().unwrap_or_else(not_followed);
                    Some(rule)
                });
                let each: Vec<FilterRule> = each.collect();
                // None may be missing, or the packet would seem to pass.
                if each.len() == elements.len() { each } else { vec![rule] }
            }
            _ => vec![rule],
        }
    }
}

impl RegisterContent {
    /// The condition that the loaded value is one of these elements.
    fn is_in(self, elements: &[KeyRange], negated: bool) -> Option<FilterCondition> {
        match self {
            RegisterContent::Field { field, length, mask, is_host_order: false } => {
                let mask = mask | after(length);
                let ranges = ranges(elements);
                Some(FilterCondition::Is { field, mask, ranges, negated })
            }
            // Flags and marks are compared with single values.
            RegisterContent::Field { field, length: 4, mask, is_host_order: true } => {
                let mut values: Vec<(u128, u128)> = Vec::new();
                for element in elements {
                    (element.low == element.high).then_some(())?;
                    let value = host_order_to_network(element.low);
                    values.push((value, value));
                }
                values.sort_unstable();
                Some(FilterCondition::Is { field, mask, ranges: values.into(), negated })
            }
            _ => None,
        }
    }
}

/// Decodes the expressions of a rule.
pub(super) fn decode(expressions: &[u8]) -> Decoded {
    let mut decoder = Decoder::default();
    for (_, expression) in attribute::each(expressions) {
        // NFTA_EXPR_*.
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        let name = inside(expression, NAME).map(attribute::string).unwrap_or_default();
        decoder.expression(&name, inside(expression, DATA).unwrap_or_default());
    }
    decoder.decoded
}

#[derive(Default)]
struct Decoder {
    registers: BTreeMap<u32, RegisterContent>,
    /// Registers with a mark made from that of the packet.
    marks: BTreeMap<u32, MarkChange>,
    decoded: Decoded,
    /// Whether the rule had an effect already, which no condition behind it can undo.
    has_effect: bool,
}

impl Decoder {
    fn expression(&mut self, name: &str, data: &[u8]) {
        match name {
            // They let the packet on.
            "counter" | "log" | "last" | "dup" | "flow_offload" => {}
            "payload" => self.payload(data),
            "meta" => self.meta(data),
            "ct" => self.conntrack(data),
            "fib" => self.fib(data),
            "bitwise" => self.bitwise(data),
            "byteorder" => self.byteorder(data),
            "cmp" => self.cmp(data),
            "range" => self.range(data),
            "lookup" => self.lookup(data),
            "immediate" => self.immediate(data),
            "reject" => self.act(Action::Reject),
            "nat" | "redir" | "masq" => self.act(Action::Translate),
            "notrack" => {
                self.has_effect = true;
                self.decoded.rule.untracks = true;
            }
            "target" => self.target(data),
            "match" => {
                let name = inside(data, 1).map(attribute::string).unwrap_or_default();
                if name != "comment" {
                    self.unknown(format!("-m {name}"));
                }
            }
            "limit" => self.unknown(limit(data)),
            "queue" | "tproxy" | "fwd" | "synproxy" => self.act(Action::Anything(name.into())),
            "objref" if is_counter(data) => {}
            // Limits, quotas and others may end the rule, or load a register.
            other => {
                self.forget_registers();
                self.unknown(other.to_owned());
            }
        }
    }

    fn condition(&mut self, condition: FilterCondition) {
        // An effect before the condition happens without it, so nothing is certain.
        let condition = match self.has_effect {
            true => {
                self.decoded.rule.conditions.clear();
                self.decoded.lookups.clear();
                FilterCondition::Unknown(condition.to_string().into())
            }
            false => condition,
        };
        self.decoded.rule.conditions.push(condition);
    }

    fn unknown(&mut self, text: String) {
        self.condition(FilterCondition::Unknown(text.into()));
    }

    /// The first verdict ends the rule.
    fn act(&mut self, action: Action) {
        if self.decoded.rule.action == Action::Continue {
            self.decoded.rule.action = action;
        }
    }

    fn forget_registers(&mut self) {
        self.registers.clear();
        self.marks.clear();
    }

    fn load(&mut self, data: &[u8], register: u16, loaded: RegisterContent) {
        match number(data, register) {
            Some(register) => {
                self.registers.insert(word_of(register), loaded);
                // A longer value fills the registers behind it too.
                let behind = word_of(register)..=word_of(register).saturating_add(3);
                self.marks.retain(|at, _| !behind.contains(at));
            }
            None => self.forget_registers(),
        }
    }

    /// Records that a register now holds the mark after this change.
    fn load_mark(&mut self, data: &[u8], register: u16, mark: MarkChange) {
        if let Some(register) = number(data, register) {
            self.marks.insert(word_of(register), mark);
        }
    }

    fn loaded_mark(&self, data: &[u8], register: u16) -> Option<MarkChange> {
        self.marks.get(&word_of(number(data, register)?)).copied()
    }

    fn loaded(&self, data: &[u8], register: u16) -> RegisterContent {
        let register = number(data, register).map(word_of);
        register.and_then(|at| self.registers.get(&at)).copied().unwrap_or(RegisterContent::Unknown)
    }

    fn payload(&mut self, data: &[u8]) {
        // NFTA_PAYLOAD_*, NFT_PAYLOAD_*.
        const TO: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        const FROM: u16 = 5;
        if number(data, FROM).is_some() {
            // It changes the packet in a way that is not followed.
            self.act(Action::Anything("payload set …".into()));
            return;
        }
        let part = number(data, OFFSET).zip(number(data, LENGTH));
        let loaded = match (number(data, BASE), part) {
            (Some(1), Some((offset, length))) => {
                plain(PacketField::Network { offset, length }, length)
            }
            (Some(2), Some((offset, length))) => {
                plain(PacketField::Transport { offset, length }, length)
            }
            _ => RegisterContent::Unknown,
        };
        self.load(data, TO, loaded);
    }

    fn meta(&mut self, data: &[u8]) {
        // NFTA_META_*, NFT_META_*.
        const TO: u16 = 1;
        const KEY: u16 = 2;
        const FROM: u16 = 3;
        let key = number(data, KEY);
        if number(data, FROM).is_some() {
            self.has_effect = true;
            if key == Some(3) {
                let mark = self.loaded_mark(data, FROM).unwrap_or(MarkChange::UNKNOWN);
                self.decoded.rule.marks = Some(mark);
            }
            return;
        }
        let loaded = match key {
            Some(1) => plain(PacketField::EtherType, 2),
            Some(3) => in_host_order(PacketField::Mark),
            Some(4) => RegisterContent::Interface { is_input: true },
            Some(5) => RegisterContent::Interface { is_input: false },
            Some(6) => plain(PacketField::InInterface, 16),
            Some(7) => plain(PacketField::OutInterface, 16),
            Some(15) => plain(PacketField::Family, 1),
            Some(16) => plain(PacketField::Protocol, 1),
            _ => RegisterContent::Unknown,
        };
        self.load(data, TO, loaded);
        if key == Some(3) {
            // Another statement of the rule may have changed it.
            let mark = self.decoded.rule.marks.unwrap_or(MarkChange::NONE);
            self.load_mark(data, TO, mark);
        }
    }

    fn conntrack(&mut self, data: &[u8]) {
        // NFTA_CT_*, NFT_CT_STATE and NFT_CT_STATUS.
        const TO: u16 = 1;
        const KEY: u16 = 2;
        const FROM: u16 = 4;
        if number(data, FROM).is_some() {
            self.has_effect = true;
            return;
        }
        let loaded = match number(data, KEY) {
            Some(0) => in_host_order(PacketField::ConnectionState),
            Some(2) => in_host_order(PacketField::ConnectionStatus),
            _ => RegisterContent::Unknown,
        };
        self.load(data, TO, loaded);
    }

    fn fib(&mut self, data: &[u8]) {
        // NFTA_FIB_*, NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_*.
        const TO: u16 = 1;
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        let loaded = match (number(data, RESULT), number(data, FLAGS)) {
            (Some(3), Some(1)) => RegisterContent::AddressType(PacketField::SourceIsLocal),
            (Some(3), Some(2)) => RegisterContent::AddressType(PacketField::DestinationIsLocal),
            _ => RegisterContent::Unknown,
        };
        self.load(data, TO, loaded);
    }

    fn bitwise(&mut self, data: &[u8]) {
        // NFTA_BITWISE_*.
        const FROM: u16 = 1;
        const TO: u16 = 2;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        const OPERATION: u16 = 6;
        let mask = value(data, MASK);
        let is_masking = number(data, OPERATION).unwrap_or_default() == 0
            && value(data, XOR).is_some_and(|xor| xor.iter().all(|byte| *byte == 0));
        let loaded = match (self.loaded(data, FROM), mask) {
            (RegisterContent::Field { field, length, mask: before, is_host_order }, Some(mask))
                if is_masking =>
            {
                let mask = match is_host_order {
                    true => host_order_to_network(left_aligned(mask)),
                    false => left_aligned(mask),
                };
                RegisterContent::Field { field, length, mask: before & mask, is_host_order }
            }
            _ => RegisterContent::Unknown,
        };
        let is_plain = number(data, OPERATION).unwrap_or_default() == 0;
        let word = |wanted| Some(u32::from_ne_bytes(value(data, wanted)?.try_into().ok()?));
        let mark = self.loaded_mark(data, FROM).filter(|_| is_plain);
        let mark = mark.zip(word(MASK).zip(word(XOR)));
        self.load(data, TO, loaded);
        if let Some((mark, (keep, flip))) = mark {
            self.load_mark(data, TO, mark.then(keep, flip));
        }
    }

    fn byteorder(&mut self, data: &[u8]) {
        // NFTA_BYTEORDER_*, and the size of one number.
        const FROM: u16 = 1;
        const TO: u16 = 2;
        const SIZE: u16 = 5;
        let loaded = match (self.loaded(data, FROM), number(data, SIZE)) {
            (RegisterContent::Field { field, length: 4, mask, is_host_order: true }, Some(4)) => {
                RegisterContent::Field { field, length: 4, mask, is_host_order: false }
            }
            _ => RegisterContent::Unknown,
        };
        self.load(data, TO, loaded);
    }

    fn cmp(&mut self, data: &[u8]) {
        // NFTA_CMP_* and NFT_CMP_*.
        const FROM: u16 = 1;
        const OPERATION: u16 = 2;
        const DATA: u16 = 3;
        let (loaded, operation) = (self.loaded(data, FROM), number(data, OPERATION));
        let condition = value(data, DATA).zip(operation).and_then(|(value, operation)| {
            match (loaded, operation) {
                (RegisterContent::Field { .. }, 0 | 1) => equal(loaded, value, operation == 1),
                (RegisterContent::Interface { is_input }, 0 | 1) => {
                    let index = u32::from_ne_bytes(value.try_into().ok()?);
                    let field =
                        if is_input { PacketField::InInterface } else { PacketField::OutInterface };
                    let name = if_indextoname(index).ok()?;
                    Some(FilterCondition::is(field, CString::as_bytes(&name), operation == 1))
                }
                (RegisterContent::AddressType(field), 0 | 1) => {
                    const LOCAL: u32 = 2;
                    let kind = u32::from_ne_bytes(value.try_into().ok()?);
                    (kind == LOCAL).then(|| FilterCondition::is(field, &[1], operation == 1))
                }
                (RegisterContent::Field { field, length, mask, is_host_order: false }, _) => {
                    let value = left_aligned(value);
                    let (low, high) = match operation {
                        2 => (0, value.checked_sub(1)?),
                        3 => (0, value),
                        4 => (value.checked_add(unit(length)?)?, u128::MAX),
                        5 => (value, u128::MAX),
                        _ => return None,
                    };
                    let (mask, ranges) = (mask | after(length), [(low, high)].into());
                    Some(FilterCondition::Is { field, mask, ranges, negated: false })
                }
                _ => None,
            }
        });
        self.condition(condition.unwrap_or_else(|| not_understood(loaded)));
    }

    fn range(&mut self, data: &[u8]) {
        // NFTA_RANGE_* and NFT_RANGE_*.
        const FROM: u16 = 1;
        const OPERATION: u16 = 2;
        const LOW: u16 = 3;
        const HIGH: u16 = 4;
        let loaded = self.loaded(data, FROM);
        let ends = value(data, LOW).zip(value(data, HIGH));
        let condition = match (loaded, ends, number(data, OPERATION)) {
            (
                RegisterContent::Field { field, length, mask, is_host_order: false },
                Some((low, high)),
                Some(operation @ (0 | 1)),
            ) => {
                let ranges = [(left_aligned(low), left_aligned(high))].into();
                let mask = mask | after(length);
                FilterCondition::Is { field, mask, ranges, negated: operation == 1 }
            }
            _ => not_understood(loaded),
        };
        self.condition(condition);
    }

    fn lookup(&mut self, data: &[u8]) {
        // NFTA_LOOKUP_*, NFT_REG_VERDICT and NFT_LOOKUP_F_INV.
        const SET: u16 = 1;
        const FROM: u16 = 2;
        const TO: u16 = 3;
        const FLAGS: u16 = 5;
        let set: Arc<str> = inside(data, SET).map(attribute::string).unwrap_or_default().into();
        let negated = number(data, FLAGS).unwrap_or_default() & 1 != 0;
        let to = number(data, TO);
        let not = if negated { "!= " } else { "" };
        // Several loaded fields may be one key: the set's key is then longer than the field.
        let loaded = self.loaded(data, FROM);
        self.condition(FilterCondition::Unknown(format!("{}{not}@{set}", name_of(loaded)).into()));
        if let Some(at) = self.decoded.rule.conditions.len().checked_sub(1) {
            let field = (loaded != RegisterContent::Unknown && !self.has_effect).then_some(loaded);
            let is_verdict = to == Some(0);
            self.decoded.lookups.push(Lookup { set, field, negated, is_verdict, at });
        }
        match to {
            Some(0) => self.act(Action::Anything("vmap".into())),
            Some(_) => self.load(data, TO, RegisterContent::Unknown),
            None => {}
        }
    }

    fn immediate(&mut self, data: &[u8]) {
        // NFTA_IMMEDIATE_*, NFT_REG_VERDICT.
        const TO: u16 = 1;
        const DATA: u16 = 2;
        match number(data, TO) {
            Some(0) => {
                let action = inside(data, DATA).and_then(verdict).unwrap_or_else(not_followed);
                self.act(action);
            }
            _ => {
                self.load(data, TO, RegisterContent::Unknown);
                let word = value(data, DATA).and_then(|bytes| bytes.try_into().ok());
                if let Some(word) = word.map(u32::from_ne_bytes) {
                    self.load_mark(data, TO, MarkChange::to(0, word));
                }
            }
        }
    }

    /// A target of iptables-nft. Only the options of MARK are decoded.
    fn target(&mut self, data: &[u8]) {
        let name = inside(data, 1).map(attribute::string).unwrap_or_default();
        let (action, marks) = target_of_extension(&name);
        self.act(action);
        self.has_effect = true;
        let is_mark = name == "MARK" || name == "CONNMARK";
        self.decoded.rule.marks = match marks {
            _ if is_mark => Some(set_mark(data, &name).unwrap_or(MarkChange::UNKNOWN)),
            marks => marks.or(self.decoded.rule.marks),
        };
        match (name.as_str(), is_untracking(data)) {
            ("NOTRACK", _) | ("CT", Some(true)) => self.decoded.rule.untracks = true,
            ("CT", None) => {
                self.unknown("-j CT".to_owned());
                self.decoded.rule.untracks = true;
            }
            _ => {}
        }
    }
}

/// Whether the target CT has the flag XT_CT_NOTRACK (`xt_ct_target_info`).
fn is_untracking(data: &[u8]) -> Option<bool> {
    // NFTA_TARGET_INFO.
    const INFO: u16 = 3;
    let flags = inside(data, INFO)?.get(..2)?;
    Some(u16::from_ne_bytes(flags.try_into().ok()?) & 1 != 0)
}

/// What the target MARK does in revision 2 (`xt_mark_tginfo2`: the mark and a mask).
fn set_mark(data: &[u8], name: &str) -> Option<MarkChange> {
    // NFTA_TARGET_*.
    const REVISION: u16 = 2;
    const INFO: u16 = 3;
    let options =
        inside(data, INFO).filter(|_| name == "MARK" && number(data, REVISION) == Some(2))?;
    let word = |at: usize| Some(u32::from_ne_bytes(options.get(at..at + 4)?.try_into().ok()?));
    Some(MarkChange::to(!word(4)?, word(0)?))
}

/// A verdict that is not known.
fn not_followed() -> Action {
    Action::Anything("verdict …".into())
}

/// The statement `limit` (NFTA_LIMIT_*) in nft's words. The unit is a number of seconds.
fn limit(data: &[u8]) -> String {
    const BYTES: u32 = 1;
    const INVERTED: u32 = 1;
    let wide = |kind| Some(u64::from_be_bytes(inside(data, kind)?.try_into().ok()?));
    let Some((rate, seconds)) = wide(1).zip(wide(2)) else { return "limit".to_owned() };
    let unit = match seconds {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        604_800 => "week".to_owned(),
        other => format!("{other} seconds"),
    };
    let over =
        if number(data, 5).is_some_and(|flags| flags & INVERTED != 0) { "over " } else { "" };
    let bytes = if number(data, 4) == Some(BYTES) { " bytes" } else { "" };
    format!("limit rate {over}{rate}{bytes}/{unit}")
}

/// NFTA_OBJREF_IMM_TYPE and NFT_OBJECT_COUNTER.
fn is_counter(data: &[u8]) -> bool {
    number(data, 1) == Some(1)
}

fn equal(loaded: RegisterContent, value: &[u8], negated: bool) -> Option<FilterCondition> {
    let RegisterContent::Field { field, length, mask, is_host_order } = loaded else { return None };
    if is_host_order {
        let value = host_order_to_network(left_aligned(value));
        let ranges = [(value, value)].into();
        return (length == 4).then_some(FilterCondition::Is { field, mask, ranges, negated });
    }
    // A shorter value is the start of a name, or a prefix.
    let mask = match value.len() < length {
        true => mask & !after(value.len()),
        false => mask | after(length),
    };
    let value = left_aligned(value);
    Some(FilterCondition::Is { field, mask, ranges: [(value, value)].into(), negated })
}

fn plain(field: PacketField, length: u32) -> RegisterContent {
    match usize::try_from(length) {
        Ok(length) if length <= 16 => {
            RegisterContent::Field { field, length, mask: u128::MAX, is_host_order: false }
        }
        _ => RegisterContent::Unknown,
    }
}

fn in_host_order(field: PacketField) -> RegisterContent {
    RegisterContent::Field { field, length: 4, mask: u128::MAX, is_host_order: true }
}

fn not_understood(loaded: RegisterContent) -> FilterCondition {
    FilterCondition::Unknown(format!("{}…", name_of(loaded)).into())
}

fn name_of(loaded: RegisterContent) -> String {
    match loaded {
        RegisterContent::Field { field, .. } => format!("{} ", field.name()),
        RegisterContent::Interface { is_input: true } => "iif ".to_owned(),
        RegisterContent::Interface { is_input: false } => "oif ".to_owned(),
        RegisterContent::AddressType(_) => "fib … type ".to_owned(),
        RegisterContent::Unknown => String::new(),
    }
}

/// The index of a register's first word: there are older numbers for each four words (NFT_REG_1 to
/// NFT_REG_4).
fn word_of(register: u32) -> u32 {
    match register {
        1..=4 => (register - 1) * 4,
        _ => register.saturating_sub(8),
    }
}

fn number(data: &[u8], desired: u16) -> Option<u32> {
    inside(data, desired)?.try_into().ok().map(u32::from_be_bytes)
}

/// A constant (NFTA_DATA_VALUE).
fn value(data: &[u8], desired: u16) -> Option<&[u8]> {
    inside(inside(data, desired)?, 1)
}

/// A number of four bytes in the byte order of the host, in network order. Both left-aligned.
fn host_order_to_network(value: u128) -> u128 {
    let [a, b, c, d, ..] = value.to_be_bytes();
    left_aligned(&u32::from_ne_bytes([a, b, c, d]).to_be_bytes())
}

/// Ones for the bits behind the first bytes.
fn after(length: usize) -> u128 {
    let bits = u32::try_from(length.saturating_mul(8)).unwrap_or(u32::MAX);
    u128::MAX.checked_shr(bits).unwrap_or(0)
}

/// The difference between two neighbouring values of this length.
fn unit(length: usize) -> Option<u128> {
    let bits = u32::try_from(length.saturating_mul(8)).ok()?;
    1_u128.checked_shl(128_u32.checked_sub(bits)?).filter(|unit| *unit != 0)
}

#[cfg(test)]
mod tests {
    use rulegen_net::{IpFamily, Protocol};
    use rulegen_ruleset::firewall::{Connection, PartialMark, PartialPacket, Ternary};

    use super::*;

    fn wide(kind: u16, value: u64) -> Vec<u8> {
        attribute(kind, &value.to_be_bytes())
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn number(kind: u16, number: u32) -> Vec<u8> {
        attribute(kind, &number.to_be_bytes())
    }

    fn data(kind: u16, value: &[u8]) -> Vec<u8> {
        attribute(kind, &attribute(1, value))
    }

    fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(1, format!("{name}\0").as_bytes());
        attribute(1, &[name, attribute(2, &attributes.concat())].concat())
    }

    fn verdict_data(code: i32, chain: &str) -> Vec<u8> {
        let mut verdict = number(1, code.cast_unsigned());
        if !chain.is_empty() {
            verdict.extend(attribute(2, format!("{chain}\0").as_bytes()));
        }
        attribute(2, &attribute(2, &verdict))
    }

    fn immediate(code: i32, chain: &str) -> Vec<u8> {
        expression("immediate", &[number(1, 0), verdict_data(code, chain)])
    }

    fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
        let places = [number(1, 1), number(2, base), number(3, offset), number(4, length)];
        expression("payload", &places)
    }

    fn meta(key: u32) -> Vec<u8> {
        expression("meta", &[number(1, 1), number(2, key)])
    }

    fn ct(key: u32) -> Vec<u8> {
        expression("ct", &[number(1, 1), number(2, key)])
    }

    fn cmp(operation: u32, value: &[u8]) -> Vec<u8> {
        expression("cmp", &[number(1, 1), number(2, operation), data(3, value)])
    }

    fn mask(mask: u32) -> Vec<u8> {
        let (mask, zero) = (data(4, &mask.to_ne_bytes()), data(5, &[0; 4]));
        expression("bitwise", &[number(1, 1), number(2, 1), number(3, 4), mask, zero])
    }

    fn lookup(set: &str, to: Option<u32>, flags: u32) -> Vec<u8> {
        let set = attribute(1, format!("{set}\0").as_bytes());
        let to = to.map(|to| number(3, to)).unwrap_or_default();
        expression("lookup", &[set, number(2, 1), to, number(5, flags)])
    }

    fn packet() -> PartialPacket {
        PartialPacket {
            protocol: Some(Protocol::Tcp.number()),
            destination_port: Some(8080),
            in_interface: Some("cali1".to_owned()),
            connection: Connection::New { translated: Some(true), masqueraded: Some(false) },
            mark: PartialMark::of(0),
            ..PartialPacket::unknown(IpFamily::Ipv4)
                .from("10.244.1.5".parse().unwrap(), false)
                .to("10.244.2.6".parse().unwrap(), false)
        }
    }

    #[test]
    fn firewall_rule_of_nf_tables_is_decoded_and_matches() {
        let zero = 0_u32.to_ne_bytes();
        for (expressions, text, matches) in [
            (
                vec![payload(1, 12, 4), cmp(0, &[10, 244, 1, 5])],
                "ip saddr 10.244.1.5",
                Ternary::Yes,
            ),
            (vec![payload(1, 16, 2), cmp(0, &[10, 244])], "ip daddr 10.244.0.0/16", Ternary::Yes),
            (vec![payload(1, 16, 1), cmp(1, &[10])], "ip daddr != 10.0.0.0/8", Ternary::No),
            (
                vec![payload(2, 2, 2), cmp(5, &80_u16.to_be_bytes())],
                "th dport 80-65535",
                Ternary::Yes,
            ),
            (vec![payload(2, 2, 2), cmp(4, &8080_u16.to_be_bytes())], "", Ternary::No),
            (vec![payload(2, 2, 2), cmp(2, &8080_u16.to_be_bytes())], "", Ternary::No),
            (
                vec![payload(2, 0, 2), cmp(0, &80_u16.to_be_bytes())],
                "th sport 80",
                Ternary::Unknown,
            ),
            (vec![meta(6), cmp(0, b"cali")], "iifname \"cali*\"", Ternary::Yes),
            (
                vec![meta(6), cmp(0, b"cali\0\0\0\0\0\0\0\0\0\0\0\0")],
                "iifname \"cali\"",
                Ternary::No,
            ),
            (vec![meta(16), cmp(0, &[6])], "meta l4proto tcp", Ternary::Yes),
            (vec![meta(15), cmp(0, &[10])], "meta nfproto ipv6", Ternary::No),
            (vec![meta(3), cmp(0, &1_u32.to_ne_bytes())], "meta mark 0x1", Ternary::No),
            (vec![meta(10), cmp(0, &zero)], "…", Ternary::Unknown),
            (vec![ct(0), mask(6), cmp(1, &zero)], "ct state established,related", Ternary::No),
            (vec![ct(0), mask(8), cmp(1, &zero)], "ct state new", Ternary::Yes),
            (vec![ct(2), mask(32), cmp(1, &zero)], "ct status dnat", Ternary::Yes),
            (vec![ct(2), mask(32), cmp(0, &zero)], "ct status ! dnat", Ternary::No),
            (vec![expression("counter", &[])], "", Ternary::Yes),
            (vec![expression("limit", &[])], "limit", Ternary::Unknown),
            (
                vec![expression("limit", &[wide(1, 5), wide(2, 60)])],
                "limit rate 5/minute",
                Ternary::Unknown,
            ),
            (
                vec![expression(
                    "limit",
                    &[
                        wide(1, 1000),
                        wide(2, 1),
                        attribute(4, &1_u32.to_be_bytes()),
                        attribute(5, &1_u32.to_be_bytes()),
                    ],
                )],
                "limit rate over 1000 bytes/second",
                Ternary::Unknown,
            ),
            (vec![expression("match", &[attribute(1, b"set\0")])], "-m set", Ternary::Unknown),
        ] {
            let expressions = [expressions.concat(), immediate(0, "")].concat();
            let [rule] = &decode(&expressions).with_sets(&Sets::default())[..] else {
                panic!("one rule: {text}")
            };
            assert_eq!(rule.action, Action::Drop);
            assert_eq!(rule.matches(&packet()), matches, "{rule}");
            if !text.is_empty() {
                assert_eq!(rule.to_string(), format!("{text} drop"));
            }
        }
    }

    #[test]
    fn firewall_rule_of_nf_tables_has_action_and_effects() {
        for (expressions, text) in [
            (immediate(1, ""), "accept"),
            (immediate(-3, "x"), "jump x"),
            (immediate(-4, "x"), "goto x"),
            (immediate(-5, ""), "return"),
            (expression("reject", &[]), "reject"),
            (expression("notrack", &[]), "notrack"),
            (expression("masq", &[]), "nat …"),
            (expression("queue", &[]), "queue"),
            (expression("target", &[attribute(1, b"LOG\0")]), ""),
            (expression("target", &[attribute(1, b"REJECT\0")]), "reject"),
            (expression("meta", &[number(2, 3), number(3, 1)]), "meta mark set …"),
        ] {
            let rules = decode(&expressions).with_sets(&Sets::default());
            assert_eq!(rules.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
        }
        // The mark is set even if the condition behind it does not match.
        let set = expression("meta", &[number(2, 3), number(3, 1)]);
        let rule = [payload(1, 12, 4), cmp(0, &[192, 0, 2, 1]), set, meta(15), cmp(0, &[10])];
        let rules = decode(&rule.concat()).with_sets(&Sets::default());
        assert_eq!(rules[0].matches(&packet()), Ternary::Unknown);
    }

    #[test]
    fn firewall_mark_change_of_nf_tables_is_decoded() {
        let set = expression("meta", &[number(2, 3), number(3, 1)]);
        let constant = expression("immediate", &[number(1, 1), data(2, &0x4000_u32.to_ne_bytes())]);
        let bitwise = |mask: u32, xor: u32| {
            let operands = [data(4, &mask.to_ne_bytes()), data(5, &xor.to_ne_bytes())].concat();
            expression("bitwise", &[number(1, 1), number(2, 1), number(3, 4), operands])
        };
        let target = |revision| {
            let info = [0x4000_u32.to_ne_bytes(), 0x4000_u32.to_ne_bytes()].concat();
            let of_mark = [attribute(1, b"MARK\0"), number(2, revision), attribute(3, &info)];
            expression("target", &of_mark)
        };
        let of_mark = MarkChange::to(!0x4000, 0x4000);
        for (expressions, change) in [
            (vec![constant, set.clone()], MarkChange::to(0, 0x4000)),
            (vec![meta(3), bitwise(!0x4000, 0x4000), set.clone()], of_mark),
            (vec![meta(3), ct(0), set.clone()], MarkChange::UNKNOWN),
            (vec![ct(1), set], MarkChange::UNKNOWN),
            (vec![target(2)], of_mark),
            (vec![target(1)], MarkChange::UNKNOWN),
        ] {
            let rules = decode(&expressions.concat()).with_sets(&Sets::default());
            assert_eq!(rules[0].marks, Some(change));
        }
    }

    #[test]
    fn firewall_lookup_is_resolved_if_key_is_one_field() {
        let element = |port: u16, action| {
            let key = left_aligned(&port.to_be_bytes());
            KeyRange { low: key, high: key, action }
        };
        let sets = Sets::of("ports", 2, vec![element(22, None), element(8080, None)]);
        let rule =
            |flags| [payload(2, 2, 2), lookup("ports", None, flags), immediate(0, "")].concat();
        let first = |flags, sets: &Sets| decode(&rule(flags)).with_sets(sets)[0].clone();
        assert_eq!(first(0, &sets).matches(&packet()), Ternary::Yes);
        assert_eq!(first(0, &sets).to_string(), "th dport { 22, 8080 } drop");
        assert_eq!(first(1, &sets).matches(&packet()), Ternary::No);
        assert_eq!(first(0, &Sets::default()).matches(&packet()), Ternary::Unknown);
        let of_two_fields = Sets::of("ports", 8, vec![element(22, None)]);
        assert_eq!(first(0, &of_two_fields).matches(&packet()), Ternary::Unknown);

        let map = [element(22, Some(Action::Accept)), element(8080, Some(Action::Drop))];
        let sets = Sets::of("verdicts", 2, map.to_vec());
        let rule = [payload(2, 2, 2), lookup("verdicts", Some(0), 0)].concat();
        let rules = decode(&rule).with_sets(&sets);
        let found: Vec<_> =
            rules.iter().map(|rule| (rule.matches(&packet()), &rule.action)).collect();
        assert_eq!(found, [(Ternary::No, &Action::Accept), (Ternary::Yes, &Action::Drop)]);
        let unread = decode(&rule).with_sets(&Sets::default());
        assert_eq!((unread.len(), &unread[0].action), (1, &Action::Anything("vmap".into())));
    }

    #[test]
    fn firewall_connection_state_set_is_in_host_order() {
        let state = |bits: u32, action| {
            let key = left_aligned(&bits.to_ne_bytes());
            KeyRange { low: key, high: key, action: Some(action) }
        };
        let map = vec![state(2, Action::Accept), state(8, Action::Drop), state(1, Action::Drop)];
        let sets = Sets::of("states", 4, map);
        let rule = [ct(0), lookup("states", Some(0), 0)].concat();
        let rules = decode(&rule).with_sets(&sets);
        let matches: Vec<Ternary> = rules.iter().map(|rule| rule.matches(&packet())).collect();
        assert_eq!(matches, [Ternary::No, Ternary::Yes, Ternary::No]);
        assert_eq!(rules[0].to_string(), "ct state established accept");
    }

    #[test]
    fn firewall_decoding_survives_truncated_messages() {
        let rule =
            [payload(1, 12, 4), cmp(0, &[10, 244, 1, 5]), ct(2), mask(32), immediate(-3, "x")];
        let whole = rule.concat();
        for length in 0..whole.len() {
            decode(&whole[..length]).with_sets(&Sets::default());
        }
    }
}
