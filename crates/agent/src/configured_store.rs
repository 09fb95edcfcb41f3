//! The cluster's objects with the configuration that they are compiled with.

use std::ops::{Deref, DerefMut};

use rulegen_config::ProxyConfig;
use rulegen_model::{Host, Store};

/// A [`Store`] and the configuration that determines its options.
pub(crate) struct ConfiguredStore {
    store: Store,
    config: ProxyConfig,
}

impl ConfiguredStore {
    /// A store without objects.
    pub(crate) fn new(config: ProxyConfig, host: Host) -> Self {
        Self { store: Store::new(config.snapshot_options(), host), config }
    }

    pub(crate) fn config(&self) -> &ProxyConfig {
        &self.config
    }
}

impl Deref for ConfiguredStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for ConfiguredStore {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}
