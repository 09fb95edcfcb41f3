//! The changes between two rulesets, as data. The field names are stable across versions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rulegen_net::ServicePortName;
use serde::Serialize;

/// The changes from one ruleset to another, by Service. As JSON it is what `rulegen diff -o json`
/// prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffReport {
    /// `iptables` or `nftables`.
    pub mode: &'static str,
    /// Service ports that change, ordered by name.
    pub services: Vec<ServiceDiff>,
    /// Parts of the ruleset without an owner, or with an unknown owner.
    pub shared: Vec<ObjectChange>,
    /// How many Services change.
    pub summary: Summary,
}

/// Numbers of Services. A Service counts once, even if several of its ports change.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Services that have rules only afterwards.
    pub add: usize,
    /// Services that have rules before and afterwards.
    pub change: usize,
    /// Services that have rules only before.
    pub remove: usize,
}

/// What happens to a Service port or frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DiffAction {
    /// It has rules only afterwards.
    Add,
    /// It has rules before and afterwards, but others.
    Change,
    /// It has rules only before.
    Remove,
}

/// A service port that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDiff {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub name: Arc<str>,
    /// Name of the port; absent for an unnamed port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Arc<str>>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// What happens to the service port.
    pub action: DiffAction,
    /// Frontends whose traffic changes.
    pub frontends: Vec<FrontendChange>,
    /// The rules and elements concerned.
    pub objects: Vec<ObjectChange>,
}

/// A frontend whose traffic changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendChange {
    /// Kind of the address: `clusterIP`, `nodePort` and the like.
    pub kind: &'static str,
    /// Address, port and protocol; `*` for all addresses of node ports.
    pub frontend: String,
    /// What happens to the frontend.
    pub action: DiffAction,
    /// Removed endpoints and properties.
    pub removed: Vec<String>,
    /// Added endpoints and properties.
    pub added: Vec<String>,
    /// Code of the reason for which the desired rules refuse its traffic: `no-endpoints` or
    /// `no-local-endpoints`. `None` if they forward it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_code: Option<&'static str>,
}

/// A chain, set or table that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// Family, table and name.
    pub object: String,
    /// How it changes: `changed`, `new chain`, `deleted` and the like.
    pub change: &'static str,
    /// Removed rules or elements.
    pub removed: Vec<String>,
    /// Added rules or elements.
    pub added: Vec<String>,
}

impl DiffReport {
    /// True if the rulesets are equal.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.shared.is_empty()
    }
}

/// Changes to objects in order, each object once.
#[derive(Default)]
struct MergedObjectChanges {
    objects: Vec<ObjectChange>,
    known: HashMap<String, usize>,
}

impl MergedObjectChanges {
    /// The change of an object, added if it is new.
    fn at(&mut self, object: String, change: &'static str) -> Option<&mut ObjectChange> {
        let Self { objects, known } = self;
        let at = *known.entry(object).or_insert_with_key(|object| {
            let (removed, added) = (Vec::new(), Vec::new());
            objects.push(ObjectChange { object: object.clone(), change, removed, added });
            objects.len() - 1
        });
        let object = objects.get_mut(at)?;
        object.change = match (object.change, change) {
            (known, CHANGED) => known,
            ("deleted", made) if made.starts_with("new") => "recreated",
            (CHANGED | "emptied", change) => change,
            (known, _) => known,
        };
        Some(object)
    }
}

/// Change of an object that exists before and after.
pub(super) const CHANGED: &str = "changed";

/// Changes to objects by owner; `None` for shared objects.
#[derive(Default)]
pub(super) struct ByOwner(BTreeMap<Option<ServicePortName>, MergedObjectChanges>);

impl ByOwner {
    /// Adds a change without a rule or element.
    pub(super) fn note(
        &mut self,
        owner: Option<ServicePortName>,
        object: String,
        change: &'static str,
    ) {
        self.0.entry(owner).or_default().at(object, change);
    }

    /// Adds a rule or element that is added or removed.
    pub(super) fn line(
        &mut self,
        owner: Option<ServicePortName>,
        (object, change): (String, &'static str),
        comes: bool,
        text: String,
    ) {
        if let Some(object) = self.0.entry(owner).or_default().at(object, change) {
            if comes { object.added.push(text) } else { object.removed.push(text) }
        }
    }

    pub(super) fn take(&mut self, owner: Option<&ServicePortName>) -> Vec<ObjectChange> {
        self.0.remove(&owner.cloned()).unwrap_or_default().objects
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &ServicePortName> {
        self.0.keys().flatten()
    }
}
