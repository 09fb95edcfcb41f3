//! A collection of objects that changes, and the changes of service ports that follow.
//!
//! ```text
//! StoreEvent ──take_in──▶ Store ──changes──▶ Changes      the changed service ports
//!                           └─────snapshot─▶ Snapshot     all service ports
//! ```
//!
//! The cost of a change depends on the Services that it affects, not on the number of Services. The
//! snapshot of a store depends only on its current objects, not on its history.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::budget::{ServiceSize, TooLarge};
use crate::endpoint_slice::{EndpointDetails, Slice, details, join};
use crate::kind::{Kind, Object};
use crate::node::{FamilyAddresses, Host, Node};
use crate::node_claims::NodeClaims;
use crate::object::{EndpointSlice, NodeObject, Service};
use crate::object_key::ObjectKey;
use crate::options::{NodePortScope, SnapshotOptions};
use crate::ownership::{Admitted, ClaimFacts, ClaimedIp, ServicesByIp};
use crate::parallel;
use crate::problem::{ObjectName, Problem, ProblemCollector};
use crate::service::Unproxied;
use crate::service_port::ServicePort;
use crate::snapshot::{
    Snapshot, checked_ports, checked_slice, networks, node_name, ordered_networks, this_node,
};
use crate::totals::ServiceTotals;
use crate::unavailability::{UnavailableReason, unavailability_of};
use ipnet::IpNet;
use rulegen_net::{IpFamily, ServicePortName, parse_address};

/// A change of objects.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreEvent {
    /// A list of all objects of a kind begins. Objects that are not in it are removed at its end.
    ListBegan(Kind),
    /// An object was added, changed or listed.
    Put(Box<Object>),
    /// An object was deleted.
    Gone(Kind, ObjectKey),
    /// The list of all objects of the kind is complete.
    ListEnded(Kind),
}

/// What changed since the last call of [`Store::next_changes`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The node or the networks of cluster IPs changed, which affects all service ports.
    pub full_resync: bool,
    /// The addresses at which node ports are open changed. Nothing else depends on them.
    pub node_port_addresses: bool,
    /// The Services whose ports changed, ordered by name.
    pub services: Vec<ServiceChange>,
    /// Problems with the external and load-balancer IPs of Services, which depend on other objects
    /// too. Each change of a Service with problems lists it again; the list is empty once they are
    /// solved.
    pub addresses: Vec<(ObjectKey, Vec<Problem>)>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.full_resync && !self.node_port_addresses && self.services.is_empty()
    }
}

/// A change of one Service's ports, in both families.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceChange {
    /// The ports before; empty if the Service did not exist.
    pub before: Arc<[ServicePort]>,
    /// The ports after; empty if the Service no longer exists. The store has the same list, because
    /// a copy of all Services would be the largest allocation of a first sync.
    pub after: Arc<[ServicePort]>,
}

/// The state of this node in the cluster. Load balancers should not send traffic to a node that is
/// being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// There is no Node object with its name.
    Unknown,
    /// Its Node object exists.
    Known,
    /// Its deletion was requested.
    BeingDeleted,
    /// The cluster's autoscaler is about to delete it (KEP-3836).
    Drained,
}

/// A Node with another name than this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherNode {
    /// Name of the Node object.
    pub name: String,
    /// Whether it has an address of this host.
    pub has_host_address: bool,
}

/// The taint that the cluster's autoscaler sets before it deletes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// The current objects, reduced to what is needed.
pub struct Store {
    options: SnapshotOptions,
    host: Host,
    node_object: Option<NodeObject>,
    node: Node,
    node_state: NodeState,
    other_node: Option<OtherNode>,
    service_cidrs: BTreeMap<ObjectKey, Vec<IpNet>>,
    /// Networks of cluster IPs, ordered and without overlaps.
    cluster_networks: Vec<IpNet>,
    services: BTreeMap<ObjectKey, StoredService>,
    /// Services by cluster IP.
    owners: ServicesByIp,
    /// Services by the external and load-balancer IPs that they list.
    claimants: ServicesByIp,
    /// Services that are too large, as of the last [`Store::changes`].
    too_large: BTreeMap<ObjectKey, TooLargeService>,
    /// The slices of each Service, with their names.
    slices: HashMap<ObjectKey, Vec<(Arc<str>, Slice)>>,
    /// The Service of each slice.
    service_of: HashMap<ObjectKey, Arc<str>>,
    /// Deduplicated names, because many objects have the same.
    names: HashSet<Arc<str>>,
    /// Number of names after the last cleanup.
    names_in_use: usize,
    /// Services with changes that [`Store::next_changes`] has not returned yet.
    touched: BTreeSet<ObjectKey>,
    /// Where the next batch starts, so that a Service that changes constantly does not delay
    /// others.
    next_touched: Option<ObjectKey>,
    /// Whether something changed that affects all service ports.
    full_resync: bool,
    /// Increases when [`Store::node_claims`] may have changed.
    claims_revision: u64,
    /// Whether the addresses at which node ports are open changed.
    node_port_addresses: bool,
    /// Objects received so far of each kind whose list has begun.
    listing: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    listed: BTreeSet<Kind>,
    totals: ServiceTotals,
}

