//! The kinds of objects that a proxy uses.

use crate::object::{EndpointSlice, NodeObject, Service, ServiceCidr};
use crate::object_key::ObjectKey;

/// The kinds of objects that a proxy uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1`.
    Service,
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// `v1`.
    Node,
    /// `networking.k8s.io/v1` or `v1beta1`: a range of cluster IPs.
    ServiceCidr,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::ServiceCidr => "ServiceCIDR",
        }
    }
}

/// An object of one of the kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Of [`Kind::Service`].
    Service(Service),
    /// Of [`Kind::EndpointSlice`].
    EndpointSlice(EndpointSlice),
    /// Of [`Kind::Node`].
    Node(NodeObject),
    /// Of [`Kind::ServiceCidr`].
    ServiceCidr(ServiceCidr),
}

impl Object {
    /// The kind of the object in it.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Node(_) => Kind::Node,
            Object::ServiceCidr(_) => Kind::ServiceCidr,
        }
    }

    /// Its namespace and name.
    pub fn key(&self) -> ObjectKey {
        match self {
            Object::Service(object) => ObjectKey::of(&object.metadata),
            Object::EndpointSlice(object) => ObjectKey::of(&object.metadata),
            Object::Node(object) => ObjectKey::new("", &object.metadata.name),
            Object::ServiceCidr(object) => ObjectKey::new("", &object.metadata.name),
        }
    }
}
