//! `/drift`: changes to the rules by other programs.

use std::time::SystemTime;

use askama::Template;
use rulegen_os::printable::{program_name, visible};
use serde::Serialize;

use super::Status;
use super::format::{Took, When};
use super::frame::Frame;
use crate::journal::{DriftEnd, DriftRecord};

#[derive(Template, Serialize)]
#[template(path = "status/drift.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct DriftPage {
    #[serde(skip)]
    frame: Frame,
    drifts: Vec<DriftRow>,
}

impl DriftPage {
    pub(super) fn of(status: &Status, now: SystemTime) -> Self {
        let frame = status.frame("/drift", "Drift");
        let rows = |pages: &mut crate::journal::JournalPages| {
            pages.drifts.newest_first().map(|record| DriftRow::of(record, now)).collect()
        };
        Self { frame, drifts: status.journal.with(rows) }
    }
}

/// The changes of one program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DriftRow {
    pub(super) at: When,
    pub(super) program: String,
    pub(super) pid: Option<u32>,
    /// Whether `pid` may be the id of a thread.
    pub(super) thread: bool,
    pub(super) commits: usize,
    pub(super) changes: Vec<String>,
    pub(super) more_changes: usize,
    /// Whether the rules are in sync again.
    pub(super) over: bool,
    /// Whether something had to be written for that.
    pub(super) repaired: bool,
    #[serde(rename = "durationMilliseconds")]
    pub(super) lasted: Option<Took>,
}

impl DriftRow {
    pub(super) fn of(record: &DriftRecord, now: SystemTime) -> Self {
        let end = record.end.map(|end| match end {
            DriftEnd::Repaired(at) | DriftEnd::Nothing(at) => at,
        });
        let lasted = end.map(|end| Took(end.duration_since(record.at).unwrap_or_default()));
        Self {
            at: When::new(record.at, now),
            program: program_name(&record.program).into_owned(),
            pid: record.pid,
            thread: record.is_thread,
            commits: record.commits,
            changes: record.changes.iter().map(|text| visible(text).into_owned()).collect(),
            more_changes: record.more,
            over: record.end.is_some(),
            repaired: matches!(record.end, Some(DriftEnd::Repaired(_))),
            lasted,
        }
    }

    /// Limits the number of changes shown.
    pub(super) fn with_changes(mut self, most: usize) -> Self {
        self.more_changes += self.changes.len().saturating_sub(most);
        self.changes.truncate(most);
        self
    }

    /// How the drift ended, for people.
    pub(super) fn end(&self) -> String {
        match (&self.lasted, self.repaired) {
            (None, _) => "not repaired yet".to_owned(),
            (Some(lasted), true) => format!("repaired after {lasted}"),
            (Some(lasted), false) => format!("nothing to repair after {lasted}"),
        }
    }
}
