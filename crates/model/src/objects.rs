//! Objects that were read, with their sources.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::details::Details;
use crate::object::{EndpointSlice, Endpoints, NodeObject, Service, ServiceCidr, SliceEndpoint};
use crate::object_key::ObjectKey;
use crate::problem::Source;
use rulegen_net::parse_address;

/// An object with its source.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// File and document.
    pub source: Arc<Source>,
    /// The object as read, unchecked.
    pub object: T,
}

/// All objects read so far that a proxy uses.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Services, in the order they were read.
    pub services: Vec<Sourced<Service>>,
    /// EndpointSlices, in the order they were read.
    pub slices: Vec<Sourced<EndpointSlice>>,
    /// Nodes, in the order they were read.
    pub nodes: Vec<Sourced<NodeObject>>,
    /// ServiceCIDRs, in the order they were read.
    pub service_cidrs: Vec<Sourced<ServiceCidr>>,
    /// Endpoints, until [`Objects::complete`] mirrors them.
    pub(crate) endpoints: Vec<Sourced<Endpoints>>,
    /// Number of ignored objects of other kinds, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// What does not affect rules, if it is kept.
    pub details: Option<Details>,
}

impl Objects {
    /// Makes room for the objects of these parts.
    pub(crate) fn reserve<'a>(&mut self, parts: impl Iterator<Item = &'a Objects>) {
        let (services, slices) = parts.fold((0, 0), |(services, slices), part| {
            (services + part.services.len(), slices + part.slices.len())
        });
        self.services.reserve(services);
        self.slices.reserve(slices);
    }

    /// No objects yet, with details kept of those that are read.
    pub fn with_details() -> Self {
        Self { details: Some(Details::default()), ..Self::default() }
    }

    /// No objects yet, with details kept if this keeps them.
    pub fn emptied(&self) -> Self {
        if self.details.is_some() { Self::with_details() } else { Self::default() }
    }

    /// The addresses of a pod, ordered: those of the Pod if it is known, else those of endpoints
    /// that name it (`targetRef`).
    pub fn pod_addresses(&self, namespace: &str, name: &str) -> BTreeSet<IpAddr> {
        let pods = self.details.as_ref().map(|details| &details.pods);
        if let Some(pod) = pods.and_then(|pods| pods.get(&ObjectKey::new(namespace, name))) {
            return pod.addresses.clone();
        }
        let endpoints = self.endpoints_of_pod(namespace, name);
        endpoints.flat_map(|of| &of.addresses).filter_map(|ip| parse_address(ip)).collect()
    }

    /// The node of a pod: that of the Pod if it is known, else that of an endpoint that names it.
    pub fn pod_node(&self, namespace: &str, name: &str) -> Option<&str> {
        let pods = self.details.as_ref().map(|details| &details.pods);
        if let Some(pod) = pods.and_then(|pods| pods.get(&ObjectKey::new(namespace, name))) {
            return pod.node.as_deref();
        }
        self.endpoints_of_pod(namespace, name).find_map(|of| of.node_name.as_deref())
    }

    fn endpoints_of_pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Iterator<Item = &SliceEndpoint> {
        let is_pod = move |endpoint: &&SliceEndpoint| {
            endpoint.target_ref.as_ref().is_some_and(|target| {
                *target.kind == *"Pod" && *target.namespace == *namespace && *target.name == *name
            })
        };
        let slices = self.slices.iter().map(|slice| &slice.object);
        slices.flat_map(|slice| &slice.endpoints).filter(is_pod)
    }

    /// Appends other objects.
    pub fn append(&mut self, other: Objects) {
        append(&mut self.services, other.services);
        append(&mut self.slices, other.slices);
        append(&mut self.nodes, other.nodes);
        append(&mut self.service_cidrs, other.service_cidrs);
        append(&mut self.endpoints, other.endpoints);
        if let (Some(details), Some(other)) = (&mut self.details, other.details) {
            details.append(other);
        }
        for (kind, count) in other.ignored {
            *self.ignored.entry(kind).or_default() += count;
        }
    }
}

/// Takes the other vector if this one is empty: a copy of a large cluster is a tenth of the memory that
/// a dry run uses.
fn append<T>(to: &mut Vec<T>, other: Vec<T>) {
    if to.is_empty() {
        *to = other;
    } else {
        to.extend(other);
    }
}
