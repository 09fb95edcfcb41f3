//! Sets, maps and their elements.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{Comment, Key, Name, Verdict};
use rulegen_net::Protocol;

/// A set, or a map if it has data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// What its keys are made of.
    pub key: Vec<Field>,
    /// What a map has for a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataType>,
    /// Whether a key may stand for a whole network.
    pub interval: bool,
    /// Whether packets add the elements. Each element expires after the timeout of the rule that
    /// added it. The set has no timeout of its own, because the kernel cannot change that of a set
    /// that exists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dynamic: bool,
    /// Whether lookups are counted, for each element that is found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counter: bool,
    /// What it is for.
    pub comment: Comment,
    /// Its elements.
    #[serde(serialize_with = "as_list")]
    pub elements: BTreeMap<Key, Element>,
}

/// Maps with keys that are no text have no form in JSON.
fn as_list<S: Serializer>(
    elements: &BTreeMap<Key, Element>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        key: &'a Key,
        #[serde(flatten)]
        element: &'a Element,
    }
    serializer.collect_seq(elements.iter().map(|(key, element)| Entry { key, element }))
}

/// What a part of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// An address of the table's family, or a network.
    Address,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
    /// A number that the kernel makes.
    Number,
}

/// What a map has for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Where the packet goes on.
    Verdict,
    /// An address and a port.
    AddrPort,
}

/// A part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// All addresses of a network.
    Network(IpNet),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// A number.
    Number(u32),
}

/// What an element says beside its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Element {
    /// What a map has there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// Where the packet goes on.
    Verdict(Verdict),
    /// An address and a port.
    AddrPort(SocketAddr),
}

impl Set {
    /// An empty set.
    pub fn new(key: &[Field], comment: &str) -> Self {
        Self {
            key: key.to_vec(),
            data: None,
            interval: false,
            dynamic: false,
            counter: false,
            comment: comment.into(),
            elements: BTreeMap::new(),
        }
    }

    /// An empty set of the same shape.
    pub fn without_elements(&self) -> Self {
        Self {
            key: self.key.clone(),
            data: self.data,
            interval: self.interval,
            dynamic: self.dynamic,
            counter: self.counter,
            comment: self.comment.clone(),
            elements: BTreeMap::new(),
        }
    }

    /// All but its elements: sets with different ones cannot be made into one another.
    pub fn shape(&self) -> impl PartialEq {
        (&self.key, self.data, self.interval, self.dynamic, self.counter, &self.comment)
    }

    /// Whether the kernel keeps the first addresses of networks and those behind the last: which
    /// of them are there where two networks touch is up to who wrote them, so such a set is
    /// written as a whole.
    pub fn needs_full_rewrite(&self) -> bool {
        self.interval && self.key.len() == 1
    }

    /// Whether nft must be told by example what keys and data are: it has no name for numbers
    /// that the kernel makes, nor for an address and a port as data.
    pub fn needs_typeof(&self) -> bool {
        self.key.contains(&Field::Number) || self.data == Some(DataType::AddrPort)
    }

    /// An empty map.
    pub fn map(key: &[Field], data: DataType, comment: &str) -> Self {
        Self { data: Some(data), ..Self::new(key, comment) }
    }
}

impl From<Name> for Data {
    /// Going on in a chain, without a way back.
    fn from(chain: Name) -> Self {
        Data::Verdict(Verdict::Goto(chain))
    }
}
