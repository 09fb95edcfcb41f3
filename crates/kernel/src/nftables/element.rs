//! Elements of sets and maps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use nftnl::nftnl_sys as sys;
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::nftables::{Comment, Data, Element, Expression, Field, Key, Set, Value};

use super::raw::{Borrowed, RawElement};
use super::{expression, set, userdata, verdict};

type RawSetElement<'a> = Borrowed<'a, sys::nftnl_set_elem>;

/// NFT_SET_ELEM_INTERVAL_END of linux/netfilter/nf_tables.h.
const INTERVAL_END: u32 = 1;

/// Encodes an element. An element of an interval set with keys of one field becomes two: the start
/// of the network, and the address after its end.
pub(super) fn encode(set: &Set, key: &Key, element: Option<&Element>) -> Vec<RawElement> {
    let mut raw = RawElement::element().bytes(sys::NFTNL_SET_ELEM_KEY, &first(key));
    if set.interval && set.key.len() > 1 {
        raw = raw.bytes(sys::NFTNL_SET_ELEM_KEY_END, &last(key));
    }
    if let Some(element) = element {
        raw = with_data(raw, element);
    }
    let end = set.needs_full_rewrite().then(|| key_after(last(key))).flatten();
    let end = end.map(|end| {
        RawElement::element()
            .bytes(sys::NFTNL_SET_ELEM_KEY, &end)
            .u32(sys::NFTNL_SET_ELEM_FLAGS, INTERVAL_END)
    });
    [raw].into_iter().chain(end).collect()
}

fn with_data(raw: RawElement, element: &Element) -> RawElement {
    let raw = match &element.data {
        None => raw,
        Some(Data::AddrPort(to)) => raw.bytes(sys::NFTNL_SET_ELEM_DATA, &addr_port(*to)),
        Some(Data::Verdict(of)) => {
            let (number, chain) = verdict::encode(of);
            let raw = raw.u32(sys::NFTNL_SET_ELEM_VERDICT, number);
            match chain {
                Some(chain) => raw.text(sys::NFTNL_SET_ELEM_CHAIN, chain.as_str()),
                None => raw,
            }
        }
    };
    match &element.comment {
        Some(comment) => raw.bytes(sys::NFTNL_SET_ELEM_USERDATA, &userdata::of_comment(comment)),
        None => raw,
    }
}

/// An address and port, as data of an element.
pub(super) fn addr_port(to: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    put_address(&mut bytes, to.ip());
    bytes.extend(to.port().to_be_bytes());
    pad(&mut bytes);
    bytes
}

/// The start of the key.
fn first(key: &Key) -> Vec<u8> {
    bytes(key, IpNet::network)
}

/// The end of the key.
fn last(key: &Key) -> Vec<u8> {
    bytes(key, IpNet::broadcast)
}

/// In keys of several fields, each starts at a register boundary.
fn bytes(key: &Key, of_network: fn(&IpNet) -> IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    let alone = key.values().nth(1).is_none();
    for value in key.values() {
        match value {
            Value::Address(address) => put_address(&mut bytes, address),
            Value::Network(network) => put_address(&mut bytes, of_network(&network)),
            Value::Protocol(protocol) => bytes.push(protocol.number()),
            Value::Port(port) => bytes.extend(port.to_be_bytes()),
            Value::Number(number) => bytes.extend(number.to_ne_bytes()),
        }
        if !alone {
            pad(&mut bytes);
        }
    }
    bytes
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(address.octets()),
    }
}

/// Pads to the next register.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The key after the end of an interval; `None` after the highest key.
fn key_after(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        let (next, carried) = byte.overflowing_add(1);
        *byte = next;
        if !carried {
            return Some(key);
        }
    }
    None
}

/// A key as the kernel stores it. Only its set tells what it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawKey(pub(super) Vec<u8>);

impl From<&Key> for RawKey {
    fn from(key: &Key) -> Self {
        Self(first(key))
    }
}

impl RawKey {
    /// The key in a set of this family; `None` if the set cannot have it. Networks are single
    /// addresses: the start of the network.
    pub fn decode(&self, family: IpFamily, set: &Set) -> Option<Key> {
        ElementDecoder::new(family, set).key(&self.0, &self.0)
    }
}

