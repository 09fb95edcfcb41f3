use std::net::SocketAddr;

use serde::Serialize;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// The packet goes to an endpoint.
    Endpoint {
        /// The address of the endpoint.
        endpoint: SocketAddr,
        /// Whether the endpoint sees this node as the sender.
        masqueraded: bool,
    },
    /// No Service matches the packet. It goes on to its destination.
    Passes {
        /// Whether the receiver sees this node as the sender.
        masqueraded: bool,
    },
    /// The packet is rejected with an error, by rules of Services with "port unreachable".
    Rejected,
    /// The packet is dropped.
    Dropped,
    /// The host does not route the packet.
    Unreachable,
}
