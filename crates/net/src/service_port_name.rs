use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::Protocol;

/// One port of one Service. It prints as `namespace/name:port`, or `namespace/name` if the port
/// has no name, as in kube-proxy's comments and hashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The namespace of the Service.
    pub namespace: Arc<str>,
    /// The name of the Service.
    pub service: Arc<str>,
    /// The name of the port, empty if it has none.
    pub port: Arc<str>,
    /// The protocol. Two ports of different protocols may have one name.
    pub protocol: Protocol,
}

impl Display for ServicePortName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}
