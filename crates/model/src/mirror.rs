//! Creates EndpointSlices from Endpoints objects, like the endpointslice-mirroring controller.
//!
//! Endpoints of a Service without a selector are created manually, often as an Endpoints object. In
//! a cluster the controller mirrors it to EndpointSlices, and a proxy watches only these. Manifests
//! that were never applied to a cluster have only the Endpoints object.

use std::collections::HashSet;
use std::sync::Arc;

use crate::object::{
    EndpointAddress, EndpointConditions, EndpointSlice, EndpointSubset, Endpoints,
    EndpointsMetadata, Labels, Metadata, SliceEndpoint,
};
use crate::objects::{Objects, Sourced};
use crate::problem::{ObjectName, Problem, Source};
use crate::problem_code::ProblemCode;

/// Maximum number of addresses per subset that the controller mirrors.
const MAX_ADDRESSES: usize = 1000;

impl EndpointsMetadata {
    /// The namespace; `default` if it is empty.
    pub(crate) fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

/// Replaces Endpoints by the EndpointSlices that the controller would create. Endpoints that it does not
/// mirror are counted as ignored objects.
pub(crate) fn mirror(objects: &mut Objects) -> Vec<Problem> {
    let mut problems = Vec::new();
    let all = std::mem::take(&mut objects.endpoints);
    let without_selector: HashSet<(&str, &str)> = objects
        .services
        .iter()
        .map(|service| &service.object)
        .filter(|service| !service.spec.has_selector)
        .map(|service| (service.metadata.namespace(), service.metadata.name.as_str()))
        .collect();
    let (mirrored, ignored): (Vec<_>, Vec<_>) = all.into_iter().partition(|endpoints| {
        let metadata = &endpoints.object.metadata;
        without_selector.contains(&(metadata.namespace(), metadata.name.as_str()))
            && metadata.labels.skip_mirror.as_deref() != Some("true")
            && metadata.annotations.leader.is_none()
    });
    for Sourced { source, object } in mirrored {
        objects.slices.extend(slices(&source, &object, &mut problems));
    }
    if !ignored.is_empty() {
        *objects.ignored.entry("Endpoints".to_owned()).or_default() += ignored.len();
    }
    problems
}

fn slices(
    source: &Arc<Source>,
    endpoints: &Endpoints,
    problems: &mut Vec<Problem>,
) -> Vec<Sourced<EndpointSlice>> {
    let mut slices = Vec::new();
    for (n, subset) in endpoints.subsets.iter().enumerate() {
        let size = subset.addresses.len() + subset.not_ready_addresses.len();
        if size > MAX_ADDRESSES {
            let message = format!(
                "{size} addresses, using the first {MAX_ADDRESSES} like the mirroring controller; \
                 EndpointSlices have no such limit"
            );
            problems.push(
                Problem::warning(format!("subsets[{n}]"), message)
                    .code(ProblemCode::TooManyAddresses)
                    .of(source, &name(&endpoints.metadata)),
            );
        }
        for address_type in ["IPv4", "IPv6"] {
            let of_type: Vec<SliceEndpoint> = addresses(subset)
                .filter(|(address, _)| is_of(address, address_type))
                .map(|(address, ready)| endpoint(address, ready))
                .collect();
            if !of_type.is_empty() {
                let number = slices.len();
                let object = slice(endpoints, subset, address_type, number, of_type);
                slices.push(Sourced { source: source.clone(), object });
            }
        }
    }
    slices
}

fn name(metadata: &EndpointsMetadata) -> ObjectName {
    let namespace = metadata.namespace().to_owned();
    ObjectName { kind: "Endpoints", namespace, name: metadata.name.clone() }
}

/// The addresses of a subset, and whether they are ready.
fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().map(|address| (address, true));
    ready
        .chain(subset.not_ready_addresses.iter().map(|address| (address, false)))
        .take(MAX_ADDRESSES)
}

/// An invalid address counts as IPv4; validation of the slice reports it.
fn is_of(address: &EndpointAddress, address_type: &str) -> bool {
    address.ip.contains(':') == (address_type == "IPv6")
}

