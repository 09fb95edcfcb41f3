//! The kinds of objects that a node agent watches.

use serde_json::{Value, json};

/// A served kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    Node,
    EndpointSlice,
    ServiceCidr,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Service, Self::Node, Self::EndpointSlice, Self::ServiceCidr];

    pub(super) fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| object["kind"] == kind.name())
    }

    pub(super) fn at(api_version: &str, plural: &str) -> Option<Self> {
        let is_there = |kind: &Self| kind.api_version() == api_version && kind.plural() == plural;
        Self::ALL.into_iter().find(is_there)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Node => "Node",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Node => "nodes",
            Self::EndpointSlice => "endpointslices",
            Self::ServiceCidr => "servicecidrs",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr => "networking.k8s.io/v1",
        }
    }

    pub(super) fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn is_namespaced(self) -> bool {
        matches!(self, Self::Service | Self::EndpointSlice)
    }

    /// The fields that a field selector may name; the server rejects others.
    pub(super) fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::Service => {
                &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"]
            }
            Self::EndpointSlice => &["metadata.name", "metadata.namespace"],
            Self::Node => &["metadata.name", "spec.unschedulable"],
            Self::ServiceCidr => &["metadata.name"],
        }
    }

    /// An object with metadata only, such as a bookmark's, as Go writes it:
    /// with null instead of an empty list.
    pub(super) fn hollow(self, metadata: Value) -> Value {
        match self {
            Self::Service => {
                json!({"metadata": metadata, "spec": {}, "status": {"loadBalancer": {}}})
            }
            Self::Node => {
                let ports = json!({"kubeletEndpoint": {"Port": 0}});
                json!({"metadata": metadata, "spec": {}, "status": {"daemonEndpoints": ports}})
            }
            Self::EndpointSlice => {
                json!({"metadata": metadata, "addressType": "", "endpoints": null, "ports": null})
            }
            Self::ServiceCidr => json!({"metadata": metadata, "spec": {}, "status": {}}),
        }
    }

    /// An object with its kind, which only items of lists do not have.
    pub(super) fn named(self, object: &Value) -> Value {
        let mut named = object.clone();
        named["kind"] = self.name().into();
        named["apiVersion"] = self.api_version().into();
        named
    }
}
