//! Reads tables from text, as [`Table::to_text`] writes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use rulegen_net::{IpFamily, Protocol};

use super::key::Key;
use super::rule::{Condition, Interface, Number, NumgenMode, Rule, Selector, Statement, Verdict};
use super::set::{Data, DataType, Element, Field, Set};
use super::table::{BaseChain, Chain, ChainKind, Hook, Table};
use super::text::{FamilyKeyword, by_expression, by_type};
use super::value::Value;
use super::words::LineWords;
use super::{Comment, Name};
use crate::Negatable;

/// A line that [`Table::to_text`] does not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: unknown syntax: {text}")]
pub struct TableTextError {
    /// The line, from 1.
    pub line: usize,
    /// The line without its indentation.
    pub text: String,
}

/// Reads the tables of a text. Lines that start with `#` and empty lines do not count.
///
/// # Errors
/// The first line that [`Table::to_text`] does not write.
pub fn parse_tables(text: &str) -> Result<Vec<Table>, TableTextError> {
    let mut reader = TablesReader::default();
    let content = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
    for (n, line) in text.lines().enumerate().filter(|(_, line)| content(line)) {
        let error = || TableTextError { line: n + 1, text: line.trim().to_owned() };
        reader.line(&mut LineWords::of(line)).ok_or_else(error)?;
    }
    match reader.place {
        TextSection::Outside => Ok(reader.tables),
        _ => Err(TableTextError { line: text.lines().count(), text: "end of the text".to_owned() }),
    }
}

/// Where a line is.
#[derive(Default)]
enum TextSection {
    #[default]
    Outside,
    Table,
    Set(Name),
    Elements(Name),
    Chain(Name),
}

#[derive(Default)]
struct TablesReader {
    tables: Vec<Table>,
    place: TextSection,
}

impl TablesReader {
    /// Takes in a line; `None` if it is unknown.
    fn line(&mut self, words: &mut LineWords<'_>) -> Option<()> {
        if let TextSection::Outside = self.place {
            self.tables.push(new_table(words)?);
            self.place = TextSection::Table;
            return words.end();
        }
        let table = self.tables.last_mut()?;
        let family = table.family;
        if words.eat("}") {
            self.place = match &self.place {
                TextSection::Outside | TextSection::Table => TextSection::Outside,
                TextSection::Set(_) | TextSection::Chain(_) => TextSection::Table,
                TextSection::Elements(set) => TextSection::Set(set.clone()),
            };
            return words.end();
        }
        match &self.place {
            TextSection::Outside => return None,
            TextSection::Table => {
                if let Some(place) = content_of_table(table, words)? {
                    self.place = place;
                }
            }
            TextSection::Set(name) => {
                let set = table.sets.get_mut(name)?;
                if words.eat_all(&["elements", "=", "{"]) {
                    self.place = TextSection::Elements(name.clone());
                } else {
                    property(set, family, words)?;
                }
            }
            TextSection::Elements(name) => {
                let set = table.sets.get_mut(name)?;
                let (key, element) = element(set, words)?;
                set.elements.insert(key, element);
            }
            TextSection::Chain(name) => {
                let chain = table.chains.get_mut(name)?;
                match words.peek() == Some("type") {
                    true => chain.base = Some(base_chain(words)?),
                    false => chain.rules.push(rule(words, family)?),
                }
            }
        }
        words.end()
    }
}

fn new_table(words: &mut LineWords<'_>) -> Option<Table> {
    words.need("table")?;
    let keyword = words.next()?;
    let family = IpFamily::BOTH.into_iter().find(|family| family.nft_name() == keyword)?;
    let name = Name::from(words.next()?);
    words.need("{")?;
    let (comment, sets, chains) = (Comment::from(""), BTreeMap::new(), BTreeMap::new());
    Some(Table { family, name, comment, sets, chains })
}

fn content_of_table(table: &mut Table, words: &mut LineWords<'_>) -> Option<Option<TextSection>> {
    let kind = words.next()?;
    if kind == "comment" {
        table.comment = Comment::from(words.quoted()?);
        return Some(None);
    }
    let name = Name::from(words.next()?);
    words.need("{")?;
    match kind {
        "set" | "map" => {
            table.sets.insert(name.clone(), Set::new(&[], ""));
            Some(Some(TextSection::Set(name)))
        }
        "chain" => {
            table.chains.insert(name.clone(), Chain::default());
            Some(Some(TextSection::Chain(name)))
        }
        _ => None,
    }
}

