//! The parts that all pages share.

use super::Status;

/// The header of a page.
pub(super) struct Frame {
    pub(super) title: String,
    /// The path of the section that the page belongs to.
    pub(super) here: &'static str,
    pub(super) node: String,
    pub(super) mode: &'static str,
    pub(super) version: String,
}

impl Frame {
    pub(super) fn of(status: &Status, here: &'static str, title: String) -> Self {
        Self {
            title,
            here,
            node: status.known.store.read().node().name.clone(),
            mode: status.about.mode.word(),
            version: status.about.version.clone(),
        }
    }

    /// The sections for the navigation: path, name, and whether it is the current one.
    pub(super) fn sections(&self) -> [(&'static str, &'static str, bool); 4] {
        let sections = [
            ("/", "Overview"),
            ("/services", "Services"),
            ("/explain", "Explain"),
            ("/drift", "Drift"),
        ];
        sections.map(|(path, name)| (path, name, path == self.here))
    }
}

impl Status {
    /// The head of one of its pages.
    pub(super) fn frame(&self, here: &'static str, title: impl Into<String>) -> Frame {
        Frame::of(self, here, title.into())
    }
}
