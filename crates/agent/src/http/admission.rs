//! Admits connections, so that no client can starve others.
//!
//! A new connection is always admitted. If a limit is reached, another connection is closed: from
//! the client with the most connections, the oldest without a complete request, or if there is
//! none, the oldest. A prober sends its request within a round trip, so a connection without a
//! request for a longer time is not a prober's. The node's own addresses have a separate table, so
//! that kubelet is always served.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The limits on simultaneous connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// For all ports that share the admission.
    pub all: usize,
    /// For one port.
    pub port: usize,
    /// For one source at one port.
    pub source: usize,
}

impl Quota {
    /// The limits for a single port: at most half for one source.
    pub fn of_port(connections: usize) -> Self {
        let all = connections.max(2);
        Self { all, port: all, source: all / 2 }
    }

    /// The limits for many ports: at most a quarter for one port.
    pub fn of_ports(connections: usize) -> Self {
        let all = connections.max(8);
        Self { all, port: all / 4, source: all / 8 }
    }
}

/// The connections of a port, or of several that share limits. Clones share the state.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Mutex<SlotTables>>);

#[derive(Debug)]
struct SlotTables {
    others: SlotTable,
    node: SlotTable,
}

/// The slot of a connection. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Admission,
    at: SlotPosition,
    must_yield: oneshot::Receiver<()>,
}

/// The position of a connection in the tables.
#[derive(Debug, Clone, Copy)]
struct SlotPosition {
    is_own: bool,
    port: u16,
    source: ClientPrefix,
    number: u64,
}

/// A client. All addresses of an IPv6 /64 are the same client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClientPrefix {
    Ipv4(u32),
    Ipv6(u64),
}