fn endpoint(address: &EndpointAddress, ready: bool) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![address.ip.clone()],
        conditions: EndpointConditions { ready: Some(ready), ..EndpointConditions::default() },
        node_name: address.node_name.clone(),
        ..SliceEndpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    subset: &EndpointSubset,
    address_type: &str,
    number: usize,
    of_type: Vec<SliceEndpoint>,
) -> EndpointSlice {
    let metadata = &endpoints.metadata;
    EndpointSlice {
        metadata: Metadata {
            name: format!("{}-mirrored-{number}", metadata.name),
            namespace: metadata.namespace().to_owned(),
            labels: Labels {
                service_name: Some(metadata.name.as_str().into()),
                headless: metadata.labels.headless.clone(),
                ..Labels::default()
            },
            ..Metadata::default()
        },
        address_type: address_type.to_owned(),
        endpoints: of_type,
        ports: subset.ports.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_manifest;

    fn mirrored(service: &str, endpoints: &str) -> (Objects, Vec<Problem>) {
        let text = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"db\"}},\"spec\":{service}}}\n\
             {{\"apiVersion\":\"v1\",\"kind\":\"Endpoints\",\"metadata\":{endpoints}}}"
        );
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
        let problems = mirror(&mut objects);
        (objects, problems)
    }

    const SUBSETS: &str = r#""subsets": [
        {"addresses": [{"ip": "192.0.2.1", "nodeName": "a"}, {"ip": "2001:db8::1"}],
         "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"name": "p", "port": 5432}]},
        {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 1, "protocol": "UDP"}]}]"#;

    #[test]
    fn mirrored_endpoints_give_one_slice_per_subset_and_ip_family() {
        let endpoints = format!("{{\"name\": \"db\"}}, {SUBSETS}");
        let (objects, problems) = mirrored("{}", &endpoints);
        assert_eq!(problems, []);
        let summary = |slice: &EndpointSlice| {
            let endpoint = |e: &SliceEndpoint| {
                format!(
                    "{}{}",
                    e.addresses[0],
                    if e.conditions.ready == Some(true) { "" } else { "!" }
                )
            };
            let endpoints: Vec<String> = slice.endpoints.iter().map(endpoint).collect();
            let port = &slice.ports[0];
            (slice.address_type.clone(), endpoints.join(" "), port.name.clone(), port.port)
        };
        let slices: Vec<_> = objects.slices.iter().map(|slice| summary(&slice.object)).collect();
        let expected = [
            ("IPv4", "192.0.2.1 192.0.2.2!", "p", 5432),
            ("IPv6", "2001:db8::1", "p", 5432),
            ("IPv4", "192.0.2.3", "", 1),
        ];
        let expected: Vec<_> =
            expected.map(|(t, e, n, p)| (t.to_owned(), e.to_owned(), n.to_owned(), Some(p))).into();
        assert_eq!(slices, expected);
        assert_eq!(objects.slices[0].object.service_name(), Some("db"));
        assert_eq!(objects.slices[0].object.endpoints[0].node_name.as_deref(), Some("a"));
        assert!(objects.ignored.is_empty());
    }

    #[test]
    fn mirrored_endpoints_skip_selector_skip_mirror_and_leader() {
        let plain = format!("{{\"name\": \"db\"}}, {SUBSETS}");
        let skipped = format!(
            "{{\"name\": \"db\", \"labels\": {{\"endpointslice.kubernetes.io/skip-mirror\": \"true\"}}}}, {SUBSETS}"
        );
        let leader = format!(
            "{{\"name\": \"db\", \"annotations\": {{\"control-plane.alpha.kubernetes.io/leader\": \"x\"}}}}, {SUBSETS}"
        );
        let without_service = format!("{{\"name\": \"other\"}}, {SUBSETS}");
        for (service, endpoints) in [
            (r#"{"selector": {"app": "db"}}"#, &plain),
            ("{}", &skipped),
            ("{}", &leader),
            ("{}", &without_service),
        ] {
            let (objects, problems) = mirrored(service, endpoints);
            assert_eq!((objects.slices.len(), problems.len()), (0, 0), "{service} {endpoints}");
            assert_eq!(objects.ignored.get("Endpoints"), Some(&1), "{service} {endpoints}");
        }
        for service in [r#"{"selector": {}}"#, r#"{"selector": null}"#] {
            assert_eq!(mirrored(service, &plain).0.slices.len(), 3, "{service}");
        }
    }

    #[test]
    fn mirrored_endpoints_have_at_most_1000_addresses_per_subset() {
        let addresses: Vec<String> =
            (0..1001).map(|n| format!(r#"{{"ip": "192.0.{}.{}"}}"#, n / 250, n % 250)).collect();
        let endpoints = format!(
            "{{\"name\": \"db\"}}, \"subsets\": [{{\"addresses\": [{}], \"ports\": [{{\"port\": 1}}]}}]",
            addresses.join(",")
        );
        let (objects, problems) = mirrored("{}", &endpoints);
        assert_eq!(objects.slices[0].object.endpoints.len(), 1000);
        let text = problems[0].to_string();
        assert!(text.contains("Endpoints default/db: subsets[0]: 1001 addresses"), "{text}");
    }
}
