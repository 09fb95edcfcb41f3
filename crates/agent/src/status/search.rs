//! Which Services are looked for.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use rulegen_model::{Endpoint, ObjectKey, ServicePort, TrafficPolicy};

use super::query::{Query, Show};

/// What a Service must have.
pub(super) struct Search<'a> {
    namespace: &'a str,
    show: Show,
    terms: Vec<Term>,
}

/// A word of what is looked for; all must be found.
enum Term {
    /// An address with a port.
    Socket(SocketAddr),
    /// An address, whole.
    Address(IpAddr),
    /// A port, or part of a name.
    Port(u16, String),
    /// Part of an address, or of a name.
    AddressOrName(String),
    /// Part of `namespace/name`.
    Name(String),
}

impl<'a> Search<'a> {
    pub(super) fn of(query: &'a Query) -> Self {
        let terms = query.text.split_whitespace().map(Term::of).collect();
        Self { namespace: &query.namespace, show: query.show, terms }
    }

    pub(super) fn finds(&self, key: &ObjectKey, ports: &[ServicePort]) -> bool {
        let is_shown = match self.show {
            Show::All => true,
            Show::WithoutEndpoints => ports.iter().any(without_endpoints),
            Show::NoneHere => ports.iter().any(lacks_here),
            Show::Outside => ports.iter().any(ServicePort::externally_accessible),
        };
        is_shown
            && (self.namespace.is_empty() || *key.namespace == *self.namespace)
            && self.terms.iter().all(|term| term.is_in(key, ports))
    }
}

impl Term {
    fn of(word: &str) -> Self {
        let word = word.to_lowercase();
        let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
        let number = word.strip_prefix(':').unwrap_or(&word);
        if let Ok(socket) = word.parse() {
            Term::Socket(socket)
        } else if let Ok(address) = word.parse() {
            Term::Address(address)
        } else if let Ok(port) = number.parse() {
            Term::Port(port, word)
        } else if word.chars().all(is_part) {
            Term::AddressOrName(word)
        } else {
            Term::Name(word)
        }
    }

    fn is_in(&self, key: &ObjectKey, ports: &[ServicePort]) -> bool {
        match self {
            Term::Socket(socket) => ports.iter().any(|port| has_socket(port, socket)),
            Term::Address(address) => {
                ports.iter().any(|port| all_addresses(port).any(|ip| ip == *address))
            }
            Term::Port(number, word) => {
                ports.iter().any(|port| has_port(port, *number)) || is_named(key, word)
            }
            Term::AddressOrName(word) => {
                is_named(key, word) || ports.iter().any(|port| has_address(port, word))
            }
            Term::Name(word) => is_named(key, word),
        }
    }
}

/// Names of objects are in lower case, but those that no rule is made of need not be.
fn is_named(key: &ObjectKey, word: &str) -> bool {
    format!("{}/{}", key.namespace, key.name).to_lowercase().contains(word)
}

fn addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    let others = port.external_ips.iter().chain(&port.load_balancer_ips).copied();
    std::iter::once(port.cluster_ip).chain(others)
}

fn has_socket(port: &ServicePort, socket: &SocketAddr) -> bool {
    let is_frontend = port.port == socket.port() && addresses(port).any(|ip| ip == socket.ip());
    is_frontend || port.endpoints.iter().any(|endpoint| endpoint.address == *socket)
}

fn has_port(port: &ServicePort, number: u16) -> bool {
    let node_port = port.node_port.is_some_and(|port| port.get() == number);
    let has_endpoint = || port.endpoints.iter().any(|e| e.address.port() == number);
    port.port == number || node_port || has_endpoint()
}

fn all_addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    addresses(port).chain(port.endpoints.iter().map(|endpoint| endpoint.address.ip()))
}

fn has_address(port: &ServicePort, word: &str) -> bool {
    let mut text = String::new();
    all_addresses(port).any(|address| {
        text.clear();
        write!(text, "{address}").is_ok() && text.contains(word)
    })
}

/// Whether traffic may go to an endpoint, if its policy sees it.
pub(super) fn is_usable(endpoint: &Endpoint) -> bool {
    endpoint.ready || (endpoint.serving && endpoint.terminating)
}

/// Whether there is no endpoint in the cluster that traffic could go to.
pub(super) fn without_endpoints(port: &ServicePort) -> bool {
    !port.endpoints.iter().any(is_usable)
}

/// Whether a policy wants an endpoint on this node, and all are on others.
pub(super) fn lacks_here(port: &ServicePort) -> bool {
    let external = port.externally_accessible() && port.external_policy == TrafficPolicy::Local;
    let wants = external || port.internal_policy == TrafficPolicy::Local;
    let mut usable = port.endpoints.iter().filter(|endpoint| is_usable(endpoint)).peekable();
    wants && usable.peek().is_some() && usable.all(|endpoint| !endpoint.local)
}
