//! Reasons in an explanation.

use serde::Serialize;

use crate::words::Code;

/// A reason for a part of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// What it explains.
    pub about: RemarkSubject,
    /// Its code in JSON, which is stable.
    pub code: Code,
    /// The reason as a text, which may change.
    pub text: String,
    /// How to change that, if there is reason to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What a remark explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RemarkSubject {
    /// Which interface the packet comes in through.
    Input,
    /// Which endpoints the policy selects.
    Policy,
    /// How one of them is chosen.
    Choice,
    /// Which source address the endpoint sees.
    Source,
    /// Why the packet is rejected or dropped: there is no usable endpoint.
    NoEndpoints,
    /// Why it is rejected or dropped although there may be endpoints.
    Refusal,
    /// Why no Service matches.
    NoService,
}

impl Remark {
    /// A remark without a remedy.
    pub fn new(about: RemarkSubject, code: Code, text: impl Into<String>) -> Self {
        Self { about, code, text: text.into(), change: None }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }
}
