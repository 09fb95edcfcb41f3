//! Tables in the syntax and order of `nft list table`, as far as those are the same in all versions
//! of nft.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;

use askama::Template;

use super::key::Key;
use super::linearize::{HASH_SEED, netmask};
use super::rule::{Condition, Interface, Number, NumgenMode, Rule, Selector, Statement, Verdict};
use super::set::{Data, DataType, Element, Field, Set};
use super::table::{BaseChain, Chain, ChainKind, Hook, Table};
use super::value::Value;
use super::{Comment, Name};
use crate::Negatable;
use rulegen_net::IpFamily;

impl Table {
    /// The table as input of `nft -f`. It creates the table, or adds to an existing one.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, and nothing in the template can.
        let _ = self.listed().render_into(&mut text);
        text
    }

    /// Writes the table as input of `nft -f`.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write_text(&self, out: &mut impl io::Write) -> io::Result<()> {
        self.listed().write_into(out)
    }

    fn listed(&self) -> TableTemplate<'_> {
        TableTemplate {
            family: FamilyKeyword(self.family),
            name: &self.name,
            comment: &self.comment,
            sets: &self.sets,
            chains: &self.chains,
        }
    }
}

#[derive(Template)]
#[template(path = "nft.txt", escape = "none")]
struct TableTemplate<'a> {
    family: FamilyKeyword,
    name: &'a Name,
    comment: &'a Comment,
    sets: &'a BTreeMap<Name, Set>,
    chains: &'a BTreeMap<Name, Chain>,
}

/// A family by its keyword in nft's syntax.
#[derive(Clone, Copy)]
pub(super) struct FamilyKeyword(pub(super) IpFamily);

impl Display for FamilyKeyword {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.nft_name())
    }
}

impl Set {
    fn kind(&self) -> &'static str {
        if self.data.is_some() { "map" } else { "set" }
    }

    fn key_type(&self, family: &FamilyKeyword) -> String {
        let by_example = self.needs_typeof();
        let key = Concatenated(self.key.iter().map(|field| match by_example {
            true => by_expression(*field, *family),
            false => by_type(*field, *family).to_owned(),
        }));
        let word = if by_example { "typeof" } else { "type" };
        match self.data {
            None => format!("{word} {key}"),
            Some(DataType::Verdict) => format!("{word} {key} : verdict"),
            // With `tcp dport`, nft would add a match on TCP to each rule that uses the map.
            Some(DataType::AddrPort) => format!("{word} {key} : {family} daddr . th dport"),
        }
    }
}

pub(super) fn by_type(field: Field, family: FamilyKeyword) -> &'static str {
    match (field, family.0) {
        (Field::Address, IpFamily::Ipv4) => "ipv4_addr",
        (Field::Address, IpFamily::Ipv6) => "ipv6_addr",
        (Field::Protocol, _) => "inet_proto",
        (Field::Port, _) => "inet_service",
        (Field::Number, _) => "integer",
    }
}

/// nft has no type name for generated numbers.
pub(super) fn by_expression(field: Field, family: FamilyKeyword) -> String {
    match field {
        Field::Address => format!("{family} daddr"),
        Field::Protocol => "meta l4proto".to_owned(),
        Field::Port => "th dport".to_owned(),
        Field::Number => format!("numgen random mod {}", u32::MAX),
    }
}

impl Element {
    /// The element with its key in nft's syntax.
    pub fn text<'a>(&'a self, key: &'a Key) -> impl Display + use<'a> {
        ElementText { key, element: self }
    }
}

/// An element with its key.
pub(super) struct ElementText<'a> {
    pub(super) key: &'a Key,
    pub(super) element: &'a Element,
}

impl Display for ElementText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Concatenated(self.key.values()))?;
        if let Some(comment) = &self.element.comment {
            write!(f, " comment {comment}")?;
        }
        match &self.element.data {
            None => Ok(()),
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Data::AddrPort(socket)) => write!(f, " : {} . {}", socket.ip(), socket.port()),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Address(address) => write!(f, "{address}"),
            Value::Network(network) => write!(f, "{network}"),
            Value::Protocol(protocol) => f.write_str(protocol.name()),
            Value::Port(port) => write!(f, "{port}"),
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Parts joined by dots.
struct Concatenated<I>(I);

impl<I: Iterator<Item = T> + Clone, T: Display> Display for Concatenated<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for part in self.0.clone() {
            write!(f, "{between}{part}")?;
            between = " . ";
        }
        Ok(())
    }
}

impl Display for BaseChain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        write!(f, "type {kind} hook {hook} priority {}; policy accept;", self.priority)
    }
}

impl Rule {
    /// The rule in nft's syntax, for a table of this family.
    pub fn text(&self, family: IpFamily) -> impl Display {
        RuleText { rule: self, family }
    }

    fn of(&self, family: &FamilyKeyword) -> RuleText<'_> {
        RuleText { rule: self, family: family.0 }
    }
}

/// A rule with the family of its table.
pub(super) struct RuleText<'a> {
    pub(super) rule: &'a Rule,
    pub(super) family: IpFamily,
}

