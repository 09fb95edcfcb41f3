//! Names of the chains and sets that belong to one service port.

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::Name;

use crate::plan::ServicePlan;

/// The path `namespace/name/protocol/port`, which is unique per service port.
pub(super) struct ServicePath(String);

impl ServicePath {
    pub(super) fn of(service: &ServicePlan) -> Self {
        let name = &service.name;
        let protocol = name.protocol.name();
        Self(format!("{}/{}/{protocol}/{}", name.namespace, name.service, name.port))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a chain or set of the service port, for this purpose.
    pub(super) fn named(&self, what: &str) -> Name {
        Name::from(format!("{what}/{}", self.0))
    }

    /// The chain that chooses among the endpoints of a policy.
    pub(super) fn policy(&self, policy: TrafficPolicy) -> Name {
        self.named(policy_word(policy))
    }

    /// The map from the slots of a policy to the chains of endpoints.
    pub(super) fn slots(&self, policy: TrafficPolicy) -> Name {
        self.named(match policy {
            TrafficPolicy::Cluster => "cluster-slots",
            TrafficPolicy::Local => "local-slots",
        })
    }

    /// The chain of an endpoint. Names cannot contain colons.
    pub(super) fn endpoint(&self, endpoint: &Endpoint) -> Name {
        let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
        let ip = ip.to_string().replace(':', ".");
        Name::from(format!("endpoint/{}/{ip}/{port}", self.0))
    }
}

pub(super) fn policy_word(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "cluster",
        TrafficPolicy::Local => "local",
    }
}

/// The path of the service port that owns a set or chain: namespace, name, protocol and port.
/// `None` for shared ones.
pub fn owner_path(name: &str) -> Option<[&str; 4]> {
    let mut parts = name.split('/');
    let is_ours = OBJECTS.contains(&parts.next()?);
    let path = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    is_ours.then_some(path)
}

/// Prefixes of the names of a service port's own objects.
const OBJECTS: [&str; 8] = [
    "affinity",
    "cluster",
    "cluster-slots",
    "local",
    "local-slots",
    "cluster-ip",
    "external",
    "endpoint",
];

/// The path of the service port whose connections to one endpoint this chain counts; `None` for
/// other chains.
pub(super) fn counted(chain: &str) -> Option<[&str; 4]> {
    let mut parts = chain.strip_prefix("endpoint/")?.split('/');
    let part = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    // The endpoint's address and port.
    (parts.count() == 2).then_some(part)
}
