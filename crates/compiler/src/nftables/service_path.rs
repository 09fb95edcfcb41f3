//! Names of the chains and sets that belong to one service port.

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::Name;

use crate::plan::ServicePlan;

/// `namespace/name/protocol/port`, which is unique to a service port.
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

    /// The name of a chain or set of the service port.
    pub(super) fn named(&self, what: &str) -> Name {
        Name::from(format!("{what}/{}", self.0))
    }

    /// The chain that chooses among the endpoints of a policy.
    pub(super) fn policy(&self, policy: TrafficPolicy) -> Name {
        self.named(policy_word(policy))
    }

    /// The chain of an endpoint. Colons cannot stand in a name.
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

/// The service port that a set or a chain belongs to, if it belongs to one: namespace, name,
/// protocol and port.
pub fn owner_path(name: &str) -> Option<[&str; 4]> {
    let mut parts = name.split('/');
    let is_ours = OBJECTS.contains(&parts.next()?);
    let path = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    is_ours.then_some(path)
}

/// What the names of a service port's own objects begin with.
const OBJECTS: [&str; 6] = ["affinity", "cluster", "local", "cluster-ip", "external", "endpoint"];

/// The service port whose connections to one endpoint a chain counts, if it is such a chain:
/// namespace, name, protocol and port.
pub(super) fn counted(chain: &str) -> Option<[&str; 4]> {
    let mut parts = chain.strip_prefix("endpoint/")?.split('/');
    let part = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    // The endpoint's address and port.
    (parts.count() == 2).then_some(part)
}