impl Display for RuleText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for statement in &self.rule.statements {
            write!(
                f,
                "{between}{}",
                StatementOf { statement, family: FamilyKeyword(self.family) }
            )?;
            between = " ";
        }
        match &self.rule.comment {
            Some(comment) => write!(f, " comment {comment}"),
            None => Ok(()),
        }
    }
}

struct StatementOf<'a> {
    statement: &'a Statement,
    family: FamilyKeyword,
}

impl StatementOf<'_> {
    fn key<'a>(&self, key: &'a [Selector]) -> impl Display + use<'a> {
        let family = self.family;
        Concatenated(key.iter().map(move |selector| SelectorOf { selector: *selector, family }))
    }

    fn condition(&self, condition: &Condition, f: &mut Formatter<'_>) -> fmt::Result {
        let family = self.family;
        match condition {
            Condition::NewConnection => f.write_str("ct state new"),
            Condition::Translated => f.write_str("ct status dnat"),
            Condition::MarkBits(bits) => write!(f, "meta mark & {bits:#010x} == {bits:#010x}"),
            Condition::NoMarkBits(bits) => write!(f, "meta mark & {bits:#010x} == 0x00000000"),
            Condition::Protocol(protocol) => write!(f, "meta l4proto {}", protocol.name()),
            Condition::DestinationPort(port) => write!(f, "th dport {port}"),
            Condition::Source(network) => write!(f, "{family} saddr {}", unless(network)),
            Condition::Destination(network) => write!(f, "{family} daddr {}", unless(network)),
            Condition::SourceIsLocal => f.write_str("fib saddr type local"),
            Condition::DestinationIsLocal => f.write_str("fib daddr type local"),
            Condition::InInterface(interface) => write!(f, "iifname {}", unless(interface)),
            Condition::SetLookup { key, set } => {
                let not = if set.negated { "!= " } else { "" };
                write!(f, "{} {not}{}", self.key(key), set.value.reference())
            }
            Condition::Is(number, value) => {
                write!(f, "{} {value}", NumberOf { number: *number, family })
            }
        }
    }
}

impl Display for StatementOf<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let family = self.family;
        match self.statement {
            Statement::Match(condition) => self.condition(condition, f),
            Statement::Counter => f.write_str("counter"),
            Statement::MarkOr(bits) => write!(f, "meta mark set meta mark | {bits:#010x}"),
            Statement::MarkXor(bits) => write!(f, "meta mark set meta mark ^ {bits:#010x}"),
            Statement::Update { set, key, timeout } => {
                write!(f, "update @{set} {{ {}", self.key(key))?;
                timeout.map_or(Ok(()), |after| write!(f, " timeout {}s", after.as_secs()))?;
                f.write_str(" }")
            }
            Statement::VerdictMap { key, map } => {
                write!(f, "{} vmap {}", self.key(key), map.reference())
            }
            Statement::DnatMap { key, map } => {
                write!(f, "dnat {family} to {} map @{map}", self.key(key))
            }
            Statement::Dnat(protocol, to) => {
                write!(f, "meta l4proto {} dnat to {to}", protocol.name())
            }
            Statement::Masquerade => f.write_str("masquerade fully-random"),
            Statement::Reject => f.write_str("reject"),
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

/// The value, with `!=` if negated.
fn unless<T: Display>(matched: &Negatable<T>) -> impl Display {
    format!("{}{}", if matched.negated { "!= " } else { "" }, matched.value)
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Drop => f.write_str("drop"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
            Verdict::Return => f.write_str("return"),
        }
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Interface::Named(name) => write!(f, "\"{name}\""),
            Interface::Prefix(start) => write!(f, "\"{start}*\""),
        }
    }
}

struct SelectorOf {
    selector: Selector,
    family: FamilyKeyword,
}

impl Display for SelectorOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let family = self.family;
        match self.selector {
            Selector::SourceAddress => write!(f, "{family} saddr"),
            Selector::SourceNetwork { prefix_length } => {
                write!(f, "{family} saddr & {}", netmask(family.0, prefix_length))
            }
            Selector::DestinationAddress => write!(f, "{family} daddr"),
            Selector::Protocol => f.write_str("meta l4proto"),
            Selector::DestinationPort => f.write_str("th dport"),
            Selector::Number(number) => write!(f, "{}", NumberOf { number, family }),
        }
    }
}

struct NumberOf {
    number: Number,
    family: FamilyKeyword,
}

impl Display for NumberOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let family = self.family;
        match self.number {
            Number::Modulo(NumgenMode::Random, below) => write!(f, "numgen random mod {below}"),
            Number::Modulo(NumgenMode::InTurn, below) => write!(f, "numgen inc mod {below}"),
            Number::Modulo(NumgenMode::BySource, below) => {
                write!(f, "jhash {family} saddr mod {below} seed {HASH_SEED:#x}")
            }
            Number::Modulo(NumgenMode::ByFlow, below) => {
                write!(f, "jhash {family} saddr . th sport mod {below} seed {HASH_SEED:#x}")
            }
            // nft has no other way to use a constant as part of a key.
            Number::Constant(value) => write!(f, "numgen inc mod 1 offset {value}"),
        }
    }
}
