//! What others did to our rules.

use rulegen_kernel::nftables::{Commit, Writer};

/// A change to our rules that was not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    /// Who made it, if the kernel told.
    pub(crate) writer: Option<Writer>,
    /// What it did, in words.
    pub(crate) changes: Vec<String>,
}

impl Drift {
    pub(crate) fn of(commit: &Commit) -> Self {
        Self { writer: Some(commit.writer.clone()), changes: commit.changes.clone() }
    }

    /// Events were lost: anything may have happened.
    pub(crate) fn unknown() -> Self {
        Self { writer: None, changes: Vec::new() }
    }

    /// The name of the program that did it.
    pub(crate) fn program(&self) -> &str {
        match &self.writer {
            Some(writer) if !writer.program.is_empty() => &writer.program,
            _ => "unknown",
        }
    }

    pub(crate) fn log(&self) {
        let Some(writer) = &self.writer else {
            return tracing::debug!("the kernel may have changed unseen: all is compared");
        };
        tracing::warn!(
            program = writer.program,
            pid = writer.pid,
            changes = self.changes.join(", "),
            "another program changed our rules"
        );
    }
}
