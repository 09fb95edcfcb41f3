//! Objects as they come and go, and what each change of them means for Services.
//!
//! ```text
//! StoreEvent ──take_in──▶ Store ──changes──▶ Changes      the service ports that became others
//!                           └─────snapshot─▶ Snapshot     all of them
//! ```
//!
//! What a change costs depends on the Services that it touches, not on how many there are. The
//! snapshot of a store is the one of the objects that are in it, whatever came before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rayon::prelude::*;

use crate::budget::{ServiceSize, TooLarge};
use crate::endpoint_slice::{Slice, join};
use crate::kind::{Kind, Object};
use crate::node::{FamilyAddresses, Host, Node};
use crate::node_claims::NodeClaims;
use crate::object::{EndpointSlice, NodeObject, Service};
use crate::object_key::ObjectKey;
use crate::options::{NodePortScope, SnapshotOptions};
use crate::ownership::{Admission, Admitted, ClaimedIp, ServicesByIp};
use crate::problem::{ObjectName, Problem, Report};
use crate::service_port::ServicePort;
use crate::snapshot::{
    Snapshot, checked_ports, checked_slice, networks, node_name, ordered_networks, this_node,
};
use crate::unavailability::{UnavailableReason, unavailability_of};
use rulegen_net::{IpFamily, ServicePortName};

/// What is told of objects.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreEvent {
    /// All objects of a kind follow; what is not among them is gone.
    ListBegan(Kind),
    /// An object is there, new or as before or changed.
    Put(Box<Object>),
    /// An object is not there.
    Gone(Kind, ObjectKey),
    /// That were all of the kind.
    ListEnded(Kind),
}

/// What became of the service ports since the last time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Something changed that all service ports hang on: the node, or the networks of cluster
    /// IPs.
    pub full_resync: bool,
    /// Other addresses are those at which node ports are open. Nothing else hangs on these.
    pub node_port_addresses: bool,
    /// The Services whose ports changed, ordered by name.
    pub services: Vec<ServiceChange>,
    /// What is wrong with addresses that Services ask for, which depends on other objects too. It
    /// holds a Service again with each of its changes, and without problems once there are none.
    pub addresses: Vec<(ObjectKey, Vec<Problem>)>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.full_resync && !self.node_port_addresses && self.services.is_empty()
    }
}

/// What became of one Service's ports, in both families.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceChange {
    /// As they were; none if there was no such Service.
    pub before: Vec<ServicePort>,
    /// As they are; none if there is no such Service.
    pub after: Vec<ServicePort>,
}

/// Whether the cluster wants this node to take traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// There is no Node object of its name.
    Unknown,
    /// It is one of the cluster.
    Known,
    /// Its deletion was asked for.
    BeingDeleted,
    /// The cluster's autoscaler is about to delete it (KEP-3836).
    Drained,
}

/// The taint by which the cluster's autoscaler tells that it will delete a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// The objects that are there, no larger than need be.
pub struct Store {
    options: SnapshotOptions,
    host: Host,
    node_object: Option<NodeObject>,
    node: Node,
    node_state: NodeState,
    service_cidrs: BTreeMap<ObjectKey, Vec<IpNet>>,
    /// All of them, ordered; none overlaps another.
    cluster_networks: Vec<IpNet>,
    services: BTreeMap<ObjectKey, StoredService>,
    /// The Services by their cluster IPs.
    owners: ServicesByIp,
    /// The Services by the external and load-balancer IPs that they ask for.
    claimants: ServicesByIp,
    /// Services that are there but too large, as last told by [`Store::changes`].
    too_large: BTreeMap<ObjectKey, LeftOut>,
    /// A Service's slices, by their names.
    slices: HashMap<ObjectKey, Vec<(Arc<str>, Slice)>>,
    /// The Service that a slice is of.
    service_of: HashMap<ObjectKey, Arc<str>>,
    /// Names that many objects share, each kept once.
    names: HashSet<Arc<str>>,
    /// How many of them were left when they were last looked through.
    names_in_use: usize,
    /// Services with changes that [`Store::next_changes`] has not returned yet.
    touched: BTreeSet<ObjectKey>,
    /// Where the next of them start, so that a Service that changes all the time delays no other.
    next_touched: Option<ObjectKey>,
    /// Whether something changed that all hang on.
    full_resync: bool,
    /// How often [`Store::node_claims`] may have changed.
    claims_revision: u64,
    /// Whether node ports are open at other addresses.
    node_port_addresses: bool,
    /// What was told of a kind whose list has begun.
    listing: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    listed: BTreeSet<Kind>,
}

