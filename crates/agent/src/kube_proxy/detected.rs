//! How kube-proxy was detected.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, SocketAddr};

use rulegen_os::process::Process;

/// kube-proxy's default metrics address.
pub(super) const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// How kube-proxy was detected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Detected {
    /// A process named kube-proxy in this network namespace.
    Process(Process),
    /// A response from `/proxyMode`. In k3s kube-proxy is part of another process, and from a
    /// container its process is not visible.
    Mode(&'static str),
}

impl Display for Detected {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Detected::Process(process) => write!(f, "{process}"),
            Detected::Mode(mode) => write!(f, "{METRICS} answers /proxyMode with {mode}"),
        }
    }
}
