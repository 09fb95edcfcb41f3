//! A reason that an explanation gives.

use serde::Serialize;

use crate::words::Code;

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// What it is a reason for.
    pub about: About,
    /// The reason's code, which is stable.
    pub code: Code,
    /// The reason, in words.
    pub text: String,
    /// What would make it otherwise, if anything should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// Which endpoints come into question.
    Policy,
    /// How one of them is chosen.
    Choice,
    /// Whom the endpoint sees as the sender.
    Source,
    /// Why the packet is refused: there is no usable endpoint.
    NoEndpoints,
    /// Why it goes nowhere though there may be some.
    Refusal,
    /// Why no Service takes it.
    NoService,
}

impl Remark {
    /// A reason for something that need not be otherwise.
    pub fn new(about: About, code: Code, text: impl Into<String>) -> Self {
        Self { about, code, text: text.into(), change: None }
    }

    /// The same with what would change it.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }
}
