//! A Service by its name to its frontends, as our own table knows them.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use rulegen_net::Frontend;
use rulegen_ruleset::nftables::{Held, Key, Set};

use super::Known;
use super::known::{FRONTEND, NODE_PORT};
use crate::listing::frontend_of_key;

/// A Service, or one port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of its port, or the number.
    pub port: Option<String>,
}

/// Our table has no frontend of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownService {
    /// The Service.
    pub service: ServiceTarget,
    /// Ports that it has.
    pub ports: Vec<String>,
}

impl ServiceTarget {
    /// Reads `namespace/name[:port]`; nothing if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (rest, None),
        };
        let is_label = |text: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            !text.is_empty() && text.chars().all(fits)
        };
        let fits = is_label(namespace) && is_label(name) && port.as_deref().is_none_or(is_label);
        fits.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
    }

    /// The frontends that our tables have for it.
    ///
    /// # Errors
    /// When there are none.
    pub fn frontends(&self, known: &Known) -> Result<BTreeSet<Frontend>, UnknownService> {
        let (mut found, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for (family, held) in &known.held {
            for (key, service) in elements(held) {
                let Some(frontend) = frontend_of_key(*family, key) else { continue };
                let port = frontend.port;
                let Some(name) = self.port_of(service) else { continue };
                ports.insert(if name.is_empty() { port.to_string() } else { name.to_owned() });
                let wanted = self.port.as_deref();
                if wanted.is_none_or(|wanted| wanted == name || wanted == port.to_string()) {
                    found.insert(frontend);
                }
            }
        }
        if found.is_empty() {
            return Err(UnknownService {
                service: self.clone(),
                ports: ports.into_iter().collect(),
            });
        }
        Ok(found)
    }

    /// The name of the port, if a service port is of this Service.
    fn port_of<'a>(&self, service: &'a str) -> Option<&'a str> {
        let (full, port) = service.split_once(':').unwrap_or((service, ""));
        let (namespace, name) = full.split_once('/')?;
        (namespace == self.namespace && name == self.name).then_some(port)
    }
}

/// Keys of frontends, with the service port that each is for.
fn elements(held: &Held) -> impl Iterator<Item = (&Key, &str)> {
    let is_of_frontends =
        |set: &&Set| !set.interval && (set.key == FRONTEND || set.key == NODE_PORT);
    let sets = held.sets.values().flatten().filter(is_of_frontends);
    let elements = sets.flat_map(|set| &set.elements);
    elements.filter_map(|(key, element)| Some((key, element.comment.as_ref()?.as_str())))
}

impl Display for ServiceTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Display for UnknownService {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { service, ports } = self;
        write!(f, "the table has no frontend of {service}: ")?;
        if ports.is_empty() {
            return f.write_str("is there such a Service, and does it have a cluster IP?");
        }
        write!(f, "its ports are {}", ports.join(", "))
    }
}

impl std::error::Error for UnknownService {}
