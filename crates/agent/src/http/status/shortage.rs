//! Why traffic to a service port goes nowhere, and what would change that.

use rulegen_model::{IpFamily, Offer, ServicePort};
use serde::Serialize;

use super::format::counted;
use super::search::{is_usable, lacks_here, without_endpoints};
use super::services::protocol;

/// The reason, and where to look next.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shortage {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Shortage {
    /// Why no endpoint is chosen for all traffic of a port or for that of policy Local; none if
    /// there are such for all.
    pub(super) fn of(port: &ServicePort, offers: &[Offer]) -> Option<Self> {
        if without_endpoints(port) {
            let (reason, remedy) = nowhere(port, offers);
            return Some(Self { reason, remedy });
        }
        lacks_here(port).then(|| Self {
            reason: format!(
                "{} could answer, but none is on this node, and the policy Local keeps traffic here.",
                counted(port.endpoints.iter().filter(|e| is_usable(e)).count(), "endpoint", "endpoints"),
            ),
            remedy: "Traffic must come in at a node that has endpoints: load balancers learn that \
                     from the health-check node port. Or let the policy be Cluster."
                .to_owned(),
        })
    }
}

fn nowhere(port: &ServicePort, offers: &[Offer]) -> (String, String) {
    if !port.endpoints.is_empty() {
        return not_ready(port);
    }
    let name = &port.name;
    let look = format!(
        "kubectl -n {} get endpointslices -l kubernetes.io/service-name={}",
        name.namespace, name.service
    );
    let family = IpFamily::of(port.cluster_ip);
    let of_family: Vec<&Offer> = offers.iter().filter(|offer| offer.family == family).collect();
    if of_family.is_empty() {
        let others = if offers.is_empty() { "" } else { ", only of the other family" };
        return (
            format!("There is no EndpointSlice of {} for this Service{others}.", family.api_name()),
            format!("Does its selector match any pod? {look}"),
        );
    }
    let is_wanted = |offer: &&Offer| {
        offer.ports.iter().any(|(port, over, _)| **port == *name.port && *over == name.protocol)
    };
    if !of_family.iter().any(is_wanted) {
        return no_such_port(port, &of_family);
    }
    let slices = counted(of_family.len(), "EndpointSlice has", "EndpointSlices have");
    (
        format!("Its {slices} no addresses."),
        format!("Does its selector match any running pod? {look}"),
    )
}

fn no_such_port(port: &ServicePort, offers: &[&Offer]) -> (String, String) {
    let ports = offers.iter().flat_map(|offer| &offer.ports);
    let mut others: Vec<String> =
        ports.map(|(name, over, _)| format!("{:?} ({})", &**name, protocol(*over))).collect();
    others.sort();
    others.dedup();
    others.truncate(10);
    let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    let (name, over) = (&*port.name.port, protocol(port.name.protocol));
    (
        format!("No EndpointSlice has a port named {name:?} over {over}; they have: {others}."),
        "A target port that is a name must be one of a container's port names, with the same \
         protocol."
            .to_owned(),
    )
}

fn not_ready(port: &ServicePort) -> (String, String) {
    let terminating = port.endpoints.iter().filter(|e| e.terminating).count();
    let endpoints = counted(port.endpoints.len(), "endpoint", "endpoints");
    let of_these = if terminating > 0 {
        format!(", {terminating} of them terminating")
    } else {
        String::new()
    };
    (
        format!("There are {endpoints}, and none is ready{of_these}."),
        "Look at the readiness probes of the pods: kubectl describe pod".to_owned(),
    )
}
