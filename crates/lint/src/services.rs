//! Runs the checks of Services, and finds the objects and fields that their findings are about.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use rulegen_compiler::{Contender, FrontendConflict, conflicts};
use rulegen_config::ProxyConfig;
use rulegen_model::{
    Kind, ObjectKey, Objects, Service, Snapshot, Sourced, Unavailability, UnavailableReason,
    unavailable_ports,
};
use rulegen_net::{FrontendKind, Protocol, ServicePortName, parse_address};

use crate::address_claims::frontend_conflict;
use crate::endpoints::unavailable_anywhere;
use crate::ephemeral_ports::{
    DEFAULT_RANGE, EphemeralNodePort, ephemeral_node_ports, in_default_range,
};
use crate::finding::LintFinding;
use crate::references::object_name;
use crate::service_size::too_large;
use crate::source_ranges;

/// The Services and their ports by name.
pub(crate) struct ServiceIndex<'a> {
    services: HashMap<ObjectKey, &'a Sourced<Service>>,
    /// The index of each port in `spec.ports`.
    ports: HashMap<ServicePortName, usize>,
    /// The field of each external and load-balancer IP.
    ip_fields: HashMap<(ObjectKey, FrontendKind, IpAddr), String>,
    /// Whether the input has slices of Services with a selector, as a cluster has.
    has_controlled_slices: bool,
}

impl<'a> ServiceIndex<'a> {
    pub(crate) fn of(objects: &'a Objects) -> Self {
        let (mut services, mut ports) = (HashMap::new(), HashMap::new());
        let (mut selecting, mut ip_fields) = (HashSet::new(), HashMap::new());
        for service in &objects.services {
            let metadata = &service.object.metadata;
            let key = ObjectKey::new(metadata.namespace(), &metadata.name);
            for (n, spec) in service.object.spec.ports.iter().enumerate() {
                let Some(protocol) = Protocol::from_api(spec.protocol.as_deref()) else { continue };
                let name = ServicePortName {
                    namespace: key.namespace.clone(),
                    service: key.name.clone(),
                    port: spec.name.as_str().into(),
                    protocol,
                };
                ports.entry(name).or_insert(n);
            }
            if service.object.spec.has_selector {
                selecting.insert(key.clone());
            }
            for (kind, field, text) in claims(&service.object) {
                if let Some(ip) = parse_address(text) {
                    ip_fields.entry((key.clone(), kind, ip)).or_insert(field);
                }
            }
            services.insert(key, service);
        }
        let has_controlled_slices = objects.slices.iter().any(|slice| {
            let metadata = &slice.object.metadata;
            let service = metadata.labels.service_name.as_deref().unwrap_or_default();
            selecting.contains(&ObjectKey::new(metadata.namespace(), service))
        });
        Self { services, ports, ip_fields, has_controlled_slices }
    }

    /// The findings about Services and their ports.
    pub(crate) fn findings(
        &self,
        objects: &Objects,
        snapshot: &Snapshot,
        config: &ProxyConfig,
    ) -> Vec<LintFinding> {
        let mut findings = Vec::new();
        for conflict in conflicts(snapshot, config) {
            findings.extend(self.conflict(&conflict));
        }
        for unavailability in unavailable_ports(snapshot, objects) {
            findings.extend(self.unavailable(&unavailability));
        }
        for port in ephemeral_node_ports(snapshot, |port| DEFAULT_RANGE.contains(&port)) {
            findings.push(self.ephemeral(&port));
        }
        for (service, size) in &snapshot.too_large {
            findings.push(self.about(too_large(service, size), service));
        }
        findings.extend(source_ranges::of_services(&objects.services));
        findings
    }

    /// A finding for each Service that does not get the traffic.
    fn conflict(&self, conflict: &FrontendConflict) -> Vec<LintFinding> {
        let Some((winner, losers)) = conflict.contenders.split_first() else { return Vec::new() };
        let finding = |loser: &Contender| {
            let FrontendConflict { frontend, families, .. } = conflict;
            let contenders = vec![winner.clone(), loser.clone()];
            let pair =
                FrontendConflict { frontend: *frontend, families: families.clone(), contenders };
            let finding = frontend_conflict(&pair, self.has_controlled_slices)?;
            let field = self.field_of(loser, frontend.ip());
            Some(self.about(finding, &service_of(&loser.port)).field(field))
        };
        losers.iter().filter_map(finding).collect()
    }

    /// `None` if nothing can be said: endpoints are on some nodes, or a controller creates the slices.
    fn unavailable(&self, unavailability: &Unavailability) -> Option<LintFinding> {
        let key = service_of(&unavailability.port);
        let has_selector = self.services.get(&key).is_some_and(|of| of.object.spec.has_selector);
        let is_unknown = unavailability.why == UnavailableReason::NoSlice
            && has_selector
            && !self.has_controlled_slices;
        let finding = unavailable_anywhere(unavailability).filter(|_| !is_unknown)?;
        Some(self.about(finding, &key).field(self.port_field(&unavailability.port)))
    }

    fn ephemeral(&self, port: &EphemeralNodePort) -> LintFinding {
        let field = match port.is_health_check {
            true => FrontendKind::HealthCheckNodePort.field().to_owned(),
            false => format!("{}.nodePort", self.port_field(&port.port)),
        };
        self.about(in_default_range(port), &service_of(&port.port)).field(field)
    }

    /// Sets the object and its source.
    fn about(&self, finding: LintFinding, service: &ObjectKey) -> LintFinding {
        match self.services.get(service) {
            Some(Sourced { source, object }) => {
                finding.about(&object_name(Kind::Service, &object.metadata)).at(Some(source))
            }
            None => finding,
        }
    }

    fn port_field(&self, port: &ServicePortName) -> String {
        match self.ports.get(port) {
            Some(n) => format!("spec.ports[{n}]"),
            None => "spec.ports".to_owned(),
        }
    }

    /// The field that claims an address and port.
    fn field_of(&self, Contender { port, kind, .. }: &Contender, ip: Option<IpAddr>) -> String {
        if *kind == FrontendKind::NodePort {
            return format!("{}.nodePort", self.port_field(port));
        }
        let field = ip.and_then(|ip| self.ip_fields.get(&(service_of(port), *kind, ip)));
        field.cloned().unwrap_or_else(|| kind.field().to_owned())
    }
}

/// The external and load-balancer IPs of a Service, with their fields.
fn claims(service: &Service) -> impl Iterator<Item = (FrontendKind, String, &String)> {
    let external = service.spec.external_ips.iter().enumerate();
    let external =
        external.map(|(n, ip)| (FrontendKind::ExternalIP, format!("spec.externalIPs[{n}]"), ip));
    let ingress = service.status.load_balancer.ingress.iter().enumerate();
    external.chain(ingress.map(|(n, entry)| {
        let field = format!("status.loadBalancer.ingress[{n}].ip");
        (FrontendKind::LoadBalancerIP, field, &entry.ip)
    }))
}

fn service_of(port: &ServicePortName) -> ObjectKey {
    ObjectKey { namespace: Arc::clone(&port.namespace), name: Arc::clone(&port.service) }
}
