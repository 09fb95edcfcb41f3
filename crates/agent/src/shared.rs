//! What one thread changes and others read.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::configured_store::ConfiguredStore;
use crate::left_out::LeftOut;
use crate::rejected_objects::RejectedObjects;

/// What the reconciler knows of the cluster.
#[derive(Clone)]
pub(crate) struct ClusterState {
    /// The objects.
    pub(crate) store: Shared<ConfiguredStore>,
    /// What is wrong with them.
    pub(crate) rejected_objects: Shared<RejectedObjects>,
    /// Services that have no rules although they should.
    pub(crate) left_out: Shared<LeftOut>,
}

/// A value that the reconciler alone writes and pages read. It may read for as long as a commit
/// takes: readers wait only for one who writes, or waits to write, and that is itself.
pub(crate) struct Shared<T>(Arc<RwLock<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        // A thread that falls ends the process.
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