/// A Service that is there.
#[derive(Default)]
struct StoredService {
    /// Its ports with their endpoints, as last told.
    ports: Vec<ServicePort>,
    /// Its ports, still without endpoints, if it came anew.
    fresh: Option<Vec<ServicePort>>,
    /// The addresses that belong to it.
    cluster_ips: Box<[IpAddr]>,
    /// The addresses that it asks for besides.
    claimed: Box<[ClaimedIp]>,
    /// Whether something was wrong with these when last told.
    has_problems: bool,
    /// Whether it is there still.
    there: bool,
}

/// A Service's ports with their endpoints, and what is wrong with addresses that it asks for.
type Joined = (Result<Vec<ServicePort>, LeftOut>, Vec<Problem>);

/// A Service that is too large.
struct LeftOut {
    why: TooLarge,
    /// Its ports without endpoints, for the time when it has fewer of these.
    ports: Vec<ServicePort>,
}

impl Store {
    /// A store without objects, for the node that the options name, or for this host.
    pub fn new(options: SnapshotOptions, host: Host) -> Self {
        let (node, _) = this_node(None, &options, &host, None);
        Self {
            options,
            host,
            node_object: None,
            node,
            node_state: NodeState::Unknown,
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
        }
    }

    /// Takes in what is told, and says what is wrong with it.
    pub fn take_in(&mut self, event: StoreEvent) -> Vec<Problem> {
        match event {
            StoreEvent::ListBegan(kind) => {
                self.listing.insert(kind, BTreeSet::new());
                Vec::new()
            }
            StoreEvent::Put(object) => {
                if let Some(told) = self.listing.get_mut(&object.kind()) {
                    told.insert(object.key());
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

    /// Takes in that the machine's own addresses are others. The node stays the one that it was
    /// when the store was made, whatever the machine is called meanwhile.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) -> Vec<Problem> {
        self.host.addresses = addresses;
        self.find_node()
    }

    /// The kinds of which not all objects were told yet.
    pub fn missing(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| !self.listed.contains(kind)).collect()
    }

    /// Whether there is an object of the kind and name that rules may be made of.
    pub fn holds(&self, kind: Kind, key: &ObjectKey) -> bool {
        match kind {
            Kind::Service => self.services.get(key).is_some_and(|known| known.there),
            Kind::EndpointSlice => self.service_of.contains_key(key),
            Kind::Node => self.node_object.as_ref().is_some_and(|n| *n.metadata.name == *key.name),
            Kind::ServiceCidr => self.service_cidrs.contains_key(key),
        }
    }

    /// The node that rules are made for.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether the cluster wants the node to take traffic.
    pub fn node_state(&self) -> NodeState {
        self.node_state
    }

    /// The options that it was made with.
    pub fn options(&self) -> &SnapshotOptions {
        &self.options
    }

    /// Networks that cluster IPs of a family are taken from, ordered; none overlaps another.
    pub fn service_cidrs(&self, family: IpFamily) -> Vec<IpNet> {
        let networks = self.cluster_networks.iter().copied();
        networks.filter(|network| IpFamily::of_network(*network) == family).collect()
    }

    /// All service ports, as last told by [`Store::changes`].
    pub fn service_ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.services.values().flat_map(|known| &known.ports)
    }

    /// All Services, ordered by name, with their ports as last told by [`Store::changes`]; without
    /// any where no rules are made of one.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectKey, &[ServicePort])> {
        let there = self.services.iter().filter(|(_, known)| known.there);
        there.map(|(key, known)| (key, known.ports.as_slice()))
    }

