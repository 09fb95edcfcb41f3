//! Finds Services that a change would remove.

use std::collections::BTreeSet;

use rulegen_model::ObjectKey;
use rulegen_net::{Frontend, ServicePortName};
use rulegen_ruleset::nftables::Actual;

use super::{Frontends, Listing};
use crate::kube_proxy::{CLUSTER_POLICY, EXTERNAL, service_of_chain};

/// Services that the kernel has and the desired rules do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Services that would be removed, as `namespace/name`, ordered.
    pub services: Vec<String>,
    /// Services that would keep their addresses but lose all endpoints, ordered.
    pub endpoints: Vec<String>,
}

impl Loss {
    /// True if nothing would be lost.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty()
    }
}

/// Compares the Services of the kernel with the desired ones. A frontend whose Service the rules do
/// not show is named by its address.
pub fn loss(actual: &Listing, desired: &Listing) -> Loss {
    let desired_names: BTreeSet<ObjectKey> = desired.services.keys().flatten().map(name).collect();
    let actual_names: BTreeSet<ObjectKey> = actual.services.keys().flatten().map(name).collect();
    let mut services: Vec<String> = actual_names.difference(&desired_names).map(spelled).collect();
    services.extend(unnamed(actual, desired));
    let (before, after) = (with_endpoints(actual), with_endpoints(desired));
    let emptied = before.difference(&after).filter(|name| desired_names.contains(*name));
    Loss { services, endpoints: emptied.map(spelled).collect() }
}

/// The Services of kube-proxy's own nftables table, by the names of its chains:
/// `service-2QRHZV4L-default/kubernetes/tcp/https`.
pub fn services_of_kube_proxy(actual: &Actual) -> Vec<ServicePortName> {
    let is_of_one = |chain: &&str| chain.starts_with(CLUSTER_POLICY) || chain.starts_with(EXTERNAL);
    let chains = actual.chains.keys().map(|chain| chain.as_str()).filter(is_of_one);
    chains.filter_map(service_of_chain).collect()
}

fn name(port: &ServicePortName) -> ObjectKey {
    ObjectKey { namespace: port.namespace.clone(), name: port.service.clone() }
}

fn spelled(ObjectKey { namespace, name }: &ObjectKey) -> String {
    format!("{namespace}/{name}")
}

fn unnamed(actual: &Listing, desired: &Listing) -> Vec<String> {
    let Some(frontends) = actual.services.get(&None) else { return Vec::new() };
    let desired: BTreeSet<&Frontend> =
        desired.services.values().flat_map(Frontends::keys).collect();
    let gone = frontends.keys().filter(|frontend| !desired.contains(frontend));
    gone.map(ToString::to_string).collect()
}

fn with_endpoints(listing: &Listing) -> BTreeSet<ObjectKey> {
    let has_some = |frontends: &Frontends| {
        frontends
            .values()
            .any(|traffic| !traffic.endpoints.is_empty() || !traffic.from_node.is_empty())
    };
    let named = listing.services.iter().filter_map(|(name, f)| Some((name.as_ref()?, f)));
    named.filter(|(_, frontends)| has_some(frontends)).map(|(port, _)| name(port)).collect()
}

#[cfg(test)]
mod tests {

    use rulegen_net::{FrontendKind, Protocol};

    use super::super::Traffic;
    use super::*;

    fn listing(services: &[(Option<&str>, &str, bool)]) -> Listing {
        let mut listing = Listing::default();
        for (name, address, has_endpoints) in services {
            let name = name.map(|name| ServicePortName {
                namespace: "shop".into(),
                service: name.into(),
                port: "".into(),
                protocol: Protocol::Tcp,
            });
            let traffic = listing.traffic(
                name,
                Frontend::at_ip(address.parse().unwrap(), Protocol::Tcp, 80),
                FrontendKind::ClusterIP,
            );
            let endpoints = ["10.244.1.1:80".parse().unwrap()];
            *traffic = Traffic::to(FrontendKind::ClusterIP);
            traffic.endpoints = if *has_endpoints { endpoints.into() } else { Vec::new() };
        }
        listing
    }

    #[test]
    fn loss_compares_services_by_name_and_unnamed_by_address() {
        let actual = listing(&[
            (Some("a"), "10.96.0.1", true),
            (Some("b"), "10.96.0.2", true),
            (None, "10.96.0.3", true),
            (None, "10.96.0.4", true),
        ]);
        let desired = listing(&[(Some("a"), "10.96.0.9", true), (Some("c"), "10.96.0.3", true)]);
        let lost = loss(&actual, &desired);
        assert_eq!(lost.services, ["shop/b", "10.96.0.4:80/TCP"]);
        assert!(lost.endpoints.is_empty() && !lost.is_empty());
        assert!(loss(&Listing::default(), &desired).is_empty());
        assert!(loss(&desired, &desired).is_empty());
    }

    #[test]
    fn loss_lists_services_that_lose_all_endpoints() {
        let actual = listing(&[(Some("a"), "10.96.0.1", true), (Some("b"), "10.96.0.2", false)]);
        let desired = listing(&[(Some("a"), "10.96.0.1", false), (Some("b"), "10.96.0.2", false)]);
        assert_eq!(loss(&actual, &desired).endpoints, ["shop/a"]);
    }
}
