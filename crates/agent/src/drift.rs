//! What others did to our rules.

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

    pub(crate) fn log(&self) {
        if !self.certain || (self.writer.is_none() && self.changes.is_empty()) {
            return tracing::debug!(
                program = self.program(),
                "the kernel may have changed unseen: all is compared"
            );
        }
        tracing::warn!(
            program = self.program(),
            pid = self.writer.as_ref().map(|writer| writer.pid),
            changes = self.changes.join(", "),
            "another program changed our rules"
        );
    }
}
