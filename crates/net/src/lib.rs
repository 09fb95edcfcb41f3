//! The network terms that all crates share: address families, protocols, frontends, service port
//! names.
//!
//! Each concept has one type here, so no crate converts between its own copies. Does not depend on
//! Kubernetes objects, rules or kernels. Pure: only parsers can fail.

mod address;
mod frontend;
mod ip_family;
mod per_family;
mod protocol;
mod service_port_name;
mod service_ref;

pub use address::{parse_address, parse_network, special_use};
pub use frontend::{Frontend, FrontendAddress, FrontendKind};
pub use ip_family::IpFamily;
pub use per_family::PerFamily;
pub use protocol::Protocol;
pub use service_port_name::ServicePortName;
pub use service_ref::{InvalidServiceRef, ServiceRef};
