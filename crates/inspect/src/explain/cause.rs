use std::net::SocketAddr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::reason::Reason;

/// Why a packet ends otherwise than the rules of Services say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What makes the difference, such as a rule of another program or a missing route.
    pub reason: Reason,
    /// The endpoint to which the packet would go.
    pub endpoint: Option<SocketAddr>,
}

impl Cause {
    /// Its code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }
}

/// With the table, chain and rule, if a rule or policy is the cause.
impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut cause = serializer.serialize_struct("Cause", 6)?;
        cause.serialize_field("code", self.code())?;
        cause.serialize_field("text", &self.reason.to_string())?;
        match &self.endpoint {
            Some(endpoint) => cause.serialize_field("endpoint", endpoint)?,
            None => cause.skip_field("endpoint")?,
        }
        if let Some(by) = self.reason.table_rule() {
            cause.serialize_field("table", &by.table)?;
            cause.serialize_field("chain", &*by.hit.chain)?;
            cause.serialize_field("rule", &by.hit.rule)?;
        }
        cause.end()
    }
}
