//! The namespace and name of an object.

use std::sync::Arc;

use crate::object::Metadata;

/// The namespace and name of an object, unique among the objects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Empty for objects without a namespace, such as Nodes.
    pub namespace: Arc<str>,
    /// The name, unique in the namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key with this namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self::new(metadata.namespace(), &metadata.name)
    }
}
