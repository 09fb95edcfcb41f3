//! Changes to rulegen's rules by other programs.

use std::time::Duration;

use rulegen_kernel::nftables::{Commit, Writer};

/// A change, or a possible change, by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    /// The writer, if the kernel reported it.
    pub(crate) writer: Option<Writer>,
    /// The changes, for people.
    pub(crate) changes: Vec<String>,
    /// Whether the rules were changed for certain.
    pub(crate) certain: bool,
}

impl Drift {
    /// The drift that a foreign commit caused.
    pub(crate) fn of(commit: &Commit) -> Self {
        let changes = commit.changes.iter().map(ToString::to_string).collect();
        let writer = Some(commit.writer.clone());
        Self { writer, changes, certain: true }
    }

    /// Events were lost. Usually nothing changed, but a comparison is needed.
    pub(crate) fn unknown() -> Self {
        Self::suspected(None)
    }

    /// A program changed something near the rules, or the kernel does not report details: a
    /// comparison is needed.
    pub(crate) fn suspected(writer: Option<Writer>) -> Self {
        Self { writer, changes: Vec::new(), certain: false }
    }

    /// The program's name.
    pub(crate) fn program(&self) -> &str {
        match &self.writer {
            Some(writer) if !writer.program.is_empty() => &writer.program,
            _ => "unknown",
        }
    }

    /// The program and its pid, for people.
    pub(crate) fn whose(&self) -> String {
        let pid = self.pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        format!("{}{pid}", self.program())
    }

    /// The process id, if the kernel reported it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.writer.as_ref().map(|writer| writer.pid).filter(|pid| *pid != 0)
    }

    /// Whether the id is a thread's, because its process could not be looked up.
    pub(crate) fn is_thread(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_thread)
    }

    /// Logs the removal of rules of another proxy mode.
    pub(crate) fn log_of_other_mode(&self) {
        tracing::warn!(
            program = self.program(),
            pid = self.pid(),
            thread = self.is_thread().then_some(true),
            removed = self.changes.join("; "),
            "removed rules of another proxy mode made by another program"
        );
    }

    /// Logs that the removal pauses because another program keeps recreating the rules.
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

    /// Logs drift of the rules.
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