fn property(set: &mut Set, family: IpFamily, words: &mut LineWords<'_>) -> Option<()> {
    match words.next()? {
        "type" | "typeof" => {
            let text = words.rest();
            let (key, data) = match text.split_once(" : ") {
                None => (text.as_str(), None),
                Some((key, "verdict")) => (key, Some(DataType::Verdict)),
                Some((key, _)) => (key, Some(DataType::AddrPort)),
            };
            let fields: Option<Vec<Field>> =
                key.split(" . ").map(|text| field(text, family)).collect();
            (set.key, set.data) = (fields?, data);
        }
        "flags" => match words.next()? {
            "interval" => set.interval = true,
            "dynamic,timeout" => set.dynamic = true,
            _ => return None,
        },
        "timeout" => set.timeout = Some(seconds(words.next()?)?),
        "counter" => set.counter = true,
        "comment" => set.comment = Comment::from(words.quoted()?),
        _ => return None,
    }
    Some(())
}

fn field(text: &str, family: IpFamily) -> Option<Field> {
    let keyword = FamilyKeyword(family);
    [Field::Address, Field::Protocol, Field::Port, Field::Number]
        .into_iter()
        .find(|field| by_type(*field, keyword) == text || by_expression(*field, keyword) == text)
}

fn seconds(text: &str) -> Option<Duration> {
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

fn element(set: &Set, words: &mut LineWords<'_>) -> Option<(Key, Element)> {
    let mut key = Key::default();
    for (n, field) in set.key.iter().enumerate() {
        if n > 0 {
            words.need(".")?;
        }
        key.push(value(*field, words.next_of_list()?)?);
    }
    let comment = match words.eat("comment") {
        true => Some(Comment::from(words.quoted()?)),
        false => None,
    };
    let data = match set.data {
        None => None,
        Some(of) => {
            words.need(":")?;
            Some(match of {
                DataType::Verdict => Data::Verdict(verdict(words)?),
                DataType::AddrPort => {
                    let ip: IpAddr = words.parsed()?;
                    words.need(".")?;
                    Data::AddrPort((ip, words.next_of_list()?.parse().ok()?).into())
                }
            })
        }
    };
    words.eat(",");
    Some((key, Element { data, comment }))
}

fn value(field: Field, text: &str) -> Option<Value> {
    Some(match field {
        Field::Address => match text.parse() {
            Ok(ip) => Value::Address(ip),
            Err(_) => Value::Network(text.parse().ok()?),
        },
        Field::Protocol => Value::Protocol(Protocol::from_name(text)?),
        Field::Port => Value::Port(text.parse().ok()?),
        Field::Number => Value::Number(text.parse().ok()?),
    })
}

fn base_chain(words: &mut LineWords<'_>) -> Option<BaseChain> {
    words.need("type")?;
    let kind = match words.next()? {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        _ => return None,
    };
    words.need("hook")?;
    let hook = match words.next()? {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        _ => return None,
    };
    words.need("priority")?;
    let priority = words.next()?.strip_suffix(';')?.parse().ok()?;
    words.need("policy")?;
    words.need("accept;")?;
    Some(BaseChain { kind, hook, priority })
}

fn rule(words: &mut LineWords<'_>, family: IpFamily) -> Option<Rule> {
    let mut rule = Rule::default();
    while let Some(word) = words.peek() {
        if word == "comment" {
            words.next();
            rule.comment = Some(Comment::from(words.quoted()?));
            break;
        }
        rule.statements.push(statement(words, family)?);
    }
    Some(rule)
}

fn statement(words: &mut LineWords<'_>, family: IpFamily) -> Option<Statement> {
    if let Some(statement) = words.attempt(|words| action(words, family)) {
        return Some(statement);
    }
    if let Some(condition) = words.attempt(|words| condition(words, family)) {
        return Some(Statement::Match(condition));
    }
    let key = key(words, family)?;
    if words.eat("vmap") {
        return Some(Statement::VerdictMap { key, map: words.set()? });
    }
    let negated = words.eat("!=");
    let set = Negatable { negated, value: words.set()? };
    Some(Statement::Match(Condition::SetLookup { key, set }))
}

/// A statement that is no condition and does not start with a key.
fn action(words: &mut LineWords<'_>, family: IpFamily) -> Option<Statement> {
    Some(match words.next()? {
        "counter" => Statement::Counter,
        "reject" => Statement::Reject,
        "masquerade" => {
            words.need("fully-random")?;
            Statement::Masquerade
        }
        "meta" if words.eat_all(&["mark", "set", "meta", "mark"]) => match words.next()? {
            "|" => Statement::MarkOr(words.hexadecimal()?),
            "^" => Statement::MarkXor(words.hexadecimal()?),
            _ => return None,
        },
        "meta" if words.eat("l4proto") => {
            let protocol = Protocol::from_name(words.next()?)?;
            words.need_all(&["dnat", "to"])?;
            Statement::Dnat(protocol, words.parsed()?)
        }
        "dnat" => {
            words.need_all(&[family.nft_name(), "to"])?;
            let key = key(words, family)?;
            words.need("map")?;
            Statement::DnatMap { key, map: words.set()? }
        }
        "update" => {
            let set = words.set()?;
            words.need("{")?;
            let key = key(words, family)?;
            let timeout = match words.eat("timeout") {
                true => Some(seconds(words.next()?)?),
                false => None,
            };
            words.need("}")?;
            Statement::Update { set, key, timeout }
        }
        "drop" | "return" | "jump" | "goto" => {
            words.back();
            Statement::Verdict(verdict(words)?)
        }
        _ => return None,
    })
}

fn verdict(words: &mut LineWords<'_>) -> Option<Verdict> {
    Some(match words.next_of_list()? {
        "drop" => Verdict::Drop,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(Name::from(words.next_of_list()?)),
        "goto" => Verdict::Goto(Name::from(words.next_of_list()?)),
        _ => return None,
    })
}

fn condition(words: &mut LineWords<'_>, family: IpFamily) -> Option<Condition> {
    if let Some(number) = words.attempt(|words| number(words, family)) {
        return Some(Condition::Is(number, words.parsed()?));
    }
    Some(match words.next()? {
        "ct" if words.eat_all(&["state", "new"]) => Condition::NewConnection,
        "ct" if words.eat_all(&["status", "dnat"]) => Condition::Translated,
        "meta" if words.eat_all(&["mark", "&"]) => {
            let bits = words.hexadecimal()?;
            words.need("==")?;
            match words.hexadecimal()? {
                0 => Condition::NoMarkBits(bits),
                same if same == bits => Condition::MarkBits(bits),
                _ => return None,
            }
        }
        "meta" if words.eat("l4proto") => Condition::Protocol(Protocol::from_name(words.next()?)?),
        "th" if words.eat("dport") => Condition::DestinationPort(words.parsed()?),
        "fib" if words.eat_all(&["saddr", "type", "local"]) => Condition::SourceIsLocal,
        "fib" if words.eat_all(&["daddr", "type", "local"]) => Condition::DestinationIsLocal,
        "iifname" => {
            let negated = words.eat("!=");
            let name = words.quoted()?;
            let value = match name.strip_suffix('*') {
                Some(start) => Interface::Prefix(start.to_owned()),
                None => Interface::Named(name.to_owned()),
            };
            Condition::InInterface(Negatable { negated, value })
        }
        keyword if keyword == family.nft_name() => match words.next()? {
            "saddr" => Condition::Source(negatable(words)?),
            "daddr" => Condition::Destination(negatable(words)?),
            _ => return None,
        },
        _ => return None,
    })
}

fn negatable<T: FromStr>(words: &mut LineWords<'_>) -> Option<Negatable<T>> {
    let negated = words.eat("!=");
    Some(Negatable { negated, value: words.parsed()? })
}

fn key(words: &mut LineWords<'_>, family: IpFamily) -> Option<Vec<Selector>> {
    let mut key = vec![selector(words, family)?];
    while words.eat(".") {
        key.push(selector(words, family)?);
    }
    Some(key)
}

fn selector(words: &mut LineWords<'_>, family: IpFamily) -> Option<Selector> {
    if let Some(number) = words.attempt(|words| number(words, family)) {
        return Some(Selector::Number(number));
    }
    Some(match (words.next()?, words.next()?) {
        ("meta", "l4proto") => Selector::Protocol,
        ("th", "dport") => Selector::DestinationPort,
        (keyword, "daddr") if keyword == family.nft_name() => Selector::DestinationAddress,
        (keyword, "saddr") if keyword == family.nft_name() => match words.eat("&") {
            true => Selector::SourceNetwork { prefix_length: prefix_length(words.parsed()?) },
            false => Selector::SourceAddress,
        },
        _ => return None,
    })
}

fn prefix_length(netmask: IpAddr) -> u8 {
    let ones = match netmask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

fn number(words: &mut LineWords<'_>, family: IpFamily) -> Option<Number> {
    match words.next()? {
        "numgen" => {
            let mode = match words.next()? {
                "random" => NumgenMode::Random,
                "inc" => NumgenMode::InTurn,
                _ => return None,
            };
            words.need("mod")?;
            let below = words.parsed()?;
            Some(match words.eat("offset") {
                true => Number::Constant(words.parsed()?),
                false => Number::Modulo(mode, below),
            })
        }
        "jhash" => {
            words.need_all(&[family.nft_name(), "saddr"])?;
            let mode = match words.eat_all(&[".", "th", "sport"]) {
                true => NumgenMode::ByFlow,
                false => NumgenMode::BySource,
            };
            words.need("mod")?;
            let below = words.parsed()?;
            words.need("seed")?;
            words.hexadecimal()?;
            Some(Number::Modulo(mode, below))
        }
        _ => None,
    }
}
