//! Facts about this process for `/statusz`, `/flagz`, `/configz` and the status page.

use std::time::{Instant, SystemTime};

use rulegen_config::ProxyMode;
use serde_json::Value;

/// The process and its settings.
#[derive(Debug, Clone)]
pub(crate) struct ProcessInfo {
    /// The name of the node.
    pub(crate) node: String,
    /// The proxy mode in effect.
    pub(crate) mode: ProxyMode,
    /// The configuration in effect, as a KubeProxyConfiguration v1alpha1.
    pub(crate) configuration: Value,
    /// All flags with their values.
    pub(crate) flags: Vec<(String, String)>,
    /// The version of the program.
    pub(crate) version: String,
    /// The start of the process.
    pub(crate) started: SystemTime,
    /// The start of the process by the monotonic clock.
    pub(crate) started_at: Instant,
}
