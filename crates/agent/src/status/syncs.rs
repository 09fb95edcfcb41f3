//! A finished sync on the overview.

use std::time::SystemTime;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::format::{Took, When, counted, grouped, wide};
use crate::journal::{SyncRecord, SyncTrigger};
use crate::report::{OperationCounts, Phase};

/// A finished sync, or a series of syncs that failed with the same error.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sync {
    pub(super) finished: When,
    /// The trigger, for people.
    pub(super) cause: String,
    /// The number of Services whose rules changed.
    pub(super) services: usize,
    /// Whether it was a full resync.
    pub(super) full: bool,
    #[serde(rename = "milliseconds")]
    pub(super) took: Took,
    #[serde(rename = "phasesMilliseconds", serialize_with = "by_name")]
    pub(super) phases: Vec<(Phase, Took)>,
    pub(super) added: usize,
    pub(super) deleted: usize,
    pub(super) bytes: usize,
    pub(super) error: Option<String>,
    /// The number of consecutive failures with this error.
    pub(super) attempts: u32,
    pub(super) since: When,
}

impl Sync {
    pub(super) fn of(record: &SyncRecord, now: SystemTime) -> Self {
        let operations = &record.operations;
        let kinds = [operations.elements, operations.rules, operations.chains, operations.sets];
        let sum = |of: fn(&OperationCounts) -> usize| kinds.iter().map(of).sum();
        Self {
            finished: When::new(record.finished, now),
            cause: cause(&record.cause, record.full),
            services: record.services,
            full: record.full,
            took: Took(record.took),
            phases: record.phases.iter().map(|(phase, took)| (*phase, Took(*took))).collect(),
            added: sum(|counts| counts.added),
            deleted: sum(|counts| counts.deleted) + operations.flushed_sets,
            bytes: record.bytes,
            error: record.error.clone(),
            attempts: record.times,
            since: When::new(record.since, now),
        }
    }

    /// What was written, for people.
    pub(super) fn written(&self) -> String {
        let added = (self.added > 0).then(|| format!("+{}", grouped(wide(self.added))));
        let deleted =
            (self.deleted > 0).then(|| format!("\u{2212}{}", grouped(wide(self.deleted))));
        let written: Vec<String> = added.into_iter().chain(deleted).collect();
        if !written.is_empty() {
            return written.join(" ");
        }
        if self.bytes > 0 {
            return format!("{} bytes", grouped(wide(self.bytes)));
        }
        "nothing".to_owned()
    }

    /// The duration of a phase.
    pub(super) fn phase(&self, phase: &Phase) -> String {
        let took = self.phases.iter().find(|(of, _)| of == phase);
        took.map(|(_, took)| took.to_string()).unwrap_or_default()
    }
}

/// The trigger of a sync, for people.
pub(super) fn cause(of: &SyncTrigger, full: bool) -> String {
    let mut causes = Vec::new();
    if of.drift {
        causes.push("changes by other programs".to_owned());
    }
    if of.again {
        causes.push("retry after a failure".to_owned());
    }
    if of.services > 0 {
        causes.push(counted(of.services, "Service", "Services"));
    }
    if of.slices > 0 {
        causes.push(counted(of.slices, "EndpointSlice", "EndpointSlices"));
    }
    match causes.is_empty() {
        false => causes.join(", "),
        true if full => "full resync".to_owned(),
        true => "node or network change".to_owned(),
    }
}

fn by_name<S: serde::Serializer>(
    phases: &[(Phase, Took)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(phases.len()))?;
    for (phase, took) in phases {
        map.serialize_entry(phase.name(), took)?;
    }
    map.end()
}
