//! Values that one thread changes and others read.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::configured_store::ConfiguredStore;
use crate::left_out::LeftOutServices;
use crate::rejected_objects::RejectedObjects;

/// The reconciler's view of the cluster.
#[derive(Clone)]
pub(crate) struct ClusterState {
    /// The objects.
    pub(crate) store: Shared<ConfiguredStore>,
    /// Their problems.
    pub(crate) rejected_objects: Shared<RejectedObjects>,
    /// Services that are left out of the rules.
    pub(crate) left_out: Shared<LeftOutServices>,
}

/// A value that only the reconciler writes and that pages read. The reconciler may hold its read
/// lock for a whole commit: readers wait only for a writer, which is the reconciler itself.
pub(crate) struct Shared<T>(Arc<RwLock<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        // A panic in any thread ends the process.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
