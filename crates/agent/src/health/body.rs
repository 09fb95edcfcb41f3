//! The bodies of health responses, in kube-proxy's format.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

/// kube-proxy's body of `/healthz` and `/livez` (pkg/proxy/healthcheck/proxy_health.go).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProxyHealth {
    pub(super) last_updated: String,
    pub(super) current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_eligible: Option<bool>,
    pub(super) healthy: bool,
    pub(super) status: BTreeMap<&'static str, FamilyHealth>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FamilyHealth {
    pub(super) last_updated: String,
    pub(super) healthy: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Readiness {
    pub(super) current_time: String,
    pub(super) ready: bool,
    pub(super) source_in_sync: bool,
    pub(super) missing: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// Serialising text and booleans cannot fail.
pub(super) fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

/// Go's zero time if there was no sync, as in kube-proxy.
pub(super) fn time_of_sync(synced: Option<SystemTime>) -> String {
    synced.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), time)
}

/// RFC 3339 with as many fraction digits as needed, as in Go.
pub(super) fn time(wall: SystemTime) -> String {
    Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
