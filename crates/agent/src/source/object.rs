//! Objects from the API server. Each is parsed separately, so that an invalid one does not affect
//! others.

use std::fmt;
use std::marker::PhantomData;

use rulegen_model::protobuf::{self, TypedBytes};
use rulegen_model::{Kind, Object, ObjectKey, Problem, ServiceLabels, read_labels, read_object};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The resource of a kind.
pub(crate) trait Watched: fmt::Debug + Send + Sync + 'static {
    const KIND: Kind;
    /// The `apiVersion` of its objects: `v1`, `discovery.k8s.io/v1`.
    const API_VERSION: &'static str;
    /// The path at the API server, from the root: `/api/v1/services`.
    const PATH: &'static str;
    /// Whether all labels are read, which the agent does not need.
    const HAS_LABELS: bool;
}

macro_rules! watched {
    ($name:ident, $kind:expr, $api_version:literal, $path:literal) => {
        watched!($name, $kind, $api_version, $path, false);
    };
    ($name:ident, $kind:expr, $api_version:literal, $path:literal, $has_labels:literal) => {
        #[doc = concat!("The resource at `", $path, "`.")]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Watched for $name {
            const KIND: Kind = $kind;
            const API_VERSION: &'static str = $api_version;
            const PATH: &'static str = $path;
            const HAS_LABELS: bool = $has_labels;
        }
    };
}

watched!(Services, Kind::Service, "v1", "/api/v1/services");
watched!(LabelledServices, Kind::Service, "v1", "/api/v1/services", true);
watched!(
    EndpointSlices,
    Kind::EndpointSlice,
    "discovery.k8s.io/v1",
    "/apis/discovery.k8s.io/v1/endpointslices"
);
watched!(Nodes, Kind::Node, "v1", "/api/v1/nodes");
watched!(
    ServiceCidrs,
    Kind::ServiceCidr,
    "networking.k8s.io/v1",
    "/apis/networking.k8s.io/v1/servicecidrs"
);

/// An object of a resource.
#[derive(Debug)]
pub(crate) struct ApiObject<W> {
    /// The kind and apiVersion in the object; empty if missing.
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) key: ObjectKey,
    pub(super) resource_version: Option<String>,
    /// The size of its JSON in KiB, rounded up, which is about its size in memory.
    pub(super) size: usize,
    /// Its labels, if they are read.
    pub(super) labels: ServiceLabels,
    /// The parsed object, or why it is invalid.
    pub(crate) object: Result<Object, Box<Problem>>,
    watched: PhantomData<W>,
}

impl<W: Watched> ApiObject<W> {
    pub(super) fn read(json: &RawValue) -> Self {
        let head: ObjectHead = serde_json::from_str(json.get()).unwrap_or_default();
        let ObjectHead { kind, api_version, metadata } = head;
        let namespace = metadata.namespace.unwrap_or_default();
        Self {
            kind,
            api_version,
            key: ObjectKey::new(&namespace, &metadata.name.unwrap_or_default()),
            resource_version: metadata.resource_version.filter(|version| !version.is_empty()),
            size: json.get().len().div_ceil(1024),
            labels: if W::HAS_LABELS { read_labels(json.get()) } else { ServiceLabels::default() },
            object: read_object(W::KIND, json.get()),
            watched: PhantomData,
        }
    }

    /// Items of a list have no kind of their own.
    pub(super) fn of_protobuf(bytes: TypedBytes) -> Self {
        let TypedBytes { api_version, kind, raw } = bytes;
        let read = protobuf::object(W::KIND, &raw);
        Self {
            kind,
            api_version,
            key: ObjectKey::new(&read.namespace, &read.name),
            resource_version: Some(read.resource_version).filter(|version| !version.is_empty()),
            size: (raw.len() * JSON_FOR_PROTOBUF).div_ceil(1024),
            labels: if W::HAS_LABELS { protobuf::labels(&raw) } else { ServiceLabels::default() },
            object: read.object,
            watched: PhantomData,
        }
    }

    /// The resource version as a number, which increases with each change of any object (KEP-5504).
    pub(super) fn version(&self) -> Option<u64> {
        self.resource_version.as_deref()?.parse().ok()
    }
}

/// The size of JSON for a byte of protobuf.
const JSON_FOR_PROTOBUF: usize = 3;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectHead {
    kind: String,
    api_version: String,
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}
