//! Whether the traffic of a service port has an endpoint to go to.

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::service_port::{ServicePort, TrafficPolicy};

/// Which endpoints of a service port can take its traffic on this node, from the worst case to the
/// best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// It has no endpoint at all.
    NoEndpoints,
    /// None of its endpoints is usable, on any node.
    NoneUsable {
        /// How many are not ready.
        not_ready: usize,
        /// How many are terminating and no longer serving.
        terminating: usize,
    },
    /// Usable endpoints are on other nodes only, and a policy Local keeps traffic on this node.
    NoneLocal {
        /// How many are on other nodes: ready ones, or draining ones if none is ready.
        elsewhere: usize,
        /// The traffic that the policy is for.
        scope: LocalPolicyScope,
    },
    /// No endpoint is ready, so that draining ones get the traffic.
    Draining {
        /// How many are draining.
        terminating: usize,
    },
    /// Ready endpoints get the traffic.
    Ready,
}

/// The traffic that policy Local keeps on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalPolicyScope {
    /// Traffic to the cluster IP.
    Internal,
    /// Traffic to all other addresses.
    External,
    /// All traffic.
    Both,
}

impl Availability {
    /// Decides by all endpoints of a service port. Each policy takes draining endpoints only if
    /// none of its own is ready, as in [`crate::select`].
    pub fn of(port: &ServicePort) -> Self {
        let endpoints = port.endpoints.as_slice();
        if endpoints.is_empty() {
            return Self::NoEndpoints;
        }
        let count = |counts: fn(&Endpoint) -> bool| {
            endpoints.iter().filter(|endpoint| counts(endpoint)).count()
        };
        let (ready, draining) = (count(|endpoint| endpoint.ready), count(Endpoint::is_draining));
        if ready == 0 && draining == 0 {
            let terminating = count(|endpoint| endpoint.terminating);
            let not_ready = endpoints.len().saturating_sub(terminating);
            return Self::NoneUsable { not_ready, terminating };
        }
        let has_local = || endpoints.iter().any(|of| of.local && of.is_usable());
        if let Some(scope) = LocalPolicyScope::of(port).filter(|_| !has_local()) {
            let elsewhere = if ready > 0 { ready } else { draining };
            return Self::NoneLocal { elsewhere, scope };
        }
        if ready == 0 { Self::Draining { terminating: draining } } else { Self::Ready }
    }

    /// Whether there is a usable endpoint in the cluster.
    pub fn has_usable(self) -> bool {
        !matches!(self, Self::NoEndpoints | Self::NoneUsable { .. })
    }

    /// The traffic that policy Local leaves without an endpoint, though there are some elsewhere.
    pub fn lacks_local(self) -> Option<LocalPolicyScope> {
        match self {
            Self::NoneLocal { scope, .. } => Some(scope),
            _ => None,
        }
    }
}

impl LocalPolicyScope {
    /// None if no traffic of a service port is under policy Local.
    fn of(port: &ServicePort) -> Option<Self> {
        let internal = port.internal_policy == TrafficPolicy::Local;
        let external = port.external_policy == TrafficPolicy::Local && port.externally_accessible();
        match (internal, external) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Internal),
            (false, true) => Some(Self::External),
            (false, false) => None,
        }
    }

    /// Whether traffic to the cluster IP is among it.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Internal | Self::Both)
    }

    /// Whether traffic to other addresses is among it.
    pub fn is_external(self) -> bool {
        matches!(self, Self::External | Self::Both)
    }
}
