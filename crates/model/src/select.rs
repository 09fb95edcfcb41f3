//! Which endpoints each traffic policy sees (kube-proxy's `topology.go`).

use crate::endpoint::{Endpoint, Hint};
use crate::service_port::ServicePort;

/// The endpoints of a service port that each traffic policy uses on this node. All lists keep the
/// order of the service port's endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Endpoints for policy Cluster; empty if the service port never uses it.
    pub cluster: Vec<Endpoint>,
    /// Endpoints for policy Local; empty if the service port never uses it.
    pub local: Vec<Endpoint>,
    /// Endpoints that are in either list.
    pub reachable: Vec<Endpoint>,
    /// Whether the cluster has a usable endpoint.
    pub any: bool,
}

/// Selects the ready endpoints; without ready endpoints, the terminating endpoints that still serve.
/// Selects separately for Cluster and Local (KEP-1669). Topology hints reduce the endpoints for Cluster
/// (KEP-2433, KEP-3015).
pub fn select(port: &ServicePort) -> Selection {
    let mut selection = Selection::default();
    if port.uses_cluster_endpoints() {
        let topology = Topology::of(&port.endpoints);
        selection.cluster =
            ready_or_terminating(&port.endpoints, |endpoint| topology.allows(endpoint));
        selection.any = !selection.cluster.is_empty();
    }
    if port.uses_local_endpoints() {
        selection.local = ready_or_terminating(&port.endpoints, |endpoint| endpoint.local);
        selection.any |= port.endpoints.iter().any(Endpoint::is_usable);
    }
    selection.reachable = match (selection.cluster.as_slice(), selection.local.as_slice()) {
        (cluster, []) => cluster.to_vec(),
        ([], local) => local.to_vec(),
        (cluster, local) => in_either(&port.endpoints, cluster, local),
    };
    selection
}

/// Why no policy of a service port chooses an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotChosen {
    /// The endpoint is not usable.
    NotReady,
    /// The endpoint is terminating, and others are ready.
    OthersReady,
    /// Topology hints direct this node's traffic to other endpoints.
    HintedElsewhere,
    /// The endpoint is on another node, and all traffic has policy Local.
    OnAnotherNode,
}

/// Why an endpoint is not in [`Selection::reachable`].
pub fn not_chosen(port: &ServicePort, endpoint: &Endpoint) -> NotChosen {
    if !endpoint.is_usable() {
        NotChosen::NotReady
    } else if !port.uses_cluster_endpoints() && !endpoint.local {
        NotChosen::OnAnotherNode
    } else if endpoint.is_terminating_and_serving() {
        NotChosen::OthersReady
    } else {
        NotChosen::HintedElsewhere
    }
}

/// The numbers of endpoints that policy Cluster does not select, by their reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnusedEndpoints {
    /// [`NotChosen::NotReady`].
    pub not_ready: usize,
    /// [`NotChosen::OthersReady`].
    pub others_ready: usize,
    /// [`NotChosen::HintedElsewhere`].
    pub hinted_elsewhere: usize,
}

impl UnusedEndpoints {
    /// The endpoints of a service port that are not in [`Selection::cluster`]. None if the service
    /// port never uses policy Cluster.
    pub fn of(port: &ServicePort, selection: &Selection) -> Self {
        let mut unused = Self::default();
        if !port.uses_cluster_endpoints() || selection.cluster.len() == port.endpoints.len() {
            return unused;
        }
        let mut selected = selection.cluster.iter().peekable();
        for endpoint in &port.endpoints {
            if selected.next_if_eq(&endpoint).is_some() {
                continue;
            }
            match not_chosen(port, endpoint) {
                NotChosen::NotReady => unused.not_ready += 1,
                NotChosen::OthersReady => unused.others_ready += 1,
                NotChosen::HintedElsewhere | NotChosen::OnAnotherNode => {
                    unused.hinted_elsewhere += 1;
                }
            }
        }
        unused
    }

    /// The number of all.
    pub fn count(&self) -> usize {
        self.not_ready.saturating_add(self.others_ready).saturating_add(self.hinted_elsewhere)
    }
}

/// The endpoints that are in one of two lists. Both lists keep the order of `all`.
fn in_either(all: &[Endpoint], one: &[Endpoint], other: &[Endpoint]) -> Vec<Endpoint> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let is_in_either = |endpoint: &&Endpoint| {
        let in_one = one.next_if_eq(endpoint).is_some();
        other.next_if_eq(endpoint).is_some() || in_one
    };
    all.iter().filter(is_in_either).copied().collect()
}

/// Hints apply only if every ready endpoint has one and at least one is for this node. Hints for
/// nodes come before hints for zones.
#[derive(Clone, Copy)]
enum Topology {
    Everywhere,
    SameZone,
    SameNode,
}

