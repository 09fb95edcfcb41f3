//! Objects as the API server tells them, each read by itself: what is wrong with one costs no other.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rulegen_model::{Kind, Object, ObjectKey, Problem, read_object};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Which resource of the API a kind is.
pub(crate) trait Watched: fmt::Debug + Clone + Send + Sync + Unpin + 'static {
    /// The kind.
    const KIND: Kind;
    /// Its group, empty for the core.
    const GROUP: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
}

macro_rules! watched {
    ($name:ident, $kind:expr, $group:literal, $plural:literal) => {
        #[doc = concat!("The resource `", $plural, "`.")]
        #[derive(Debug, Clone, Copy)]
        pub(crate) enum $name {}

        impl Watched for $name {
            const KIND: Kind = $kind;
            const GROUP: &'static str = $group;
            const PLURAL: &'static str = $plural;
        }
    };
}

watched!(Services, Kind::Service, "", "services");
watched!(EndpointSlices, Kind::EndpointSlice, "discovery.k8s.io", "endpointslices");
watched!(Nodes, Kind::Node, "", "nodes");
watched!(ServiceCidrs, Kind::ServiceCidr, "networking.k8s.io", "servicecidrs");

/// An object of a resource.
#[derive(Debug, Clone)]
pub(crate) struct ApiObject<W> {
    /// Its name and version; nothing else is kept of its metadata.
    metadata: ObjectMeta,
    /// What a proxy reads of it, or why it cannot be read.
    pub(crate) object: Result<Object, Box<Problem>>,
    watched: PhantomData<W>,
}

impl<W: Watched> ApiObject<W> {
    pub(crate) fn key(&self) -> ObjectKey {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        ObjectKey::new(namespace, self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Its version as a number, which grows with each change of any object (KEP-5504).
    pub(crate) fn version(&self) -> Option<u64> {
        self.metadata.resource_version.as_deref()?.parse().ok()
    }
}

impl<'de, W: Watched> Deserialize<'de> for ApiObject<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata } = serde_json::from_str(json.get()).unwrap_or_default();
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            uid: metadata.uid,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, object: read_object(W::KIND, json.get()), watched: PhantomData })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl<W: Watched> kube::Resource for ApiObject<W> {
    type DynamicType = ();
    type Scope = kube::core::DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        W::KIND.name().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        W::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        W::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
