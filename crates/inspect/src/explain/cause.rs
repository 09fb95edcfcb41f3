use std::net::SocketAddr;

use serde::Serialize;

use crate::words::Code;

/// Why a packet ends otherwise than the rules of Services say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Its code in JSON, which is stable.
    pub code: Code,
    /// The cause as a sentence, which may change.
    pub text: String,
    /// The endpoint to which the packet would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The table with its family, if a rule or policy is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The rule, or the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}
