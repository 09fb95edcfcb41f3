//! Keys of set elements, stored compactly: a cluster has hundreds of thousands.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use super::Value;
use rulegen_net::Protocol;

/// The key of an element, one value per field. Keys are ordered like lists of their values: each
/// value is stored as a tag and big-endian bytes, so bytes and values have the same order. An IPv4
/// address, a protocol, a port and a number fit without an allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u8; 16]>);

const ADDRESS_V4: u8 = 0;
const ADDRESS_V6: u8 = 1;
const NETWORK_V4: u8 = 2;
const NETWORK_V6: u8 = 3;
const PROTOCOL: u8 = 4;
const PORT: u8 = 5;
const NUMBER: u8 = 6;

impl Key {
    /// Appends a value.
    pub fn push(&mut self, value: Value) {
        let bytes = &mut self.0;
        match value {
            Value::Address(IpAddr::V4(ip)) => tagged(bytes, ADDRESS_V4, &ip.octets()),
            Value::Address(IpAddr::V6(ip)) => tagged(bytes, ADDRESS_V6, &ip.octets()),
            Value::Network(IpNet::V4(net)) => {
                tagged(bytes, NETWORK_V4, &net.addr().octets());
                bytes.push(net.prefix_len());
            }
            Value::Network(IpNet::V6(net)) => {
                tagged(bytes, NETWORK_V6, &net.addr().octets());
                bytes.push(net.prefix_len());
            }
            Value::Protocol(protocol) => tagged(bytes, PROTOCOL, &[protocol.number()]),
            Value::Port(port) => tagged(bytes, PORT, &port.to_be_bytes()),
            Value::Number(number) => tagged(bytes, NUMBER, &number.to_be_bytes()),
        }
    }

    /// A copy with one more value.
    pub fn with(&self, last: Value) -> Self {
        let mut longer = self.clone();
        longer.push(last);
        longer
    }

    /// The values in order.
    pub fn values(&self) -> impl Iterator<Item = Value> + Clone {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (value, behind) = first(rest)?;
            rest = behind;
            Some(value)
        })
    }
}

fn tagged(bytes: &mut SmallVec<[u8; 16]>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

/// The first value and the remaining bytes; `None` at the end.
fn first(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    match *tag {
        ADDRESS_V4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            Some((Value::Address(Ipv4Addr::from(*ip).into()), rest))
        }
        ADDRESS_V6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            Some((Value::Address(Ipv6Addr::from(*ip).into()), rest))
        }
        NETWORK_V4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            network(Ipv4Addr::from(*ip).into(), rest)
        }
        NETWORK_V6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            network(Ipv6Addr::from(*ip).into(), rest)
        }
        PROTOCOL => {
            let (number, rest) = rest.split_first()?;
            Some((Value::Protocol(Protocol::from_number(*number)?), rest))
        }
        PORT => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            Some((Value::Port(u16::from_be_bytes(*port)), rest))
        }
        _ => {
            let (number, rest) = rest.split_first_chunk::<4>()?;
            Some((Value::Number(u32::from_be_bytes(*number)), rest))
        }
    }
}

fn network(ip: IpAddr, rest: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = rest.split_first()?;
    Some((Value::Network(IpNet::new(ip, *length).ok()?), rest))
}

impl FromIterator<Value> for Key {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        let mut key = Key::default();
        values.into_iter().for_each(|value| key.push(value));
        key
    }
}

impl<const N: usize> From<[Value; N]> for Key {
    fn from(values: [Value; N]) -> Self {
        values.into_iter().collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<Value> {
        let ips: [IpAddr; 4] =
            ["10.0.0.1", "192.168.0.255", "fd00::1", "::"].map(|ip| ip.parse().unwrap());
        let nets: [IpNet; 3] =
            ["10.0.0.0/8", "10.0.0.0/9", "fd00::/64"].map(|net| net.parse().unwrap());
        let addresses = ips.into_iter().map(Value::Address);
        let networks = nets.into_iter().map(Value::Network);
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(Value::Protocol);
        let ports = [0, 80, 256, u16::MAX].into_iter().map(Value::Port);
        let numbers = [0, 1, 65_536, u32::MAX].into_iter().map(Value::Number);
        addresses.chain(networks).chain(protocols).chain(ports).chain(numbers).collect()
    }

    #[test]
    fn key_compares_like_the_list_of_its_values() {
        let lists: Vec<Vec<Value>> = values()
            .iter()
            .flat_map(|a| values().into_iter().map(move |b| vec![*a, b]))
            .chain(values().into_iter().map(|a| vec![a]))
            .chain([vec![]])
            .collect();
        for one in &lists {
            let key: Key = one.iter().copied().collect();
            assert_eq!(key.values().collect::<Vec<_>>(), *one);
            for other in &lists {
                let other_key: Key = other.iter().copied().collect();
                assert_eq!(key.cmp(&other_key), one.cmp(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn key_of_common_fields_needs_no_allocation() {
        let key = Key::from([
            Value::Address("10.0.0.1".parse().unwrap()),
            Value::Protocol(Protocol::Tcp),
            Value::Port(80),
            Value::Number(4),
        ]);
        assert!(!key.0.spilled());
        assert_eq!(size_of::<Key>(), 24);
    }
}
