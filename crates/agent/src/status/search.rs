//! The search for Services.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use rulegen_model::{Availability, ObjectKey, ServicePort};

use super::query::{Query, ServiceFilter};

/// The conditions that a Service must meet.
pub(super) struct Search<'a> {
    namespace: &'a str,
    show: ServiceFilter,
    terms: Vec<Term>,
}

/// A word of the search text; all must match.
enum Term {
    /// An address with a port.
    Socket(SocketAddr),
    /// A complete address.
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
            ServiceFilter::All => true,
            ServiceFilter::NoUsableEndpoint => {
                ports.iter().any(|port| !Availability::of(port).has_usable())
            }
            ServiceFilter::NoLocalEndpoint => {
                ports.iter().any(|port| Availability::of(port).lacks_local().is_some())
            }
            ServiceFilter::Outside => ports.iter().any(ServicePort::externally_accessible),
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

/// Ignores case. Valid names are lowercase, but rejected objects may have other names.
fn is_named(key: &ObjectKey, word: &str) -> bool {
    format!("{}/{}", key.namespace, key.name).to_lowercase().contains(word)
}

fn addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    port.frontends().filter_map(|(frontend, _)| frontend.ip())
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
