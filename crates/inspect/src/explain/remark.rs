//! Reasons in an explanation.

use std::net::SocketAddr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::no_address::UnresolvedService;
use super::reason::{Reason, RemarkSubject};

/// A reason for a part of an explanation. Its text may change, its code does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it explains.
    pub about: RemarkSubject,
    /// What the remark says, with the values that its sentence names.
    pub reason: Reason,
    /// The endpoints that it is about; empty if it is about all.
    pub endpoints: Vec<SocketAddr>,
}

impl Remark {
    /// A remark about all endpoints, or none.
    pub fn new(about: RemarkSubject, reason: Reason) -> Self {
        Self { about, reason, endpoints: Vec::new() }
    }

    /// Its code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// How to change that, if there is reason to.
    pub fn change(&self) -> Option<String> {
        self.reason.change()
    }
}

impl From<UnresolvedService> for Remark {
    fn from(unresolved: UnresolvedService) -> Self {
        Self::new(RemarkSubject::NoService, Reason::Unresolved(unresolved))
    }
}

impl Serialize for Remark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let change = self.change();
        let mut remark = serializer.serialize_struct("Remark", 4)?;
        remark.serialize_field("about", &self.about)?;
        remark.serialize_field("code", self.code())?;
        remark.serialize_field("text", &self.to_string())?;
        match change {
            Some(change) => remark.serialize_field("change", &change)?,
            None => remark.skip_field("change")?,
        }
        remark.end()
    }
}