/// A known Service.
#[derive(Default)]
struct StoredService {
    /// Its ports with endpoints, as of the last [`Store::changes`].
    ports: Arc<[ServicePort]>,
    /// Its new ports, still without endpoints, if the Service changed since.
    fresh: Option<Vec<ServicePort>>,
    cluster_ips: Box<[IpAddr]>,
    /// The external and load-balancer IPs that it lists.
    claimed: Box<[ClaimedIp]>,
    /// Whether it had problems at the last [`Store::changes`].
    has_problems: bool,
    /// False if it was deleted since the last [`Store::changes`].
    exists: bool,
    /// Why it gets no rules, if it is valid.
    unproxied: Option<Unproxied>,
}

/// A Service's ports with endpoints, and the problems with its external and load-balancer IPs.
type Joined = (Result<Vec<ServicePort>, TooLargeService>, Vec<Problem>);

struct TooLargeService {
    why: TooLarge,
    /// Its ports without endpoints, for when it has fewer endpoints.
    ports: Vec<ServicePort>,
}

impl Store {
    /// An empty store, for the node named in the options, or for this host.
    pub fn new(options: SnapshotOptions, host: Host) -> Self {
        let (node, _) = this_node(None, &options, &host, None);
        Self {
            options,
            host,
            node_object: None,
            node,
            node_state: NodeState::Unknown,
            other_node: None,
            service_cidrs: BTreeMap::new(),
            cluster_networks: Vec::new(),
            services: BTreeMap::new(),
            owners: ServicesByIp::default(),
            claimants: ServicesByIp::default(),
            too_large: BTreeMap::new(),
            slices: HashMap::new(),
            service_of: HashMap::new(),
            names: HashSet::new(),
            names_in_use: 0,
            touched: BTreeSet::new(),
            next_touched: None,
            full_resync: true,
            claims_revision: 0,
            node_port_addresses: false,
            listing: BTreeMap::new(),
            listed: BTreeSet::new(),
            totals: ServiceTotals::default(),
        }
    }

    /// Applies a change, and returns the problems of the object.
    pub fn take_in(&mut self, event: StoreEvent) -> Vec<Problem> {
        match event {
            StoreEvent::ListBegan(kind) => {
                self.listing.insert(kind, BTreeSet::new());
                Vec::new()
            }
            StoreEvent::Put(object) => {
                if let Some(received) = self.listing.get_mut(&object.kind()) {
                    received.insert(object.key());
                }
                self.put(*object)
            }
            StoreEvent::Gone(kind, key) => {
                self.remove(kind, &key);
                Vec::new()
            }
            StoreEvent::ListEnded(kind) => {
                self.end_list(kind);
                Vec::new()
            }
        }
    }

