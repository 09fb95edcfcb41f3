//! The report of changes, as data. The field names are stable across versions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rulegen_net::ServicePortName;
use serde::Serialize;

/// All changes, in both families.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// `iptables` or `nftables`.
    pub(super) mode: &'static str,
    /// Service ports that change, ordered by name.
    pub(super) services: Vec<ServiceChange>,
    /// Parts of the ruleset without an owner, or with an unknown owner.
    pub(super) shared: Vec<ObjectChange>,
    pub(super) summary: Summary,
}

/// Numbers of Services.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) add: usize,
    pub(super) change: usize,
    pub(super) remove: usize,
}

/// What happens to a Service port or frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    Add,
    Change,
    Remove,
}

/// A service port that changes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceChange {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    /// Absent for an unnamed port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<Arc<str>>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    pub(super) action: Action,
    /// Frontends whose traffic changes.
    pub(super) frontends: Vec<FrontendChange>,
    /// The rules and elements concerned.
    pub(super) objects: Vec<ObjectChange>,
}

/// A frontend whose traffic changes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendChange {
    pub(super) kind: &'static str,
    /// Address, port and protocol; `*` for all addresses of node ports.
    pub(super) frontend: String,
    pub(super) action: Action,
    /// Removed endpoints and properties.
    pub(super) removed: Vec<String>,
    /// Added endpoints and properties.
    pub(super) added: Vec<String>,
}

/// A chain, set or table that changes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectChange {
    /// Family, table and name.
    pub(super) object: String,
    /// How it changes: `changed`, `new chain`, `deleted` and the like.
    pub(super) change: &'static str,
    /// Removed rules or elements.
    pub(super) removed: Vec<String>,
    /// Added rules or elements.
    pub(super) added: Vec<String>,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.shared.is_empty()
    }
}

/// Changes to objects in order, each object once.
#[derive(Default)]
struct Objects {
    objects: Vec<ObjectChange>,
    known: HashMap<String, usize>,
}

impl Objects {
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
pub(super) struct ByOwner(BTreeMap<Option<ServicePortName>, Objects>);

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
