//! Kubernetes objects to an ordered, immutable [`Snapshot`].
//!
//! ```text
//! bytes ──manifest──▶ Objects, SnapshotOptions ──snapshot──▶ Snapshot   (what one compile reads)
//! ```
//!
//! Defines what Services, EndpointSlices and Nodes mean to a proxy: defaults, joining slices, and
//! the endpoints of each traffic policy. Does not depend on rules or the kernel, does no I/O except
//! reading from a [`std::io::BufRead`], and cannot fail: every function returns a value and the
//! [`Problem`]s that it found.

mod availability;
mod budget;
mod complete;
mod details;
mod document;
mod document_lines;
mod endpoint;
mod endpoint_slice;
mod external_ips;
mod foreign;
mod kind;
mod load_balancing;
mod manifest;
mod mirror;
mod nearest;
mod node;
mod node_claims;
mod node_name;
mod object;
mod object_key;
mod objects;
mod options;
mod ownership;
mod parallel;
mod port;
mod problem;
mod problem_code;
pub mod protobuf;
mod select;
mod service;
mod service_port;
mod snapshot;
mod store;
mod totals;
mod typed_value;
mod unavailability;
mod watch_events;
mod yaml;

pub use availability::{Availability, LocalPolicyScope};
pub use budget::{ServiceSize, TooLarge};
pub use complete::IfEmpty;
pub use details::{Details, PodDetails, ServiceLabels, read_labels};
pub use document::{Document, MAX_DOCUMENT_BYTES, documents};
pub use document_lines::DocumentLines;
pub use endpoint::{Endpoint, Hint};
pub use endpoint_slice::EndpointDetails;
pub use external_ips::{ExternalIps, ExternalIpsError};
pub use kind::{Kind, Object};
pub use load_balancing::LoadBalancing;
pub use manifest::{MAX_LIST_DEPTH, is_manifest, read_manifest, read_object};
pub use nearest::nearest;
pub use node::{FamilyAddresses, Host, Node};
pub use node_claims::{NodeClaims, TakenAddress};
pub use node_name::{KnownNodes, MeantNode, MisnamedNode, NodeEvidence, NodeName};
pub use object::{
    Annotations, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, Labels,
    LoadBalancerIngress, Metadata, NodeAddress, NodeObject, Service, ServiceCidr, ServicePortSpec,
    SliceEndpoint, TargetRef,
};
pub use object_key::ObjectKey;
pub use objects::{Objects, Sourced};
pub use options::{IPTABLES_SERVICE_SIZE, NFTABLES_SERVICE_SIZE, NodePortScope, SnapshotOptions};
pub use problem::{ObjectName, Problem, Severity, Source};
pub use problem_code::ProblemCode;
pub use select::{NotChosen, Selection, UnusedEndpoints, not_chosen, select};
pub use service::Unproxied;
pub use service_port::{ServicePort, TrafficPolicy};
pub use snapshot::{Cluster, Snapshot, node_name, node_problems, single_objects, snapshot};
pub use store::{Changes, NodeState, OtherNode, ServiceChange, Store, StoreEvent};
pub use totals::ServiceTotals;
pub use typed_value::{FieldPath, FieldStep, WrongField, typed_value};
pub use unavailability::{
    EndpointPortName, Unavailability, UnavailableReason, unavailability, unavailable_ports,
};
pub use yaml::{TextPosition, YamlError, write_yaml, yaml_value};
