//! What others did to our rules.

use std::time::Duration;

use rulegen_kernel::nftables::{Commit, Writer};

/// A change to our rules that was not ours, or what may have been one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    /// Who made it, if the kernel told.
    pub(crate) writer: Option<Writer>,
    /// What it did, in words.
    pub(crate) changes: Vec<String>,
    /// Whether our rules did change.
    pub(crate) certain: bool,
}

impl Drift {
    pub(crate) fn of(commit: &Commit) -> Self {
        let changes = commit.changes.iter().map(ToString::to_string).collect();
        let writer = Some(commit.writer.clone());
        Self { writer, changes, certain: true }
    }

    /// Events were lost: anything may have happened, and mostly nothing did.
    pub(crate) fn unknown() -> Self {
        Self::suspected(None)
    }

    /// Somebody changed something near our rules, or nobody tells who changes what: all is to be
    /// compared.
    pub(crate) fn suspected(writer: Option<Writer>) -> Self {
        Self { writer, changes: Vec::new(), certain: false }
    }

    /// The name of the program that did it.
    pub(crate) fn program(&self) -> &str {
        match &self.writer {
            Some(writer) if !writer.program.is_empty() => &writer.program,
            _ => "unknown",
        }
    }

    /// Who did it, in words.
    pub(crate) fn whose(&self) -> String {
        let pid = self.pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        format!("{}{pid}", self.program())
    }

    /// The process that did it, if the kernel told.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.writer.as_ref().map(|writer| writer.pid).filter(|pid| *pid != 0)
    }

    /// Whether the process is that of a thread whose process could not be looked up.
    pub(crate) fn is_thread(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_thread)
    }

    /// Somebody made rules of another mode, which were removed.
    pub(crate) fn log_of_other_mode(&self) {
        tracing::warn!(
            program = self.program(),
            pid = self.pid(),
            thread = self.is_thread().then_some(true),
            removed = self.changes.join("; "),
            "removed rules of another proxy mode made by another program"
        );
    }

    /// They are made again each time.
    pub(crate) fn log_truce(&self, pause: Duration) {
        tracing::error!(
            program = self.program(),
            pid = self.pid(),
            thread = self.is_thread().then_some(true),
            seconds = pause.as_secs(),
            "another program keeps recreating rules of another proxy mode; pausing removal, \
             both rule sets are active; stop that program"
        );
    }

    pub(crate) fn log(&self) {
        if !self.certain || (self.writer.is_none() && self.changes.is_empty()) {
            return tracing::debug!(
                program = self.program(),
                "ruleset may have changed unnoticed, doing a full resync"
            );
        }
        tracing::warn!(
            program = self.program(),
            pid = self.pid(),
            thread = self.is_thread().then_some(true),
            changes = self.changes.join(", "),
            "another program changed our rules"
        );
    }
}