    /// Replaces the host's addresses. The node's name does not change, even if the host name does.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) -> Vec<Problem> {
        self.host.addresses = addresses;
        self.find_node()
    }

    /// The kinds that were not completely listed yet.
    pub fn missing(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| !self.listed.contains(kind)).collect()
    }

    /// Whether the store has a valid object of this kind and name.
    pub fn holds(&self, kind: Kind, key: &ObjectKey) -> bool {
        match kind {
            Kind::Service => self.services.get(key).is_some_and(|known| known.exists),
            Kind::EndpointSlice => self.service_of.contains_key(key),
            Kind::Node => self.node_object.as_ref().is_some_and(|n| *n.metadata.name == *key.name),
            Kind::ServiceCidr => self.service_cidrs.contains_key(key),
        }
    }

    /// The node that rules are compiled for.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The state of this node in the cluster. Load balancers should not send traffic to a node that is
    /// being deleted.
    pub fn node_state(&self) -> NodeState {
        self.node_state
    }

    /// A Node with another name than this node's, if one was put: preferably with an address of this
    /// host, which then may have the wrong name.
    pub fn other_node(&self) -> Option<&OtherNode> {
        self.other_node.as_ref()
    }

    /// The options of the store.
    pub fn options(&self) -> &SnapshotOptions {
        &self.options
    }

    /// Networks of cluster IPs of a family, ordered and without overlaps.
    pub fn service_cidrs(&self, family: IpFamily) -> Vec<IpNet> {
        let networks = self.cluster_networks.iter().copied();
        networks.filter(|network| IpFamily::of_network(*network) == family).collect()
    }

    /// All service ports, as of the last [`Store::changes`].
    pub fn service_ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.services.values().flat_map(|known| known.ports.iter())
    }

    /// Number of Services. One without rules counts too.
    pub fn service_count(&self) -> usize {
        self.services.values().filter(|known| known.exists).count()
    }

    /// Totals over all Services, as of the last [`Store::changes`].
    pub fn totals(&self) -> ServiceTotals {
        self.totals
    }

    /// All Services, ordered by name, with their ports as of the last [`Store::changes`]. A Service
    /// without rules has no ports.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectKey, &[ServicePort])> {
        let existing = self.services.iter().filter(|(_, known)| known.exists);
        existing.map(|(key, known)| (key, &*known.ports))
    }

    /// The namespaces of [`Store::services`], in order. Costs a search for each namespace, however
    /// many Services it has.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let first_from = |from: ObjectKey| {
            let (key, _) = self.services.range(from..).find(|(_, known)| known.exists)?;
            Some(&*key.namespace)
        };
        // No string lies between a namespace and the same with a zero at its end.
        let next = move |last: &&str| first_from(ObjectKey::new(&format!("{last}\0"), ""));
        std::iter::successors(first_from(ObjectKey::default()), next)
    }

    /// Services that are left out because they are too large, ordered by name, as of the last
    /// [`Store::changes`].
    pub fn too_large(&self) -> impl Iterator<Item = (&ObjectKey, TooLarge)> {
        self.too_large.iter().map(|(key, left_out)| (key, left_out.why))
    }

    /// The ports of one Service, if it exists.
    pub fn service(&self, key: &ObjectKey) -> Option<&[ServicePort]> {
        self.services.get(key).filter(|known| known.exists).map(|known| &*known.ports)
    }

    /// Why an existing Service gets no rules, if it is valid.
    pub fn unproxied(&self, key: &ObjectKey) -> Option<Unproxied> {
        self.services.get(key).filter(|known| known.exists)?.unproxied
    }

    /// Addresses of the node that Services use, as of the last [`Store::changes`].
    pub fn node_claims(&self) -> NodeClaims {
        let addresses = self.node.all_addresses();
        let services: BTreeSet<&ObjectKey> =
            addresses.iter().flat_map(|ip| self.claimants.of(*ip)).collect();
        let known = services.into_iter().filter_map(|key| self.services.get(key));
        NodeClaims::of(known.flat_map(|known| known.ports.iter()), |ip| addresses.contains(&ip))
    }

    /// A number that increases when [`Store::node_claims`] may have changed. Changes of endpoints
    /// do not affect it.
    pub fn claims_revision(&self) -> u64 {
        self.claims_revision
    }

    /// A service port of a family by name, as of the last [`Store::changes`].
    pub fn service_port(&self, name: &ServicePortName, family: IpFamily) -> Option<&ServicePort> {
        let key = ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() };
        let ports = &self.services.get(&key)?.ports;
        ports.iter().find(|p| p.name == *name && IpFamily::of(p.cluster_ip) == family)
    }

    /// Why a service port of a family has no endpoints, as of the last [`Store::changes`].
    pub fn unavailability(
        &self,
        name: &ServicePortName,
        family: IpFamily,
    ) -> Option<UnavailableReason> {
        let key = ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() };
        let slices = self.slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        unavailability_of(self.service_port(name, family)?, slices.iter().map(|(_, slice)| slice))
    }

    /// What slices say about the endpoints of a Service at these addresses, without effect on rules.
    pub fn endpoint_details(
        &self,
        service: &ObjectKey,
        addresses: &BTreeSet<IpAddr>,
    ) -> BTreeMap<IpAddr, EndpointDetails> {
        let slices = self.slices.get(service).map(Vec::as_slice).unwrap_or_default();
        details(slices.iter().map(|(_, slice)| slice), addresses)
    }

    /// Whether something changed since the last call that may affect rules.
    pub fn may_have_changes(&self) -> bool {
        self.full_resync || self.node_port_addresses || !self.touched.is_empty()
    }

    /// All changes since the last call.
    pub fn changes(&mut self) -> Changes {
        self.next_changes(usize::MAX)
    }

    /// The changes of at most `most` Services since the last call. The limit bounds memory, because
    /// each change has the ports before and after. The remaining changes are returned by the next
    /// calls (see [`Store::may_have_changes`]). A change that affects all Services returns all.
    pub fn next_changes(&mut self, most: usize) -> Changes {
        self.forget_names();
        let most = if self.full_resync { usize::MAX } else { most };
        let touched = self.take_touched(most);
        let joined: Vec<(ObjectKey, Joined)> = parallel::map(touched, |key| {
            let joined = self.joined_ports(&key);
            (key, joined)
        });
        let mut changes = Changes {
            full_resync: std::mem::take(&mut self.full_resync),
            node_port_addresses: std::mem::take(&mut self.node_port_addresses),
            ..Changes::default()
        };
        for (key, (ports, problems)) in joined {
            self.too_large.remove(&key);
            let Some(known) = self.services.get_mut(&key) else { continue };
            let had_problems = std::mem::replace(&mut known.has_problems, !problems.is_empty());
            if had_problems || !problems.is_empty() {
                changes.addresses.push((key.clone(), problems));
            }
            let ports = ports.unwrap_or_else(|left_out| {
                self.too_large.insert(key.clone(), left_out);
                Vec::new()
            });
            changes.services.extend(self.replace(key, ports));
        }
        changes
    }

    fn take_touched(&mut self, most: usize) -> Vec<ObjectKey> {
        if self.touched.len() <= most {
            self.next_touched = None;
            return std::mem::take(&mut self.touched).into_iter().collect();
        }
        let mut later = match &self.next_touched {
            Some(next) => self.touched.split_off(next),
            None => std::mem::take(&mut self.touched),
        };
        let taken = std::iter::from_fn(|| later.pop_first().or_else(|| self.touched.pop_first()));
        let taken: Vec<ObjectKey> = taken.take(most).collect();
        self.next_touched = later.first().cloned();
        self.touched.append(&mut later);
        taken
    }

    /// A snapshot of everything, as of the last [`Store::changes`].
    pub fn snapshot(&self) -> Snapshot {
        let of_family = |family: IpFamily| {
            let all = self.service_ports().filter(|port| IpFamily::of(port.cluster_ip) == family);
            let mut ports: Vec<ServicePort> = all.cloned().collect();
            ports.sort_by(|a, b| a.name.cmp(&b.name));
            ports
        };
        Snapshot {
            node: self.node.clone(),
            service_cidrs: self.cluster_networks.clone(),
            ipv4: of_family(IpFamily::Ipv4),
            ipv6: of_family(IpFamily::Ipv6),
            too_large: self.too_large().map(|(key, why)| (key.clone(), why)).collect(),
        }
    }

    fn put(&mut self, object: Object) -> Vec<Problem> {
        let mut key = object.key();
        key.namespace = intern(&mut self.names, &key.namespace);
        match object {
            Object::Service(service) => self.put_service(key, &service),
            Object::EndpointSlice(slice) => self.put_slice(key, &slice),
            Object::Node(node) if *node.metadata.name == node_name(&self.options, &self.host) => {
                self.node_state = state(&node);
                self.node_object = Some(node);
                self.find_node()
            }
            Object::Node(node) => {
                self.put_other_node(&node);
                Vec::new()
            }
            Object::ServiceCidr(cidr) => {
                let (networks, problems) = networks(&cidr, None);
                let before = self.service_cidrs.insert(key, networks.clone());
                if before != Some(networks) {
                    self.service_cidrs_changed();
                }
                problems
            }
        }
    }

    fn put_other_node(&mut self, node: &NodeObject) {
        let addresses = node.status.addresses.iter();
        let mut addresses = addresses.filter_map(|entry| parse_address(&entry.address));
        let has_host_address =
            addresses.any(|ip| !ip.is_loopback() && self.host.addresses.contains(&ip));
        if has_host_address || self.other_node.is_none() {
            let name = node.metadata.name.clone();
            self.other_node = Some(OtherNode { name, has_host_address });
        }
    }

    fn put_service(&mut self, key: ObjectKey, service: &Service) -> Vec<Problem> {
        let (checked, problems) = checked_ports(service, &self.options.external_ips, None);
        let known = self.services.entry(key.clone()).or_default();
        known.fresh = Some(checked.ports);
        known.exists = true;
        known.unproxied = Unproxied::of(service);
        self.set_addresses_of(&key, checked.cluster_ips.into(), checked.claimed.into());
        self.touched.insert(key);
        problems
    }

    /// Updates the indexes of cluster IPs and claimed IPs. If a cluster IP is added or removed, the
    /// Services that claim it must be joined again.
    fn set_addresses_of(
        &mut self,
        key: &ObjectKey,
        cluster_ips: Box<[IpAddr]>,
        claimed: Box<[ClaimedIp]>,
    ) {
        let Some(known) = self.services.get_mut(key) else { return };
        let before = std::mem::replace(&mut known.cluster_ips, cluster_ips);
        let after = &known.cluster_ips;
        for ip in before.iter().filter(|ip| !after.contains(ip)) {
            self.owners.remove(*ip, key);
            self.touched.extend(self.claimants.of(*ip).cloned());
        }
        for ip in after.iter().filter(|ip| !before.contains(ip)) {
            self.owners.insert(*ip, key);
            self.touched.extend(self.claimants.of(*ip).cloned());
        }
        if known.claimed != claimed {
            let previous = std::mem::replace(&mut known.claimed, claimed);
            previous.iter().for_each(|claim| self.claimants.remove(claim.ip, key));
            known.claimed.iter().for_each(|claim| self.claimants.insert(claim.ip, key));
        }
    }

    fn service_cidrs_changed(&mut self) {
        let networks = self.service_cidrs.values().flatten().copied().collect();
        self.cluster_networks = ordered_networks(networks);
        self.full_resync = true;
        self.touched.extend(self.claimants.all().cloned());
    }

    fn put_slice(&mut self, key: ObjectKey, slice: &EndpointSlice) -> Vec<Problem> {
        // If its label changed, the slice moves to another Service.
        self.remove_slice(&key);
        let names = &mut self.names;
        let (checked, problems) = checked_slice(slice, &mut |name| intern(names, name), None);
        if let (Some(checked), Some(service)) = (checked, slice.service_name()) {
            let name: Arc<str> = service.into();
            let service = ObjectKey { namespace: key.namespace.clone(), name: name.clone() };
            let slices = self.slices.entry(service.clone()).or_default();
            // Nearly every Service has one slice, and `push` alone makes room for four.
            if slices.is_empty() {
                slices.reserve_exact(1);
            }
            slices.push((key.name.clone(), checked));
            self.service_of.insert(key, name);
            self.touched.insert(service);
        }
        problems
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::Service => {
                if let Some(known) = self.services.get_mut(key) {
                    known.exists = false;
                    self.touched.insert(key.clone());
                    self.set_addresses_of(key, Box::default(), Box::default());
                }
            }
            Kind::EndpointSlice => self.remove_slice(key),
            // Keeps the addresses: they are the last known ones of this node.
            Kind::Node if *key.name == *node_name(&self.options, &self.host) => {
                self.node_state = NodeState::Unknown;
            }
            Kind::Node => {}
            Kind::ServiceCidr => {
                if self.service_cidrs.remove(key).is_some() {
                    self.service_cidrs_changed();
                }
            }
        }
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(name) = self.service_of.remove(key) else { return };
        let service = ObjectKey { namespace: key.namespace.clone(), name };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.retain(|(name, _)| *name != key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.touched.insert(service);
    }

    fn end_list(&mut self, kind: Kind) {
        let Some(received) = self.listing.remove(&kind) else { return };
        self.listed.insert(kind);
        let removed: Vec<ObjectKey> = match kind {
            Kind::Service => without(self.services.keys(), &received),
            Kind::EndpointSlice => without(self.service_of.keys(), &received),
            Kind::Node => {
                let name = self.node_object.as_ref().map(|node| &*node.metadata.name);
                without(name.map(|name| ObjectKey::new("", name)).iter(), &received)
            }
            Kind::ServiceCidr => without(self.service_cidrs.keys(), &received),
        };
        removed.iter().for_each(|key| self.remove(kind, key));
        if kind == Kind::Service {
            // A list is in ascending order, which leaves the nodes of a `BTreeMap` half empty; a map
            // that is built as a whole has full nodes.
            self.services = std::mem::take(&mut self.services).into_iter().collect();
        }
    }

    fn find_node(&mut self) -> Vec<Problem> {
        let object = self.node_object.as_ref();
        let (node, problems) = this_node(object, &self.options, &self.host, None);
        // The host may have addresses that its Node object does not list.
        let node = node.with_local(&self.host.addresses);
        // Whether an endpoint is local or in the same zone depends on the node.
        if (&node.name, &node.zone) != (&self.node.name, &self.node.zone) {
            self.touched.extend(self.services.keys().cloned());
        }
        let is_changed = rule_inputs(&node) != rule_inputs(&self.node);
        self.full_resync |= is_changed || self.changes_source_range_match(&node);
        for family in IpFamily::BOTH {
            let [before, after] =
                [&self.node, &node].map(|of| self.named_node_port_ips(of.addresses(family)));
            self.node_port_addresses |= before != after;
            self.full_resync |= before.is_some() != after.is_some();
        }
        let moved = node.other_addresses(&self.node);
        self.claims_revision += u64::from(!moved.is_empty());
        if self.options.refuse_node_addresses {
            let claimants = moved.iter().flat_map(|ip| self.claimants.of(*ip)).cloned();
            self.touched.extend(claimants);
        }
        self.node = node;
        problems
    }

    /// Whether the source ranges of a Service allow the primary address of only one of the two
    /// nodes.
    fn changes_source_range_match(&self, node: &Node) -> bool {
        IpFamily::BOTH.into_iter().any(|family| {
            let [before, after] = [&self.node, node].map(|of| of.addresses(family).primary);
            let allows =
                |port: &ServicePort, ip| port.source_ranges.iter().any(|r| r.contains(&ip));
            let mut ports = self.service_ports();
            before != after && ports.any(|port| allows(port, before) != allows(port, after))
        })
    }

    /// The addresses that rules list because node ports are open there; `None` if node ports are
    /// open at all addresses. Most addresses of a node come and go with pods.
    fn named_node_port_ips(&self, of: &FamilyAddresses) -> Option<Vec<IpAddr>> {
        let family = IpFamily::of(of.primary);
        let networks: Vec<IpNet> = match &self.options.node_ports {
            NodePortScope::All => Vec::new(),
            NodePortScope::Primary if of.primary.is_loopback() => Vec::new(),
            NodePortScope::Primary => vec![of.primary.into()],
            NodePortScope::Within(networks) => {
                let of_family = |network: &IpNet| IpFamily::of_network(*network) == family;
                networks.iter().copied().filter(of_family).collect()
            }
        };
        if networks.is_empty() || networks.iter().any(|network| network.prefix_len() == 0) {
            return None;
        }
        let loopback = self.options.loopback_node_ports && family == IpFamily::Ipv4;
        let is_open = |ip: &IpAddr| {
            networks.iter().any(|network| network.contains(ip)) && (loopback || !ip.is_loopback())
        };
        Some(of.local.iter().copied().filter(is_open).collect())
    }

    /// Removes unused names. In months of operation many nodes and namespaces come and go.
    fn forget_names(&mut self) {
        const FEW: usize = 1000;
        if self.names.len() > 2 * self.names_in_use + FEW {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.names_in_use = self.names.len();
        }
    }

    /// A Service's current ports, and the problems with its external and load-balancer IPs.
    fn joined_ports(&self, key: &ObjectKey) -> Joined {
        let mut problems = Vec::new();
        let Some(known) = self.services.get(key).filter(|known| known.exists) else {
            return (Ok(Vec::new()), problems);
        };
        let mut ports = match (&known.fresh, self.too_large.get(key)) {
            (Some(fresh), _) => fresh.clone(),
            (None, Some(left_out)) => left_out.ports.clone(),
            (None, None) => known.ports.iter().map(ServicePort::without_endpoints).collect(),
        };
        let admitted = self.admitted(key, &known.claimed, &mut problems);
        let slices = self.slices.get(key).map(Vec::as_slice).unwrap_or_default();
        let slices = slices.iter().map(|(_, slice)| slice);
        let size = ServiceSize::of(&ports, &admitted, slices.clone(), &self.options);
        if let Err(why) = size.check(&self.options) {
            return (Err(TooLargeService { why, ports }), problems);
        }
        admitted.add_to(&mut ports);
        join(&mut ports, slices, &self.node);
        (Ok(ports), problems)
    }

    fn admitted(
        &self,
        key: &ObjectKey,
        claimed: &[ClaimedIp],
        problems: &mut Vec<Problem>,
    ) -> Admitted {
        let admission = ClaimFacts {
            owners: &self.owners,
            service_cidrs: &self.cluster_networks,
            refused_node: Some(&self.node).filter(|_| self.options.refuse_node_addresses),
        };
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        let object = ObjectName { kind: Kind::Service.name(), namespace, name };
        admission.admitted(
            key,
            claimed,
            &mut ProblemCollector { source: None, object: &object, problems },
        )
    }

    fn replace(&mut self, key: ObjectKey, after: Vec<ServicePort>) -> Option<ServiceChange> {
        let known = self.services.get_mut(&key)?;
        known.fresh = None;
        let after: Arc<[ServicePort]> = after.into();
        let before = std::mem::replace(&mut known.ports, after.clone());
        self.totals.replace(&before, &after);
        self.claims_revision +=
            u64::from(!external_addresses(&before).eq(external_addresses(&after)));
        if !known.exists {
            self.services.remove(&key);
        }
        (before != after).then_some(ServiceChange { before, after })
    }
}