impl Topology {
    fn of(endpoints: &[Endpoint]) -> Self {
        let usable = |hint: fn(&Endpoint) -> Hint| {
            let mut hints = endpoints.iter().filter(|endpoint| endpoint.ready).map(hint).peekable();
            let mut here = false;
            hints.all(|hint| {
                here |= hint == Hint::Here;
                hint != Hint::Absent
            }) && here
        };
        if usable(|endpoint| endpoint.node_hint) {
            Topology::SameNode
        } else if usable(|endpoint| endpoint.zone_hint) {
            Topology::SameZone
        } else {
            Topology::Everywhere
        }
    }

    fn allows(self, endpoint: &Endpoint) -> bool {
        match self {
            Topology::Everywhere => true,
            Topology::SameZone => endpoint.zone_hint == Hint::Here,
            Topology::SameNode => endpoint.node_hint == Hint::Here,
        }
    }
}

/// The eligible endpoints that are ready; without ready ones, the endpoints that are terminating and still
/// serve. Hints never leave a service port without ready endpoints. So in the second case policy
/// Cluster has no ready endpoints at all, and hints no longer apply.
fn ready_or_terminating(
    endpoints: &[Endpoint],
    eligible: impl Fn(&Endpoint) -> bool,
) -> Vec<Endpoint> {
    let eligible_with = |condition: fn(&Endpoint) -> bool| -> Vec<Endpoint> {
        endpoints.iter().filter(|e| condition(e) && eligible(e)).copied().collect()
    };
    let ready = eligible_with(|endpoint| endpoint.ready);
    if ready.is_empty() { eligible_with(Endpoint::is_terminating_and_serving) } else { ready }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Objects, SnapshotOptions, read_manifest, snapshot};

    /// A port of node-1 in zone-a, with an endpoint of each kind.
    fn port(policy: &str) -> ServicePort {
        let manifest = format!(
            r#"{{"kind": "Node", "apiVersion": "v1", "metadata": {{"name": "node-1",
            "labels": {{"topology.kubernetes.io/zone": "zone-a"}}}}}}
---
{{"kind": "Service", "apiVersion": "v1", "metadata": {{"name": "web"}},
"spec": {{"clusterIP": "10.96.0.10", "internalTrafficPolicy": "{policy}", "ports": [{{"port": 80}}]}}}}
---
{{"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata":
{{"name": "web-1", "labels": {{"kubernetes.io/service-name": "web"}}}}, "addressType": "IPv4",
"ports": [{{"port": 8080}}], "endpoints": [
{{"addresses": ["10.0.0.1"], "nodeName": "node-1", "hints": {{"forZones": [{{"name": "zone-a"}}]}}}},
{{"addresses": ["10.0.0.2"], "nodeName": "node-2", "hints": {{"forZones": [{{"name": "zone-b"}}]}}}},
{{"addresses": ["10.0.0.3"], "nodeName": "node-1", "conditions": {{"ready": false}}}},
{{"addresses": ["10.0.0.4"], "nodeName": "node-1",
"conditions": {{"ready": false, "serving": true, "terminating": true}}}}]}}"#
        );
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
        let name = Some("node-1".to_owned());
        let options = SnapshotOptions { hostname_override: name, ..SnapshotOptions::default() };
        let (snapshot, _) = snapshot(&objects, &options, &Host::default());
        snapshot.ipv4[0].clone()
    }

    fn reasons(port: &ServicePort) -> Vec<Option<NotChosen>> {
        let reachable = select(port).reachable;
        let reason = |of: &Endpoint| (!reachable.contains(of)).then(|| not_chosen(port, of));
        port.endpoints.iter().map(reason).collect()
    }

    #[test]
    fn unused_endpoints_of_policy_cluster_are_counted_by_reason() {
        let counted = |port: &ServicePort| UnusedEndpoints::of(port, &select(port));
        let one_each = UnusedEndpoints { not_ready: 1, others_ready: 1, hinted_elsewhere: 1 };
        assert_eq!(counted(&port("Cluster")), one_each);
        assert_eq!(counted(&port("Local")).count(), 0);
    }

    #[test]
    fn unused_endpoints_have_reason_of_applied_traffic_policy() {
        let (not_ready, others) = (Some(NotChosen::NotReady), Some(NotChosen::OthersReady));
        let hinted = Some(NotChosen::HintedElsewhere);
        assert_eq!(reasons(&port("Cluster")), [None, hinted, not_ready, others]);
        // Topology hints do not affect policy Local.
        let elsewhere = Some(NotChosen::OnAnotherNode);
        assert_eq!(reasons(&port("Local")), [None, elsewhere, not_ready, others]);
    }
}
