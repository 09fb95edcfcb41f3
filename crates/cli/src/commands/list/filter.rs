//! Filters frontends by the arguments.

use std::net::{IpAddr, SocketAddr};

use rulegen_inspect::listing::{Compared, State};
use rulegen_net::{Frontend, ServicePortName};

use crate::args::{ListArgs, ServiceArg};

pub(super) struct Filter<'a> {
    services: &'a [ServiceArg],
    namespace: Option<&'a str>,
    address: Option<IpAddr>,
    port: Option<u16>,
    differing: bool,
}

impl<'a> Filter<'a> {
    /// Whether any filter is set.
    pub(super) fn is_any(&self) -> bool {
        let by_name = !self.services.is_empty() || self.namespace.is_some();
        by_name || self.address.is_some() || self.port.is_some() || self.differing
    }

    pub(super) fn of(args: &'a ListArgs) -> Self {
        Self {
            services: &args.services,
            namespace: args.namespace.as_deref().filter(|_| !args.all_namespaces),
            address: args.address,
            port: args.port,
            differing: args.differing,
        }
    }

    /// Whether the name of a service port passes the filters.
    pub(super) fn names(&self, name: Option<&ServicePortName>) -> bool {
        let Some(name) = name else { return self.services.is_empty() && self.namespace.is_none() };
        self.is_in_namespace(name)
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
        if self.differing && compared.state() == State::AsWanted {
            return false;
        }
        if self.address.is_none() && self.port.is_none() {
            return true;
        }
        let either = [compared.held, compared.wanted].into_iter().flatten();
        let mut endpoints =
            either.flat_map(|traffic| traffic.endpoints.iter().chain(&traffic.from_node));
        self.is_at(frontend.ip(), frontend.port)
            || endpoints.any(|to: &SocketAddr| self.is_at(Some(to.ip()), to.port()))
    }

    fn is_at(&self, ip: Option<IpAddr>, port: u16) -> bool {
        self.address.is_none_or(|wanted| ip == Some(wanted))
            && self.port.is_none_or(|wanted| port == wanted)
    }
}
