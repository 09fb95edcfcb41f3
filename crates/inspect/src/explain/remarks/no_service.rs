//! Explains why no Service matches a packet.

use rulegen_compiler as plan;
use rulegen_net::{Frontend, FrontendKind, IpFamily, ServicePortName};
use rulegen_ruleset::Origin;

use super::Remarks;
use crate::explain::reason::{Reason, RemarkSubject};
use crate::explain::remark::Remark;

impl Remarks<'_> {
    pub(super) fn no_service(&self) -> Remark {
        if self.frontend.is_some() {
            return self.not_taken();
        }
        let (to, protocol) = (self.packet.destination, self.packet.protocol);
        let is_here = to.ip().is_loopback() || self.local.contains(&to.ip());
        let owner = self.owner_there();
        let is_cluster_ip = matches!(owner, Some((_, FrontendKind::ClusterIP)));
        let at_node = self.node_port_elsewhere().filter(|_| !is_cluster_ip);
        let reason = match (at_node, owner, self.endpoint_of()) {
            (Some(service), _, _) if is_here => Reason::NodePortElsewhere { service, to, is_here },
            (_, Some((service, kind)), _) => {
                let ports = self.ports_there();
                Reason::NoSuchPort { service, kind, to, protocol, ports }
            }
            (Some(service), None, _) => Reason::NodePortElsewhere { service, to, is_here },
            (None, None, Some(service)) => Reason::DirectToEndpoint { service, to },
            (None, None, None) => Reason::NoService { to, protocol },
        };
        Remark::new(RemarkSubject::NoService, reason)
    }

    /// Some paths lead to endpoints, others do not.
    pub(super) fn partly(&self) -> Remark {
        Remark::new(RemarkSubject::NoService, Reason::MissingPaths)
    }

    /// A Service has the address, but no rule matches the packet.
    pub(super) fn not_taken(&self) -> Remark {
        let service = self.frontend.map(|of| of.service.clone());
        let external = self.service.and_then(|service| service.external.as_ref());
        let is_refused =
            external.is_some_and(|of| matches!(of.outcome, plan::Treatment::Refuse(_)));
        let reason = match is_refused && self.packet.origin == Origin::Host {
            true => Reason::LeftToLoadBalancer { service },
            false => Reason::MissingRules { service },
        };
        Remark::new(RemarkSubject::NoService, reason)
    }

    /// True if the plan has a service port at the destination of the packet.
    pub(super) fn is_planned_here(&self) -> bool {
        let to = self.packet.destination;
        self.plan.is_some_and(|plan| {
            plan.services.iter().any(|of| {
                of.internal.address == to.ip()
                    && of.port == to.port()
                    && of.name.protocol == self.packet.protocol
            })
        })
    }

    /// The service port that has this node port at another address of the node.
    fn node_port_elsewhere(&self) -> Option<ServicePortName> {
        let to = self.packet.destination;
        let node_port = Frontend::node_port(IpFamily::of(to.ip()), self.packet.protocol, to.port());
        let (owner, _) = self.plan?.owner_of(node_port)?;
        Some(owner.name.clone())
    }

    fn endpoint_of(&self) -> Option<ServicePortName> {
        let to = self.packet.destination;
        let services = self.plan?.services.iter();
        let found = services
            .filter(|of| of.name.protocol == self.packet.protocol)
            .find(|of| of.reachable_endpoints.iter().any(|endpoint| endpoint.address == to))?;
        Some(found.name.clone())
    }
}