    /// Services that are left out because they are too large, ordered by name, as last told by
    /// [`Store::changes`].
    pub fn too_large(&self) -> impl Iterator<Item = (&ObjectKey, TooLarge)> {
        self.too_large.iter().map(|(key, left_out)| (key, left_out.why))
    }

    /// The ports of one Service, if it is there.
    pub fn service(&self, key: &ObjectKey) -> Option<&[ServicePort]> {
        self.services.get(key).filter(|known| known.there).map(|known| known.ports.as_slice())
    }

    /// The addresses of the node that Services take, as last told.
    pub fn node_claims(&self) -> NodeClaims {
        let addresses = self.node.all_addresses();
        let services: BTreeSet<&ObjectKey> =
            addresses.iter().flat_map(|ip| self.claimants.of(*ip)).collect();
        let known = services.into_iter().filter_map(|key| self.services.get(key));
        NodeClaims::of(known.flat_map(|known| &known.ports), |ip| addresses.contains(&ip))
    }

    /// A number that is another one whenever [`Store::node_claims`] may be: changes of endpoints
    /// leave it as it is.
    pub fn claims_revision(&self) -> u64 {
        self.claims_revision
    }

    /// A service port of a family by its name, as last told.
    pub fn service_port(&self, name: &ServicePortName, family: IpFamily) -> Option<&ServicePort> {
        let key = ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() };
        let ports = &self.services.get(&key)?.ports;
        ports.iter().find(|p| p.name == *name && IpFamily::of(p.cluster_ip) == family)
    }

    /// What a service port of a family lacks, if anything, as last told.
    pub fn unavailability(
        &self,
        name: &ServicePortName,
        family: IpFamily,
    ) -> Option<UnavailableReason> {
        let key = ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() };
        let slices = self.slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        unavailability_of(self.service_port(name, family)?, slices.iter().map(|(_, slice)| slice))
    }

    /// Whether something came since the last time that may change rules.
    pub fn may_have_changes(&self) -> bool {
        self.full_resync || self.node_port_addresses || !self.touched.is_empty()
    }

    /// All changes since the last time.
    pub fn changes(&mut self) -> Changes {
        self.next_changes(usize::MAX)
    }

    /// Changes since the last time, of at most so many Services: each needs memory for its ports
    /// before and after. The rest stays ([`Store::may_have_changes`]) and comes next. A change that
    /// affects all Services returns all.
    pub fn next_changes(&mut self, most: usize) -> Changes {
        self.forget_names();
        let most = if self.full_resync { usize::MAX } else { most };
        let touched = self.take_touched(most);
        let joined: Vec<(ObjectKey, Joined)> = touched
            .into_par_iter()
            .map(|key| {
                let joined = self.joined_ports(&key);
                (key, joined)
            })
            .collect();
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

    /// All that is there, as last told by [`Store::changes`].
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
            Object::Node(_) => Vec::new(),
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

    fn put_service(&mut self, key: ObjectKey, service: &Service) -> Vec<Problem> {
        let (checked, problems) = checked_ports(service, &self.options.external_ips, None);
        let known = self.services.entry(key.clone()).or_default();
        known.fresh = Some(checked.ports);
        known.there = true;
        self.set_addresses_of(&key, checked.cluster_ips.into(), checked.claimed.into());
        self.touched.insert(key);
        problems
    }

    /// Follows which addresses a Service has and asks for. Those that ask for an address that it
    /// gets or loses as its cluster IP get other ports.
    fn set_addresses_of(
        &mut self,
        key: &ObjectKey,
        cluster_ips: Box<[IpAddr]>,
        claimed: Box<[ClaimedIp]>,
    ) {
        let Some(known) = self.services.get_mut(key) else { return };
        let had = std::mem::replace(&mut known.cluster_ips, cluster_ips);
        let has = &known.cluster_ips;
        for ip in had.iter().filter(|ip| !has.contains(ip)) {
            self.owners.remove(*ip, key);
            self.touched.extend(self.claimants.of(*ip).cloned());
        }
        for ip in has.iter().filter(|ip| !had.contains(ip)) {
            self.owners.insert(*ip, key);
            self.touched.extend(self.claimants.of(*ip).cloned());
        }
        if known.claimed != claimed {
            let asked = std::mem::replace(&mut known.claimed, claimed);
            asked.iter().for_each(|claim| self.claimants.remove(claim.ip, key));
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
        // A slice whose label changed leaves the Service that it was of.
        self.remove_slice(&key);
        let names = &mut self.names;
        let (checked, problems) = checked_slice(slice, &mut |name| intern(names, name), None);
        if let (Some(checked), Some(service)) = (checked, slice.service_name()) {
            let name: Arc<str> = service.into();
            let service = ObjectKey { namespace: key.namespace.clone(), name: name.clone() };
            self.slices.entry(service.clone()).or_default().push((key.name.clone(), checked));
            self.service_of.insert(key, name);
            self.touched.insert(service);
        }
        problems
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::Service => {
                if let Some(known) = self.services.get_mut(key) {
                    known.there = false;
                    self.touched.insert(key.clone());
                    self.set_addresses_of(key, Box::default(), Box::default());
                }
            }
            Kind::EndpointSlice => self.remove_slice(key),
            // Its addresses are still the best that is known of this node.
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
        let Some(told) = self.listing.remove(&kind) else { return };
        self.listed.insert(kind);
        let gone: Vec<ObjectKey> = match kind {
            Kind::Service => without(self.services.keys(), &told),
            Kind::EndpointSlice => without(self.service_of.keys(), &told),
            Kind::Node => {
                let name = self.node_object.as_ref().map(|node| &*node.metadata.name);
                without(name.map(|name| ObjectKey::new("", name)).iter(), &told)
            }
            Kind::ServiceCidr => without(self.service_cidrs.keys(), &told),
        };
        gone.iter().for_each(|key| self.remove(kind, key));
    }

    fn find_node(&mut self) -> Vec<Problem> {
        let object = self.node_object.as_ref();
        let (node, problems) = this_node(object, &self.options, &self.host, None);
        // The cluster need not know all addresses that the machine answers at.
        let node = node.with_local(&self.host.addresses);
        // Which endpoints are local or near is seen from the node.
        if (&node.name, &node.zone) != (&self.node.name, &self.node.zone) {
            self.touched.extend(self.services.keys().cloned());
        }
        let is_other = rules_of(&node) != rules_of(&self.node);
        self.full_resync |= is_other || self.moves_firewalls(&node);
        for family in IpFamily::BOTH {
            let [before, after] =
                [&self.node, &node].map(|of| self.named_node_port_ips(of.addresses(family)));
            self.node_port_addresses |= before != after;
            self.full_resync |= before.is_some() != after.is_some();
        }
        let moved = node.other_addresses(&self.node);
        self.claims_revision += u64::from(!moved.is_empty());
        if self.options.refuse_node_addresses {
            let askers = moved.iter().flat_map(|ip| self.claimants.of(*ip)).cloned();
            self.touched.extend(askers);
        }
        self.node = node;
        problems
    }

    /// Whether a Service lets the one node use its load balancer and not the other: that hangs on
    /// whether its source ranges contain the primary address.
    fn moves_firewalls(&self, node: &Node) -> bool {
        IpFamily::BOTH.into_iter().any(|family| {
            let [before, after] = [&self.node, node].map(|of| of.addresses(family).primary);
            let lets = |port: &ServicePort, ip| port.source_ranges.iter().any(|r| r.contains(&ip));
            let mut ports = self.service_ports();
            before != after && ports.any(|port| lets(port, before) != lets(port, after))
        })
    }

    /// Addresses that rules name as those at which node ports are open; none if they are open at
    /// all. Most addresses of a node come and go with pods.
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

    /// Nodes and namespaces come and go for months.
    fn forget_names(&mut self) {
        const FEW: usize = 1000;
        if self.names.len() > 2 * self.names_in_use + FEW {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.names_in_use = self.names.len();
        }
    }

    /// A Service's ports as they are now, and what is wrong with addresses that it asks for.
    fn joined_ports(&self, key: &ObjectKey) -> Joined {
        let mut problems = Vec::new();
        let Some(known) = self.services.get(key).filter(|known| known.there) else {
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
            return (Err(LeftOut { why, ports }), problems);
        }
        admitted.give(&mut ports);
        join(&mut ports, slices, &self.node);
        (Ok(ports), problems)
    }

    fn admitted(
        &self,
        key: &ObjectKey,
        claimed: &[ClaimedIp],
        problems: &mut Vec<Problem>,
    ) -> Admitted {
        let admission = Admission {
            owners: &self.owners,
            service_cidrs: &self.cluster_networks,
            refused_node: Some(&self.node).filter(|_| self.options.refuse_node_addresses),
        };
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        let object = ObjectName { kind: Kind::Service.name(), namespace, name };
        admission.admitted(key, claimed, &mut Report { source: None, object: &object, problems })
    }

    fn replace(&mut self, key: ObjectKey, after: Vec<ServicePort>) -> Option<ServiceChange> {
        let known = self.services.get_mut(&key)?;
        known.fresh = None;
        let before = std::mem::replace(&mut known.ports, after);
        let after = known.ports.clone();
        self.claims_revision += u64::from(!outside(&before).eq(outside(&after)));
        if !known.there {
            self.services.remove(&key);
        }
        (before != after).then_some(ServiceChange { before, after })
    }
}

/// Where ports are reached from outside, node ports apart.
fn outside(
    ports: &[ServicePort],
) -> impl Iterator<Item = (&ServicePortName, u16, &[IpAddr], &[IpAddr])> {
    let outside = ports.iter().map(|port| {
        let (external, load_balancer) = (&port.external_ips[..], &port.load_balancer_ips[..]);
        (&port.name, port.port, external, load_balancer)
    });
    outside
        .filter(|(_, _, external, load_balancer)| !external.is_empty() || !load_balancer.is_empty())
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
    told: &BTreeSet<ObjectKey>,
) -> Vec<ObjectKey> {
    all.filter(|key| !told.contains(key)).cloned().collect()
}

/// What rules hang on of a node, but for its addresses.
fn rules_of(node: &Node) -> impl PartialEq + use<> {
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

    /// A Service that changes all the time does not delay those after it.
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

    /// Of a thousand Services that ask for addresses, a cluster IP that comes, stays and goes
    /// concerns the two that ask for it.
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

    /// Endpoints come and go all the time, and who takes the node's addresses does not hang on them.
    #[test]
    fn store_claims_revision_changes_with_addresses_only() {
        let mut store = Store::new(SnapshotOptions::default(), Host::default());
        let mut moves = |act: &dyn Fn(&mut Store)| {
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
        assert_eq!(moves(&|s| put(s, Kind::Service, &of("a", "192.0.2.1"))), (true, 0));
        assert_eq!(moves(&|s| drop(s.set_addresses(addresses("192.0.2.1")))), (true, 1));
        assert_eq!(moves(&|s| put(s, Kind::EndpointSlice, slice)), (false, 1));
        assert_eq!(moves(&|s| put(s, Kind::Service, &of("a", "192.0.2.1"))), (false, 1));
        assert_eq!(moves(&|s| drop(s.set_addresses(addresses("192.0.2.1")))), (false, 1));
        assert_eq!(moves(&|s| put(s, Kind::Service, &of("a", "192.0.2.2"))), (true, 0));
    }
}
