//! Drift: changes to the rules by other programs.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::drift::Drift;

/// The number of entries kept.
const KEPT: usize = 200;

/// The number of changes kept per entry: a program may flush a table element by element.
const CHANGES: usize = 20;

/// The changes of one program until they were reverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriftRecord {
    /// The time of the first change.
    pub(crate) at: SystemTime,
    /// The program's name, from /proc/pid/comm (chosen by the program).
    pub(crate) program: String,
    /// Its process id, if the kernel reported it.
    pub(crate) pid: Option<u32>,
    /// Whether name and id are a thread's, because its process could not be looked up.
    pub(crate) is_thread: bool,
    /// The first changes, for people.
    pub(crate) changes: Vec<String>,
    /// The number of further changes.
    pub(crate) more: usize,
    /// The number of commits.
    pub(crate) commits: usize,
    /// How it ended; `None` while the rules are not in sync.
    pub(crate) end: Option<DriftEnd>,
}

/// How drift ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriftEnd {
    /// The changes were reverted.
    Repaired(SystemTime),
    /// There was nothing left to revert.
    Nothing(SystemTime),
}

/// The last entries, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Drifts(VecDeque<DriftRecord>);

impl Drifts {
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &DriftRecord> {
        self.0.iter().rev()
    }

    pub(super) fn add(&mut self, drift: &Drift, at: SystemTime) {
        let pid = drift.pid();
        let open = self.0.back_mut().filter(|last| {
            last.end.is_none() && last.program == drift.program() && last.pid == pid
        });
        if let Some(last) = open {
            last.commits += 1;
            last.take(&drift.changes);
            return;
        }
        self.push(drift, at, None);
    }

    pub(super) fn add_undone(&mut self, drift: &Drift, at: SystemTime) {
        self.push(drift, at, Some(DriftEnd::Repaired(at)));
    }

    fn push(&mut self, drift: &Drift, at: SystemTime, end: Option<DriftEnd>) {
        let (program, pid) = (drift.program().to_owned(), drift.pid());
        let is_thread = drift.is_thread();
        let (changes, more, commits) = (Vec::new(), 0, 1);
        let mut record = DriftRecord { at, program, pid, is_thread, changes, more, commits, end };
        record.take(&drift.changes);
        self.0.push_back(record);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    pub(super) fn end(&mut self, at: SystemTime, has_written: bool) {
        let end = if has_written { DriftEnd::Repaired(at) } else { DriftEnd::Nothing(at) };
        self.0.iter_mut().filter(|record| record.end.is_none()).for_each(|r| r.end = Some(end));
    }
}

impl DriftRecord {
    fn take(&mut self, changes: &[String]) {
        let room = CHANGES.saturating_sub(self.changes.len());
        self.changes.extend(changes.iter().take(room).cloned());
        self.more += changes.len().saturating_sub(room);
    }
}
