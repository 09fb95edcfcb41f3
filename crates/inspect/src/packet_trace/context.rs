//! The rules that are known during a trace.

use std::collections::BTreeMap;

use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{
    Actual, ChainId, Comment, Data, Element, Field, HookPosition, Key, Name, PacketHeader, Set,
    TracedRule, Value, Verdict,
};

/// The rules at the last read. Rules are added when packets match them.
#[derive(Debug, Clone, Default)]
pub struct TraceContext {
    /// The name of our table.
    pub table: Option<Name>,
    /// Our table in each family.
    pub actual: BTreeMap<IpFamily, Actual>,
    /// The base chains of all tables.
    pub bases: BTreeMap<ChainId, HookPosition>,
    /// Rules of all tables that packets matched, by handle; `None` for deleted rules.
    pub rules: BTreeMap<(ChainId, u64), Option<TracedRule>>,
}

/// The element that one of our maps has for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedElement {
    /// Name of the verdict or DNAT map.
    pub map: Name,
    /// The service port of the element.
    pub service: Comment,
    /// The data of the element.
    pub verdict: Option<Verdict>,
}

impl TraceContext {
    /// True for a chain of our table.
    pub fn is_ours(&self, at: &ChainId) -> bool {
        at.family.of_packets().is_some() && self.table.as_ref() == Some(&at.table)
    }

    /// Adds a rule that was read.
    pub fn rule(&self, at: &ChainId, handle: u64) -> Option<&TracedRule> {
        self.rules.get(&(at.clone(), handle))?.as_ref()
    }

    /// The service port with a packet's destination as a frontend. Node ports are found by rules
    /// only, because they depend on the addresses of the node.
    pub fn service_at(&self, header: &PacketHeader) -> Option<&Comment> {
        let keyed = |set: &&Set| set.key == FRONTEND && set.data.is_some();
        let sets = self.actual.get(&header.family())?.sets.values().flatten();
        sets.filter(keyed).find_map(|set| element(set, header)?.comment.as_ref())
    }

    /// The element that one of our maps has for a packet.
    pub fn found(&self, map: &Name, header: &PacketHeader) -> Option<TracedElement> {
        let set = self.actual.get(&header.family())?.sets.get(map)?.as_ref()?;
        let element = element(set, header)?;
        let verdict = match &element.data {
            Some(Data::Verdict(verdict)) => Some(verdict.clone()),
            _ => None,
        };
        Some(TracedElement { map: map.clone(), service: element.comment.clone()?, verdict })
    }
}

/// The parts of the key of a frontend; that of a node port has no address.
pub(super) const FRONTEND: [Field; 3] = [Field::Address, Field::Protocol, Field::Port];
pub(super) const NODE_PORT: [Field; 2] = [Field::Protocol, Field::Port];

/// The kernel does not report generated numbers, so lookups with them find nothing.
fn element<'a>(set: &'a Set, header: &PacketHeader) -> Option<&'a Element> {
    if set.interval || (set.key != FRONTEND && set.key != NODE_PORT) {
        return None;
    }
    let ports = header.ports?;
    let protocol = header.service_protocol()?;
    let value = |field: &Field| match field {
        Field::Address => Value::Address(header.destination),
        Field::Protocol => Value::Protocol(protocol),
        Field::Port => Value::Port(ports.destination),
        Field::Number => Value::Number(0),
    };
    let key: Key = set.key.iter().map(value).collect();
    set.elements.get(&key)
}
