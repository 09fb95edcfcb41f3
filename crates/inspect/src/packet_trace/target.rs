//! The frontends of a Service in our own tables.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use rulegen_net::{Frontend, ServicePortName, ServiceRef};
use rulegen_ruleset::nftables::{Actual, Key, Set};

use super::TraceContext;
use super::context::{FRONTEND, NODE_PORT};
use crate::listing::frontend_of_key;

/// The tables have no frontend of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownService {
    /// The requested Service.
    pub service: ServiceRef,
    /// Names or numbers of its ports.
    pub ports: Vec<String>,
}

/// The frontends of a Service in our tables.
///
/// # Errors
/// The Service has no frontend in the tables.
pub fn frontends(
    service: &ServiceRef,
    known: &TraceContext,
) -> Result<BTreeSet<Frontend>, UnknownService> {
    let (mut found, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for (family, actual) in &known.actual {
        for (key, comment) in elements(actual) {
            let Some(frontend) = frontend_of_key(*family, key) else { continue };
            let name = ServicePortName::from_comment(comment, frontend.protocol);
            let Some(name) = name.filter(|name| service.is_service_of(name)) else { continue };
            if service.means(&name, &[frontend.port]) {
                found.insert(frontend);
            }
            ports.insert(match &*name.port {
                "" => frontend.port.to_string(),
                port => port.to_owned(),
            });
        }
    }
    if found.is_empty() {
        let (service, ports) = (service.clone(), ports.into_iter().collect());
        return Err(UnknownService { service, ports });
    }
    Ok(found)
}

/// Keys of frontends, with the comment that names their service port.
fn elements(actual: &Actual) -> impl Iterator<Item = (&Key, &str)> {
    let has_frontends = |set: &&Set| !set.interval && (set.key == FRONTEND || set.key == NODE_PORT);
    let sets = actual.sets.values().flatten().filter(has_frontends);
    let elements = sets.flat_map(|set| &set.elements);
    elements.filter_map(|(key, element)| Some((key, element.comment.as_ref()?.as_str())))
}

impl Display for UnknownService {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { service, ports } = self;
        write!(f, "the table has no frontend of {service}: ")?;
        if ports.is_empty() {
            return f.write_str("no such Service, or it has no cluster IP");
        }
        write!(f, "its ports are {}", ports.join(", "))
    }
}

impl std::error::Error for UnknownService {}