/// The external and load-balancer IPs of ports.
fn external_addresses(
    ports: &[ServicePort],
) -> impl Iterator<Item = (&ServicePortName, u16, &[IpAddr], &[IpAddr])> {
    let all = ports.iter().map(|port| {
        let (external, load_balancer) = (&port.external_ips[..], &port.load_balancer_ips[..]);
        (&port.name, port.port, external, load_balancer)
    });
    all.filter(|(_, _, external, load_balancer)| !external.is_empty() || !load_balancer.is_empty())
}

fn intern(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    let name: Arc<str> = name.into();
    names.insert(name.clone());
    name
}

fn without<'a>(
    all: impl Iterator<Item = &'a ObjectKey>,
    received: &BTreeSet<ObjectKey>,
) -> Vec<ObjectKey> {
    all.filter(|key| !received.contains(key)).cloned().collect()
}

/// The properties of a node that affect rules, without its addresses.
fn rule_inputs(node: &Node) -> impl PartialEq + use<> {
    (node.name.clone(), node.zone.clone(), node.ipv4.pod_cidr, node.ipv6.pod_cidr)
}

fn state(node: &NodeObject) -> NodeState {
    if node.metadata.deletion_timestamp.is_some() {
        NodeState::BeingDeleted
    } else if node.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED) {
        NodeState::Drained
    } else {
        NodeState::Known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_object;

    fn put(store: &mut Store, kind: Kind, json: &str) {
        store.take_in(StoreEvent::Put(Box::new(read_object(kind, json).unwrap())));
    }

    fn service(name: &str, ip: &str, external: &str) -> String {
        format!(
            r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "{name}"}}, "spec":
            {{"clusterIP": "{ip}", "externalIPs": ["{external}"], "ports": [{{"port": 80}}]}}}}"#
        )
    }

    #[test]
    fn store_other_node_with_an_address_of_this_host_is_preferred() {
        let host = Host { name: "here".to_owned(), addresses: vec!["192.0.2.10".parse().unwrap()] };
        let mut store = Store::new(SnapshotOptions::default(), host);
        let mut after = |name: &str, ip: &str| {
            let node = format!(
                r#"{{"kind": "Node", "apiVersion": "v1", "metadata": {{"name": "{name}"}}, "status":
                {{"addresses": [{{"type": "InternalIP", "address": "{ip}"}}]}}}}"#
            );
            put(&mut store, Kind::Node, &node);
            store.other_node().map(|node| (node.name.clone(), node.has_host_address))
        };
        assert_eq!(after("here", "192.0.2.10"), None);
        assert_eq!(after("a", "192.0.2.11"), Some(("a".to_owned(), false)));
        assert_eq!(after("here.example", "192.0.2.10"), Some(("here.example".to_owned(), true)));
        assert_eq!(after("b", "192.0.2.12"), Some(("here.example".to_owned(), true)));
    }

    /// A Service that changes constantly does not delay others.
    #[test]
    fn store_changes_are_returned_in_fair_order() {
        let mut store = Store::new(SnapshotOptions::default(), Host::default());
        store.changes();
        let put_all = |store: &mut Store, names: &[&str]| {
            names.iter().for_each(|name| {
                put(store, Kind::Service, &service(name, "10.96.0.1", "192.0.2.1"));
            });
        };
        put_all(&mut store, &["a", "b", "c", "d", "e"]);
        let mut batches = Vec::new();
        while store.may_have_changes() {
            let changes = store.next_changes(2);
            let names = changes.services.iter().map(|change| &change.after[0].name.service);
            batches.push(names.map(|name| name.to_string()).collect::<String>());
            if batches.len() == 1 {
                put(&mut store, Kind::Service, &service("a", "10.96.0.2", "192.0.2.1"));
            }
        }
        assert_eq!(batches, ["ab", "cd", "ae"]);
    }

    /// There are a thousand Services with external IPs. A new cluster IP affects only the two
    /// Services that list it as external IP.
    #[test]
    fn store_cluster_ip_change_touches_only_services_that_claim_it() {
        let mut store = Store::new(SnapshotOptions::default(), Host::default());
        for n in 0..1000_u32 {
            let (high, low) = (n / 250, n % 250);
            let external = format!("10.97.{}.{low}", high / 2);
            let other = service(&format!("s{n}"), &format!("10.96.{high}.{low}"), &external);
            put(&mut store, Kind::Service, &other);
        }
        store.changes();
        let owner = service("owner", "10.97.0.7", "192.0.2.1");
        let names = |store: &mut Store| {
            let names: Vec<String> = store.touched.iter().map(|key| key.name.to_string()).collect();
            (names, store.changes().addresses.len())
        };
        put(&mut store, Kind::Service, &owner);
        let all = ["owner", "s257", "s7"].map(str::to_owned).to_vec();
        assert_eq!(names(&mut store), (all.clone(), 2));
        put(&mut store, Kind::Service, &owner);
        assert_eq!(names(&mut store), (vec!["owner".to_owned()], 0));
        store.take_in(StoreEvent::Gone(Kind::Service, ObjectKey::new("default", "owner")));
        assert_eq!(names(&mut store), (all, 2));
    }

    #[test]
    fn store_namespaces_are_those_of_existing_services() {
        let mut store = Store::new(SnapshotOptions::default(), Host::default());
        let all = [("team-a", "x"), ("team", "x"), ("team", "y"), ("other", "x"), ("gone", "x")];
        for (namespace, name) in all {
            let service = format!(
                r#"{{"kind": "Service", "apiVersion": "v1", "metadata": {{"namespace":
                "{namespace}", "name": "{name}"}}, "spec": {{"clusterIP": "10.96.0.1", "ports":
                [{{"port": 80}}]}}}}"#
            );
            put(&mut store, Kind::Service, &service);
        }
        store.take_in(StoreEvent::Gone(Kind::Service, ObjectKey::new("gone", "x")));
        assert_eq!(store.namespaces().collect::<Vec<_>>(), ["other", "team", "team-a"]);
    }

    /// Endpoints change often and do not affect the claims.
    #[test]
    fn store_claims_revision_changes_with_addresses_only() {
        let mut store = Store::new(SnapshotOptions::default(), Host::default());
        let mut apply = |act: &dyn Fn(&mut Store)| {
            let before = store.claims_revision();
            act(&mut store);
            store.changes();
            (store.claims_revision() != before, store.node_claims().ports().len())
        };
        let slice = r#"{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
            {"name": "a", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv4",
            "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.244.1.5"]}]}"#;
        let of = |name: &str, external: &str| service(name, "10.96.0.1", external);
        let addresses = |ip: &str| vec![ip.parse().unwrap()];
        assert_eq!(apply(&|s| put(s, Kind::Service, &of("a", "192.0.2.1"))), (true, 0));
        assert_eq!(apply(&|s| drop(s.set_addresses(addresses("192.0.2.1")))), (true, 1));
        assert_eq!(apply(&|s| put(s, Kind::EndpointSlice, slice)), (false, 1));
        assert_eq!(apply(&|s| put(s, Kind::Service, &of("a", "192.0.2.1"))), (false, 1));
        assert_eq!(apply(&|s| drop(s.set_addresses(addresses("192.0.2.1")))), (false, 1));
        assert_eq!(apply(&|s| put(s, Kind::Service, &of("a", "192.0.2.2"))), (true, 0));
    }
}