/// Decoder of the elements of one set.
pub(super) struct ElementDecoder<'a> {
    family: IpFamily,
    set: &'a Set,
    elements: BTreeMap<Key, Element>,
    /// Boundaries of the intervals, for keys of one field.
    starts: Vec<(IpAddr, Element)>,
    ends: Vec<IpAddr>,
}

/// Error: an element that rulegen would not make.
pub(super) struct Foreign;

impl<'a> ElementDecoder<'a> {
    pub(super) fn new(family: IpFamily, set: &'a Set) -> Self {
        Self { family, set, elements: BTreeMap::new(), starts: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn read(&mut self, raw: &RawSetElement<'_>) -> Result<(), Foreign> {
        if !self.set.needs_full_rewrite() {
            let (key, element) = self.decode(raw)?;
            self.elements.insert(key, element);
            return Ok(());
        }
        let key = raw.get(sys::NFTNL_SET_ELEM_KEY).ok_or(Foreign)?;
        let point = address(self.family, key).ok_or(Foreign)?;
        if flags(raw) == INTERVAL_END {
            self.ends.push(point);
        } else {
            self.starts.push((point, self.plain(raw)?));
        }
        Ok(())
    }

    /// Decodes an element of a set whose elements do not depend on each other.
    pub(super) fn decode(&self, raw: &RawSetElement<'_>) -> Result<(Key, Element), Foreign> {
        let first = raw.get(sys::NFTNL_SET_ELEM_KEY).ok_or(Foreign)?;
        let last = raw.get(sys::NFTNL_SET_ELEM_KEY_END).unwrap_or(first);
        let element = self.plain(raw)?;
        Ok((self.key(first, last).ok_or(Foreign)?, element))
    }

    /// Data and comment of an element without any other property.
    fn plain(&self, raw: &RawSetElement<'_>) -> Result<Element, Foreign> {
        let expires = raw.has(sys::NFTNL_SET_ELEM_TIMEOUT) && !self.set.dynamic;
        if flags(raw) != 0 || expires || raw.has(sys::NFTNL_SET_ELEM_OBJREF) {
            return Err(Foreign);
        }
        self.element(raw).ok_or(Foreign)
    }

    /// The key of an element, for sets without networks.
    pub(super) fn key_of(&self, raw: &RawSetElement<'_>) -> Option<Key> {
        let key = raw.get(sys::NFTNL_SET_ELEM_KEY)?;
        self.key(key, key)
    }

    /// Key, endpoint, comment and packet count of an element with a counter.
    pub(super) fn counted(
        &self,
        raw: &RawSetElement<'_>,
    ) -> Option<(Key, SocketAddr, Comment, u64)> {
        let key = raw.get(sys::NFTNL_SET_ELEM_KEY)?;
        let endpoint = self.socket(raw.get(sys::NFTNL_SET_ELEM_DATA)?)?;
        let comment = raw.get(sys::NFTNL_SET_ELEM_USERDATA).and_then(userdata::comment_of)?;
        let packets = raw.expressions(expression::packets).into_iter().flatten().next()?;
        Some((self.key(key, key)?, endpoint, comment, packets))
    }

    /// All elements.
    pub(super) fn finish(mut self) -> Result<BTreeMap<Key, Element>, Foreign> {
        let mut points: Vec<IpAddr> = self.starts.iter().map(|(start, _)| *start).collect();
        points.extend(&self.ends);
        points.sort_unstable();
        for (start, element) in self.starts {
            let behind = points.partition_point(|point| *point <= start);
            let end = points.get(behind).copied();
            for network in networks(start, end).ok_or(Foreign)? {
                let is_whole = network.prefix_len() == network.max_prefix_len();
                let address = Value::Address(network.addr());
                let value = if is_whole { address } else { Value::Network(network) };
                self.elements.insert(Key::from([value]), element.clone());
            }
        }
        Ok(self.elements)
    }

    fn key(&self, mut first: &[u8], mut last: &[u8]) -> Option<Key> {
        let mut key = Key::default();
        let alone = self.set.key.len() == 1;
        for field in &self.set.key {
            let length = usize::from(set::length(self.family, *field));
            let taken = if alone { length } else { length.next_multiple_of(4) };
            let (low, rest) = first.split_at_checked(taken)?;
            let (high, rest_of_last) = last.split_at_checked(taken)?;
            key.push(self.value(*field, low.get(..length)?, high.get(..length)?)?);
            (first, last) = (rest, rest_of_last);
        }
        (first.is_empty() && last.is_empty()).then_some(key)
    }

    fn value(&self, field: Field, low: &[u8], high: &[u8]) -> Option<Value> {
        match field {
            Field::Address if low == high => address(self.family, low).map(Value::Address),
            Field::Address => {
                let end = key_after(high.to_vec()).and_then(|end| address(self.family, &end));
                network(address(self.family, low)?, end)
            }
            _ if low != high => None,
            Field::Protocol => Protocol::from_number(*low.first()?).map(Value::Protocol),
            Field::Port => Some(Value::Port(u16::from_be_bytes(low.try_into().ok()?))),
            Field::Number => Some(Value::Number(u32::from_ne_bytes(low.try_into().ok()?))),
        }
    }

    fn element(&self, raw: &RawSetElement<'_>) -> Option<Element> {
        let data = if self.set.data.is_none() {
            None
        } else if let Some(number) = raw.get_u32(sys::NFTNL_SET_ELEM_VERDICT) {
            let chain = raw.get_text(sys::NFTNL_SET_ELEM_CHAIN);
            Some(Data::Verdict(verdict::decode(number, chain)?))
        } else {
            Some(Data::AddrPort(self.socket(raw.get(sys::NFTNL_SET_ELEM_DATA)?)?))
        };
        let comment = raw.get(sys::NFTNL_SET_ELEM_USERDATA).and_then(userdata::comment_of);
        let has = raw.expressions(expression::decode);
        // An element has the expressions that its set had when the element was added.
        let desired: &[_] = if self.set.counter { &[Some(Expression::Counter)] } else { &[] };
        (has == desired).then_some(Element { data, comment })
    }

    fn socket(&self, data: &[u8]) -> Option<SocketAddr> {
        let length = usize::from(set::length(self.family, Field::Address));
        let (ip, port) = data.split_at_checked(length)?;
        let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
        Some(SocketAddr::new(address(self.family, ip)?, port))
    }
}

fn flags(raw: &RawSetElement<'_>) -> u32 {
    raw.get_u32(sys::NFTNL_SET_ELEM_FLAGS).unwrap_or_default()
}

fn address(family: IpFamily, bytes: &[u8]) -> Option<IpAddr> {
    Some(match family {
        IpFamily::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        IpFamily::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    })
}

/// The network from `start` up to `end`, exclusive, or to the highest address; `None` if the range
/// is not a network.
fn network(start: IpAddr, end: Option<IpAddr>) -> Option<Value> {
    let longest = IpNet::from(start).max_prefix_len();
    let mut networks = (0..=longest).filter_map(|length| IpNet::new(start, length).ok());
    let end = end.map(octets);
    let fits = |network: &IpNet| {
        network.network() == start && key_after(octets(network.broadcast())) == end
    };
    let network = networks.find(fits)?;
    let whole = network.prefix_len() == longest;
    Some(if whole { Value::Address(start) } else { Value::Network(network) })
}

/// The networks that together are the range from `start` up to `end`, exclusive, or to the highest
/// address. nft joins adjacent networks to ranges that need not be networks.
fn networks(start: IpAddr, end: Option<IpAddr>) -> Option<IpSubnets> {
    Some(match (start, end) {
        (IpAddr::V4(start), end) => {
            let last = match end {
                Some(IpAddr::V4(end)) => Ipv4Addr::from_bits(end.to_bits().checked_sub(1)?),
                Some(IpAddr::V6(_)) => return None,
                None => Ipv4Addr::BROADCAST,
            };
            IpSubnets::V4(Ipv4Subnets::new(start, last, 0))
        }
        (IpAddr::V6(start), end) => {
            let last = match end {
                Some(IpAddr::V6(end)) => Ipv6Addr::from_bits(end.to_bits().checked_sub(1)?),
                Some(IpAddr::V4(_)) => return None,
                None => Ipv6Addr::from_bits(u128::MAX),
            };
            IpSubnets::V6(Ipv6Subnets::new(start, last, 0))
        }
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    put_address(&mut bytes, address);
    bytes
}
