//! Whether a service port has endpoints for its traffic on this node.

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::service_port::{ServicePort, TrafficPolicy};

/// Which endpoints of a service port can receive its traffic on this node, ordered from worst to
/// best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// There are no endpoints.
    NoEndpoints,
    /// No endpoint is usable, on any node.
    NoneUsable {
        /// Number of endpoints that are not ready.
        not_ready: usize,
        /// Number of endpoints that are terminating and no longer serving.
        terminating: usize,
    },
    /// No usable endpoint is known to be on this node, and policy Local keeps traffic on it.
    NoneLocal {
        /// Number of endpoints on other nodes: ready ones, or terminating ones if none is ready.
        elsewhere: usize,
        /// Number of such endpoints on no known node, because `nodeName` is missing.
        without_node: usize,
        /// Number of endpoints on this node, none of which is usable.
        unusable_here: usize,
        /// The traffic to which the policy applies.
        scope: LocalPolicyScope,
    },
    /// No endpoint is ready; terminating endpoints that still serve get the traffic.
    OnlyTerminating {
        /// Number of these endpoints.
        terminating: usize,
        /// Number of all other endpoints. They get no traffic.
        unusable: usize,
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
    /// Considers all endpoints of a service port. Each policy uses terminating endpoints only if
    /// it has no ready endpoint, as in [`select`](crate::select()).
    pub fn of(port: &ServicePort) -> Self {
        let endpoints = port.endpoints.as_slice();
        if endpoints.is_empty() {
            return Self::NoEndpoints;
        }
        let scope = LocalPolicyScope::of(port)
            .filter(|_| !endpoints.iter().any(|of| of.local && of.is_usable()));
        // Nearly all service ports end here, mostly at the first endpoint. The status page asks
        // this of every service port.
        if scope.is_none() && endpoints.iter().any(|endpoint| endpoint.ready) {
            return Self::Ready;
        }
        let count = |counts: fn(&Endpoint) -> bool| {
            endpoints.iter().filter(|endpoint| counts(endpoint)).count()
        };
        let (ready, serving) =
            (count(|endpoint| endpoint.ready), count(Endpoint::is_terminating_and_serving));
        if ready == 0 && serving == 0 {
            let terminating = count(|endpoint| endpoint.terminating);
            let not_ready = endpoints.len().saturating_sub(terminating);
            return Self::NoneUsable { not_ready, terminating };
        }
        let Some(scope) = scope else {
            let unusable = endpoints.len().saturating_sub(serving);
            return Self::OnlyTerminating { terminating: serving, unusable };
        };
        let counts = |of: &&Endpoint| match ready {
            0 => of.is_terminating_and_serving(),
            _ => of.ready,
        };
        let usable = endpoints.iter().filter(counts);
        let without_node = usable.filter(|endpoint| !endpoint.has_node).count();
        let elsewhere = if ready > 0 { ready } else { serving }.saturating_sub(without_node);
        let unusable_here = count(|endpoint| endpoint.local);
        Self::NoneLocal { elsewhere, without_node, unusable_here, scope }
    }

    /// Whether there is a usable endpoint in the cluster.
    pub fn has_usable(self) -> bool {
        !matches!(self, Self::NoEndpoints | Self::NoneUsable { .. })
    }

    /// The traffic that has no endpoint on this node because of policy Local, although other nodes
    /// have some.
    pub fn lacks_local(self) -> Option<LocalPolicyScope> {
        match self {
            Self::NoneLocal { scope, .. } => Some(scope),
            _ => None,
        }
    }
}

impl LocalPolicyScope {
    /// `None` if no traffic of a service port is subject to policy Local.
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

    /// Whether it includes traffic to the cluster IP.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Internal | Self::Both)
    }

    /// Whether it includes traffic to other addresses.
    pub fn is_external(self) -> bool {
        matches!(self, Self::External | Self::Both)
    }
}
