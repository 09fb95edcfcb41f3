//! Objects that were read, with their sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::object::{EndpointSlice, Endpoints, NodeObject, Service, ServiceCidr};
use crate::problem::Source;

/// An object with its source.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// File and document.
    pub source: Arc<Source>,
    /// The object.
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
}

impl Objects {
    /// Appends other objects.
    pub fn append(&mut self, other: Objects) {
        self.services.extend(other.services);
        self.slices.extend(other.slices);
        self.nodes.extend(other.nodes);
        self.service_cidrs.extend(other.service_cidrs);
        self.endpoints.extend(other.endpoints);
        for (kind, count) in other.ignored {
            *self.ignored.entry(kind).or_default() += count;
        }
    }
}
