//! Explains why no Service matches a packet.

use rulegen_compiler as plan;
use rulegen_net::{FrontendAddress, IpFamily};
use rulegen_ruleset::Origin;

use super::Remarks;
use crate::explain::remark::{Remark, RemarkSubject};
use crate::words::Code;

impl Remarks<'_> {
    pub(super) fn no_service(&self) -> Remark {
        let to = self.packet.destination;
        let remark = |code, text: String| Remark::new(RemarkSubject::NoService, code, text);
        if self.frontend.is_some() {
            return self.not_taken();
        }
        let is_here = to.ip().is_loopback() || self.local.contains(&to.ip());
        if let Some(service) = self.node_port_elsewhere() {
            let port = to.port();
            if !is_here {
                return remark(
                    Code::NodePortElsewhere,
                    format!(
                        "{port} is a node port of {service}, but {} is not an address of this node: the rules of that node apply",
                        to.ip()
                    ),
                );
            }
            return remark(Code::NodePortElsewhere, format!("{port} is a node port of {service}, but not at {}", to.ip())).change(
                "--nodeport-addresses sets the node addresses at which node ports are open; the default in nftables mode is only the primary address, and never loopback",
            );
        }
        if let Some(service) = self.endpoint_of() {
            return remark(
                Code::DirectToEndpoint,
                format!(
                    "{to} is an endpoint of {service}: the packet goes to it directly, and no Service rule matches"
                ),
            );
        }
        let over = self.packet.protocol.name();
        if let Some((owner, ports)) = self.owner_there().zip(self.ports_there()) {
            return remark(
                Code::NoSuchPort,
                format!(
                    "{} is the cluster IP of {owner}, which has no port {}/{over}",
                    to.ip(),
                    to.port()
                ),
            )
            .change(ports);
        }
        remark(Code::NoService, format!("no Service has {to}/{over}: the packet is not changed"))
    }

    /// Some paths lead to endpoints, others do not.
    pub(super) fn partly(&self) -> Remark {
        let text = "on some paths no endpoint is found, and the packet is not changed";
        Remark::new(RemarkSubject::NoService, Code::MissingRules, text)
            .change("`rulegen diff` shows which rules are missing")
    }

    /// A Service has the address, but no rule matches the packet.
    pub(super) fn not_taken(&self) -> Remark {
        let service = self.frontend.map_or("a Service".to_owned(), |of| of.service.to_string());
        let external = self.service.and_then(|service| service.external.as_ref());
        let is_refused =
            external.is_some_and(|of| matches!(of.outcome, plan::Treatment::Refuse(_)));
        if is_refused && self.packet.origin == Origin::Host {
            return Remark::new(
                RemarkSubject::NoService,
                Code::LeftToLoadBalancer,
                format!(
                    "{service} has no endpoint for this packet. Packets from this node to an external address then go out to the load balancer, as with kube-proxy"
                ),
            );
        }
        let text = format!(
            "{service} has this address, but the rules on this node do not match the packet"
        );
        Remark::new(RemarkSubject::NoService, Code::MissingRules, text)
            .change("`rulegen diff` shows which rules are missing")
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
    fn node_port_elsewhere(&self) -> Option<String> {
        let to = self.packet.destination;
        let node_port = FrontendAddress::Node(IpFamily::of(to.ip()));
        let services = self.plan?.services.iter();
        let found = services.filter(|of| of.name.protocol == self.packet.protocol).find(|of| {
            let mut frontends = of.frontends();
            frontends.any(|(of, _)| of.address == node_port && of.port == to.port())
        })?;
        Some(found.name.to_string())
    }

    fn endpoint_of(&self) -> Option<String> {
        let to = self.packet.destination;
        let services = self.plan?.services.iter();
        let found = services
            .filter(|of| of.name.protocol == self.packet.protocol)
            .find(|of| of.reachable_endpoints.iter().any(|endpoint| endpoint.address == to))?;
        Some(found.name.to_string())
    }
}
