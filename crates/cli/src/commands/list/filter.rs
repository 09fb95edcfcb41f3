//! Filters frontends by the arguments.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rulegen_agent::SelectorExt;
use rulegen_inspect::listing::{Compared, State};
use rulegen_model::ObjectKey;
use rulegen_net::{Frontend, ServicePortName};

use crate::args::{ListArgs, ServiceArg};
use crate::inputs::Inputs;

pub(super) struct Filter<'a> {
    services: &'a [ServiceArg],
    namespace: Option<&'a str>,
    /// The Services that a label selector selects.
    selected: Option<BTreeSet<&'a ObjectKey>>,
    address: Option<IpAddr>,
    port: Option<u16>,
    differing: bool,
}

impl<'a> Filter<'a> {
    /// Whether any filter is set.
    pub(super) fn is_any(&self) -> bool {
        let by_name = !self.services.is_empty() || self.namespace.is_some();
        by_name
            || self.selected.is_some()
            || self.address.is_some()
            || self.port.is_some()
            || self.differing
    }

    pub(super) fn of(args: &'a ListArgs, found: &'a Inputs) -> Self {
        Self {
            services: &args.services,
            namespace: args.namespace.as_deref().filter(|_| !args.all_namespaces),
            selected: selected(args, found),
            address: args.address,
            port: args.port,
            differing: args.differing,
        }
    }

    /// Whether the name of a service port passes the filters.
    pub(super) fn names(&self, name: Option<&ServicePortName>) -> bool {
        let Some(name) = name else {
            return self.services.is_empty() && self.namespace.is_none() && self.selected.is_none();
        };
        let key = || ObjectKey { namespace: name.namespace.clone(), name: name.service.clone() };
        self.is_in_namespace(name)
            && self.selected.as_ref().is_none_or(|selected| selected.contains(&key()))
            && (self.services.is_empty() || self.services.iter().any(|of| of.means(name)))
    }

    /// The named Services that are not in `names`.
    pub(super) fn missing<'n>(
        &self,
        names: impl Iterator<Item = &'n ServicePortName> + Clone,
    ) -> Vec<&'a ServiceArg> {
        let is_there = |of: &&ServiceArg| {
            names.clone().any(|name| self.is_in_namespace(name) && of.means(name))
        };
        self.services.iter().filter(|of| !is_there(of)).collect()
    }

    fn is_in_namespace(&self, name: &ServicePortName) -> bool {
        self.namespace.is_none_or(|namespace| namespace == &*name.namespace)
    }

    /// Whether a frontend passes the filters for address, port and differences. If an address and a
    /// port are given, one frontend or endpoint must have both.
    pub(super) fn takes(&self, frontend: &Frontend, compared: &Compared<'_>) -> bool {
        if self.differing && compared.state() == State::InSync {
            return false;
        }
        if self.address.is_none() && self.port.is_none() {
            return true;
        }
        let either = [compared.actual, compared.desired].into_iter().flatten();
        let mut endpoints =
            either.flat_map(|traffic| traffic.endpoints.iter().chain(&traffic.from_node));
        self.is_at(frontend.ip(), frontend.port)
            || endpoints.any(|to: &SocketAddr| self.is_at(Some(to.ip()), to.port()))
    }

    fn is_at(&self, ip: Option<IpAddr>, port: u16) -> bool {
        self.address.is_none_or(|desired| ip == Some(desired))
            && self.port.is_none_or(|desired| port == desired)
    }
}

/// Services that only the kernel has are not selected: their labels are not known.
fn selected<'a>(args: &ListArgs, found: &'a Inputs) -> Option<BTreeSet<&'a ObjectKey>> {
    let selector = args.selector.as_ref()?;
    let details = found.cluster.as_ref()?.objects.details.as_ref()?;
    let labelled = details.service_labels.iter();
    Some(labelled.filter(|(_, labels)| selector.matches(labels)).map(|(key, _)| key).collect())
}