impl ClientPrefix {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::Ipv4(ip.to_bits()),
            // The upper half: what remains fits by construction.
            IpAddr::V6(ip) => Self::Ipv6(u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl Admission {
    /// Limits for remote sources and for the node itself.
    pub fn new(others: Quota, node: Quota) -> Self {
        let (others, node) = (SlotTable::new(others), SlotTable::new(node));
        Self(Arc::new(Mutex::new(SlotTables { others, node })))
    }

    /// The number of connections.
    pub fn in_use(&self) -> usize {
        self.with(|tables| tables.others.in_use + tables.node.in_use)
    }

    /// Admits a connection. Another may have to yield.
    pub(super) fn admit(&self, local: SocketAddr, peer: SocketAddr) -> Slot {
        let (local_ip, peer_ip) = (local.ip().to_canonical(), peer.ip().to_canonical());
        // The kernel drops packets from outside that have a source address of this host.
        let is_own = peer_ip.is_loopback() || peer_ip == local_ip;
        let (end, must_yield) = oneshot::channel();
        let (port, source) = (local.port(), ClientPrefix::of(peer_ip));
        let number = self.with(|tables| tables.of(is_own).admit(port, source, end));
        let at = SlotPosition { is_own, port, source, number };
        Slot { admission: self.clone(), at, must_yield }
    }

    /// Ends the connection that would yield next. Returns whether there was one.
    pub(super) fn shed(&self) -> bool {
        self.with(|tables| tables.others.yield_one() || tables.node.yield_one())
    }

    fn with<T>(&self, work: impl FnOnce(&mut SlotTables) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SlotTables {
    fn of(&mut self, is_own: bool) -> &mut SlotTable {
        if is_own { &mut self.node } else { &mut self.others }
    }
}

impl Slot {
    /// A handle to report that the request is complete.
    pub(super) fn request(&self) -> RequestState {
        RequestState { admission: self.admission.clone(), at: self.at }
    }

    /// Resolves when the connection has to end for another one.
    pub(super) async fn yielded(&mut self) {
        // Nothing is sent; the sender is dropped.
        let _ = (&mut self.must_yield).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let at = self.at;
        self.admission.with(|tables| tables.of(at.is_own).remove(at));
    }
}

/// The state of a connection's request.
#[derive(Debug, Clone)]
pub(super) struct RequestState {
    admission: Admission,
    at: SlotPosition,
}

impl RequestState {
    /// The request is complete, so the response can be sent.
    pub(super) fn is_complete(&self) {
        let at = self.at;
        self.admission.with(|tables| tables.of(at.is_own).is_complete(at));
    }
}

#[derive(Debug)]
struct SlotTable {
    quota: Quota,
    in_use: usize,
    next: u64,
    ports: BTreeMap<u16, PortSlots>,
    /// The number of connections per source, at all ports.
    sources: BTreeMap<ClientPrefix, usize>,
}

#[derive(Debug, Default)]
struct PortSlots {
    in_use: usize,
    sources: BTreeMap<ClientPrefix, Connections>,
}

/// The connections of one source, oldest first. Dropping an entry ends the connection.
#[derive(Debug, Default)]
struct Connections {
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    answered: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Connections {
    fn in_use(&self) -> usize {
        self.waiting.len() + self.answered.len()
    }

    /// The rank for yielding: the highest yields first.
    fn age(&self) -> (bool, Reverse<Option<u64>>) {
        let oldest = self.waiting.keys().chain(self.answered.keys()).next();
        (!self.waiting.is_empty(), Reverse(oldest.copied()))
    }

    fn yield_one(&mut self) -> bool {
        self.waiting.pop_first().or_else(|| self.answered.pop_first()).is_some()
    }
}

impl SlotTable {
    fn new(quota: Quota) -> Self {
        Self { quota, in_use: 0, next: 0, ports: BTreeMap::new(), sources: BTreeMap::new() }
    }

    fn admit(&mut self, port: u16, source: ClientPrefix, end: oneshot::Sender<()>) -> u64 {
        let at_port = self.ports.get(&port);
        let from_source = at_port.and_then(|of| of.sources.get(&source));
        if from_source.is_some_and(|of| of.in_use() >= self.quota.source) {
            self.yield_from(port, source);
        } else if at_port.is_some_and(|of| of.in_use >= self.quota.port) {
            self.yield_at(port);
        } else if self.in_use >= self.quota.all {
            self.yield_one();
        }
        let number = self.next;
        self.next += 1;
        let of_port = self.ports.entry(port).or_default();
        of_port.sources.entry(source).or_default().waiting.insert(number, end);
        of_port.in_use += 1;
        *self.sources.entry(source).or_default() += 1;
        self.in_use += 1;
        number
    }

    /// From the source with the most connections, at the port where it has most.
    fn yield_one(&mut self) -> bool {
        let each = self.ports.iter().flat_map(|(port, at_port)| {
            let rank = |(source, of): (&ClientPrefix, &Connections)| {
                ((self.in_use_by(*source), at_port.in_use, of.age()), (*port, *source))
            };
            at_port.sources.iter().map(rank)
        });
        let greediest = each.max().map(|(_, at)| at);
        greediest.is_some_and(|(port, source)| self.yield_from(port, source))
    }

    /// From the source with the most connections at this port.
    fn yield_at(&mut self, port: u16) -> bool {
        let sources = self.ports.get(&port).into_iter().flat_map(|of| &of.sources);
        let ranks =
            sources.map(|(source, of)| ((of.in_use(), self.in_use_by(*source), of.age()), *source));
        let greediest = ranks.max().map(|(_, source)| source);
        greediest.is_some_and(|source| self.yield_from(port, source))
    }

    fn in_use_by(&self, source: ClientPrefix) -> usize {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    fn yield_from(&mut self, port: u16, source: ClientPrefix) -> bool {
        self.change(port, source, Connections::yield_one)
    }

    fn remove(&mut self, SlotPosition { port, source, number, .. }: SlotPosition) {
        self.change(port, source, |of| {
            of.waiting.remove(&number).or_else(|| of.answered.remove(&number)).is_some()
        });
    }

    /// Removes a connection, if present, and empty tables.
    fn change(
        &mut self,
        port: u16,
        source: ClientPrefix,
        take_one: impl FnOnce(&mut Connections) -> bool,
    ) -> bool {
        let Some(of_port) = self.ports.get_mut(&port) else { return false };
        let Some(of_source) = of_port.sources.get_mut(&source) else { return false };
        let took = take_one(of_source);
        if took {
            of_port.in_use = of_port.in_use.saturating_sub(1);
            self.in_use = self.in_use.saturating_sub(1);
            if let Some(in_use) = self.sources.get_mut(&source) {
                *in_use = in_use.saturating_sub(1);
            }
        }
        if of_source.in_use() == 0 {
            of_port.sources.remove(&source);
        }
        if of_port.sources.is_empty() {
            self.ports.remove(&port);
        }
        if self.in_use_by(source) == 0 {
            self.sources.remove(&source);
        }
        took
    }

    fn is_complete(&mut self, SlotPosition { port, source, number, .. }: SlotPosition) {
        let of_port = self.ports.get_mut(&port);
        let Some(of) = of_port.and_then(|of| of.sources.get_mut(&source)) else { return };
        if let Some(end) = of.waiting.remove(&number) {
            of.answered.insert(number, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTH: &str = "192.0.2.1:10256";

    fn admission(others: Quota, node: usize) -> Admission {
        Admission::new(others, Quota::of_port(node))
    }

    fn admit(admission: &Admission, local: &str, peer: &str) -> Slot {
        admission.admit(local.parse().unwrap(), peer.parse().unwrap())
    }

    fn has_to_yield(place: &mut Slot) -> bool {
        !matches!(place.must_yield.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// The indices of the connections that have to yield.
    fn yielding(places: &mut [Slot]) -> Vec<usize> {
        let each = places.iter_mut().enumerate();
        each.filter_map(|(n, place)| has_to_yield(place).then_some(n)).collect()
    }

    #[test]
    fn admission_closes_oldest_connection_without_request_first() {
        let admission = admission(Quota { all: 3, port: 3, source: 3 }, 2);
        let mut places: Vec<Slot> =
            (0..3).map(|n| admit(&admission, HEALTH, &format!("192.0.2.9:{}", 1000 + n))).collect();
        places[0].request().is_complete();
        places.push(admit(&admission, HEALTH, "192.0.2.9:2000"));
        assert_eq!(yielding(&mut places), [1]);
        places.push(admit(&admission, HEALTH, "192.0.2.9:2001"));
        assert_eq!(yielding(&mut places), [1, 2]);
        places[3].request().is_complete();
        places[4].request().is_complete();
        places.push(admit(&admission, HEALTH, "192.0.2.9:2002"));
        assert_eq!(yielding(&mut places), [0, 1, 2], "the oldest of all");
        assert_eq!(admission.in_use(), 3);
        drop(places);
        assert_eq!(admission.in_use(), 0);
        let is_empty = |of: &SlotTable| of.ports.is_empty() && of.sources.is_empty();
        assert!(admission.with(|tables| is_empty(&tables.others)), "empty entries remain");
    }

    #[test]
    fn admission_closes_connection_of_source_that_holds_most_never_single_prober() {
        let admission = admission(Quota { all: 64, port: 64, source: 32 }, 2);
        let mut prober = admit(&admission, HEALTH, "198.51.100.7:1");
        let sources = ["[2001:db8:0:1::%]:1", "[2001:db8:0:2::%]:1", "192.0.2.200:%"];
        let mut in_use = Vec::new();
        for n in 1..2000 {
            let peer = sources[n % 3].replace('%', &n.to_string());
            in_use.push(admit(&admission, HEALTH, &peer));
            assert!(!has_to_yield(&mut prober), "after {n}");
        }
        assert_eq!(admission.in_use(), 64);
        let first = admission.with(|tables| tables.others.ports[&10256].sources.len());
        assert_eq!(first, 4, "addresses of one /64 are one source");
    }

    #[test]
    fn admission_limits_connections_per_source() {
        let admission = admission(Quota { all: 64, port: 16, source: 3 }, 2);
        let mut places: Vec<Slot> =
            (1..6).map(|n| admit(&admission, HEALTH, &format!("192.0.2.9:{n}"))).collect();
        assert_eq!(yielding(&mut places), [0, 1], "the oldest");
        let mut elsewhere = admit(&admission, "192.0.2.1:31001", "192.0.2.9:9");
        assert!(!has_to_yield(&mut elsewhere) && yielding(&mut places) == [0, 1], "another port");
        assert_eq!(admission.in_use(), 4);
    }

    #[test]
    fn admission_limits_connections_per_port() {
        let admission = admission(Quota { all: 16, port: 4, source: 2 }, 2);
        let peer = |n: usize| format!("203.0.113.{}:{n}", n % 200);
        let mut other = admit(&admission, "192.0.2.1:31002", "198.51.100.7:1");
        let one_port: Vec<Slot> =
            (1..500).map(|n| admit(&admission, "192.0.2.1:31001", &peer(n))).collect();
        assert_eq!(admission.in_use(), 5);
        drop(one_port);
        // The same client at many ports.
        let ports = (0..100).map(|n| format!("192.0.2.1:{}", 31_000 + n));
        let spread: Vec<Slot> = ports.map(|local| admit(&admission, &local, &peer(9))).collect();
        assert_eq!(admission.in_use(), 16);
        assert!(!has_to_yield(&mut other), "the client with many connections must yield");
        let mut prober = admit(&admission, "192.0.2.1:31099", "198.51.100.7:2");
        let _more: Vec<Slot> = (0..10)
            .map(|n| admit(&admission, "192.0.2.1:31099", &format!("192.0.2.9:{n}")))
            .collect();
        assert!(!has_to_yield(&mut prober));
        drop(spread);
    }

    #[test]
    fn admission_has_separate_quota_for_node_addresses() {
        let admission = admission(Quota::of_port(8), 4);
        let own = ["192.0.2.1:1", "127.0.0.1:1", "[::ffff:192.0.2.1]:1", "[::1]:2"];
        let mut own: Vec<Slot> =
            own.iter().map(|peer| admit(&admission, HEALTH, peer)).collect::<Vec<_>>();
        let _others: Vec<Slot> = (0..2000)
            .map(|n| admit(&admission, HEALTH, &format!("203.0.113.{}:{n}", n % 250)))
            .collect();
        assert_eq!(yielding(&mut own), Vec::<usize>::new());
        assert_eq!(admission.in_use(), 8 + 4);
    }

    #[test]
    fn admission_closes_one_connection_when_descriptors_run_out() {
        let admission = admission(Quota::of_port(8), 4);
        assert!(!admission.shed());
        let mut kubelet = admit(&admission, HEALTH, "127.0.0.1:1");
        let mut other = admit(&admission, HEALTH, "203.0.113.1:1");
        assert!(admission.shed());
        assert!(has_to_yield(&mut other) && !has_to_yield(&mut kubelet));
        assert!(admission.shed() && has_to_yield(&mut kubelet));
    }
}
