//! Changes of Services and of their traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rulegen_model::TrafficPolicy;
use rulegen_net::{Frontend, ServicePortName};

use super::report::{ByOwner, DiffAction, DiffReport, FrontendChange, ServiceDiff, Summary};
use crate::listing::{Compared, Listing, State, Traffic, compare};
use crate::words::{refusal_code, refusal_words};

type FrontendChanges<'a> = BTreeMap<&'a ServicePortName, Vec<FrontendChange>>;

/// Builds the report from the changed frontends and objects.
pub(super) fn report(
    mode: &'static str,
    actual: &Listing,
    desired: &Listing,
    mut objects: ByOwner,
) -> DiffReport {
    let mut frontends = changed_frontends(actual, desired);
    let owners: BTreeSet<ServicePortName> = objects.owners().cloned().collect();
    for name in &owners {
        frontends.entry(name).or_default();
    }
    let services: Vec<ServiceDiff> = frontends
        .into_iter()
        .map(|(name, frontends)| ServiceDiff {
            namespace: name.namespace.clone(),
            name: name.service.clone(),
            port: Some(name.port.clone()).filter(|port| !port.is_empty()),
            protocol: name.protocol.api_name().to_owned(),
            action: action(has(actual, name), has(desired, name)),
            frontends,
            objects: objects.take(Some(name)),
        })
        .collect();
    let summary = summary(&services, actual, desired);
    DiffReport { mode, services, shared: objects.take(None), summary }
}

fn changed_frontends<'a>(actual: &'a Listing, desired: &'a Listing) -> FrontendChanges<'a> {
    let mut changes = FrontendChanges::new();
    for (name, frontends) in compare(actual, desired) {
        // Frontends without an owner: their rules are reported as shared.
        let Some(name) = name else { continue };
        for (frontend, compared) in frontends {
            if compared.state() != State::InSync {
                changes.entry(name).or_default().extend(frontend_change(frontend, &compared));
            }
        }
    }
    changes
}

fn has(listing: &Listing, name: &ServicePortName) -> bool {
    listing.services.contains_key(&Some(name.clone()))
}

fn action(actual: bool, desired: bool) -> DiffAction {
    match (actual, desired) {
        (false, true) => DiffAction::Add,
        (true, false) => DiffAction::Remove,
        _ => DiffAction::Change,
    }
}

/// A Service counts once, even if several of its ports change.
fn summary(services: &[ServiceDiff], actual: &Listing, desired: &Listing) -> Summary {
    let of = |listing: &Listing| -> BTreeSet<(Arc<str>, Arc<str>)> {
        let names = listing.services.keys().flatten();
        names.map(|name| (name.namespace.clone(), name.service.clone())).collect()
    };
    let (actual, desired) = (of(actual), of(desired));
    let changed: BTreeSet<(Arc<str>, Arc<str>)> =
        services.iter().map(|change| (change.namespace.clone(), change.name.clone())).collect();
    let mut summary = Summary::default();
    for service in &changed {
        match action(actual.contains(service), desired.contains(service)) {
            DiffAction::Add => summary.add += 1,
            DiffAction::Change => summary.change += 1,
            DiffAction::Remove => summary.remove += 1,
        }
    }
    summary
}

fn frontend_change(frontend: &Frontend, compared: &Compared<'_>) -> Option<FrontendChange> {
    let traffic = compared.desired.or(compared.actual)?;
    let properties = |traffic: Option<&Traffic>| traffic.map(properties).unwrap_or_default();
    let (actual, desired) = (properties(compared.actual), properties(compared.desired));
    Some(FrontendChange {
        kind: traffic.kind.name(),
        frontend: destination(frontend),
        action: action(compared.actual.is_some(), compared.desired.is_some()),
        removed: without(&actual, &desired),
        added: without(&desired, &actual),
        refused_code: compared.desired.and_then(|traffic| traffic.refusal).map(refusal_code),
    })
}

fn without(these: &[String], those: &[String]) -> Vec<String> {
    let those: BTreeSet<&String> = those.iter().collect();
    these.iter().filter(|this| !those.contains(this)).cloned().collect()
}

fn destination(frontend: &Frontend) -> String {
    match frontend.socket() {
        Some(_) => frontend.to_string(),
        None => format!("*:{}/{}", frontend.port, frontend.protocol.api_name()),
    }
}

/// Describes traffic, one line per property that can change on its own.
fn properties(traffic: &Traffic) -> Vec<String> {
    let mut properties: Vec<String> =
        traffic.endpoints.iter().map(|endpoint| format!("endpoint {endpoint}")).collect();
    properties
        .extend(traffic.from_node.iter().map(|to| format!("endpoint {to} for this node's pods")));
    properties.extend(traffic.refusal.map(|refusal| refusal_words(refusal).to_owned()));
    properties.extend(traffic.policy.map(|policy| match policy {
        TrafficPolicy::Cluster => "policy Cluster".to_owned(),
        TrafficPolicy::Local => "policy Local".to_owned(),
    }));
    let ranges = traffic.source_ranges.iter().flatten();
    properties.extend(ranges.map(|range| format!("source range {range}")));
    properties.extend(traffic.affinity_seconds.map(|s| format!("session affinity {s}s")));
    properties
}
