//! Why it is so, and what would change it, in sentences.

use std::net::IpAddr;

use rulegen_model::{LoadBalancing, TrafficPolicy};
use rulegen_ruleset::{Origin, Packet};
use serde::Serialize;

use super::meaning::{Meaning, Reason};
use super::way::Way;
use super::{Frontend, FrontendKind, Outcome};
use crate::plan::{self, ExternalAddress, Plan, PodTraffic, Refusal, ServicePlan};

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// What it is a reason for.
    pub about: About,
    /// The reason.
    pub text: String,
    /// What would make it otherwise, if anything should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum About {
    /// Which endpoints come into question.
    Policy,
    /// How one of them is chosen.
    Choice,
    /// Whom the endpoint sees as the sender.
    Source,
    /// Why the packet goes nowhere for want of endpoints.
    NoEndpoints,
    /// Why it goes nowhere though there may be some.
    Refusal,
    /// Why no Service takes it.
    NoService,
}

impl Remark {
    /// A reason for something that need not be otherwise.
    pub fn new(about: About, text: impl Into<String>) -> Self {
        Self { about, text: text.into(), change: None }
    }

    /// The same with what would change it.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.change = Some(change.into());
        self
    }
}

/// What there is to speak of.
pub(super) struct Remarks<'a> {
    pub(super) packet: &'a Packet,
    /// The host's own addresses.
    pub(super) local: &'a [IpAddr],
    pub(super) ways: &'a [Way],
    pub(super) frontend: Option<&'a Frontend>,
    pub(super) service: Option<&'a ServicePlan>,
    pub(super) plan: Option<&'a Plan>,
}

impl Remarks<'_> {
    pub(super) fn all(&self) -> Vec<Remark> {
        let mut remarks = Vec::from_iter(self.refusal());
        if self.reaches_endpoints() {
            remarks.extend(self.policy());
            remarks.extend(self.choice());
            remarks.extend(self.source());
        }
        if self.ways.iter().any(|way| matches!(way.verdict, Outcome::Passes { .. })) {
            remarks.push(self.no_service());
        }
        remarks
    }

    fn meanings(&self) -> impl Iterator<Item = &Meaning> {
        self.ways.iter().flat_map(Way::meanings)
    }

    fn reaches_endpoints(&self) -> bool {
        self.ways.iter().any(|way| matches!(way.verdict, Outcome::Endpoint { .. }))
    }

    fn refusal(&self) -> Option<Remark> {
        self.meanings().find_map(|meaning| self.refused(meaning))
    }

    fn refused(&self, meaning: &Meaning) -> Option<Remark> {
        let lacking = |text: String| Remark::new(About::NoEndpoints, text);
        let remark = |text: String| Remark::new(About::Refusal, text);
        Some(match meaning {
            Meaning::Refused(known, Refusal::NoEndpoints) => lacking(format!(
                "{} has no endpoint that is ready, on any node: the sender is told that the port is unreachable",
                known.service
            ))
            .change(look_at_slices(&known.service)),
            Meaning::Refused(known, Refusal::NoLocalEndpoints) => {
                let field = match self.frontend.map(|frontend| frontend.kind) {
                    Some(FrontendKind::ClusterIP) => "internalTrafficPolicy",
                    _ => "externalTrafficPolicy",
                };
                lacking(format!(
                    "{} has endpoints, but none on this node, and its {field} is Local: the packet is dropped, so that the sender tries again and may reach another node",
                    known.service
                ))
                .change(format!("spec.{field}: Cluster, or a pod of the Service on this node"))
            }
            Meaning::Firewalled(known) => remark(format!(
                "{} lets only its source ranges use the load balancer, and {} is in none of them",
                known.service, self.packet.source
            ))
            .change("add the sender's network to spec.loadBalancerSourceRanges"),
            Meaning::ClosedPort(known) => remark(format!(
                "the cluster IP belongs to {}, which has no port {}/{}",
                known.service,
                self.packet.destination.port(),
                self.packet.protocol.name(),
            ))
            .change(self.ports_there().unwrap_or_else(|| {
                "use a port of spec.ports; targetPort is the pods' and cannot be used here".to_owned()
            })),
            Meaning::NoSuchClusterIp => remark(format!(
                "{} is an address for cluster IPs that no Service has",
                self.packet.destination.ip()
            ))
            .change("the Service may have been deleted or made anew: ask DNS again"),
            Meaning::LoopbackGuard => remark(
                "packets from elsewhere to loopback addresses are dropped while node ports are open at them (CVE-2020-8558)"
                    .to_owned(),
            ),
            _ => return None,
        })
    }

    /// The ports that Services have at the address.
    fn ports_there(&self) -> Option<String> {
        let services = self.plan?.services.iter();
        let ports: Vec<String> = services
            .filter(|service| service.internal.address == self.packet.destination.ip())
            .map(|service| format!("{}/{}", service.port, service.name.protocol.lower_case()))
            .collect();
        (!ports.is_empty()).then(|| format!("its ports are {}", ports.join(", ")))
    }

    fn policy(&self) -> Option<Remark> {
        let frontend = self.frontend?;
        let field = match frontend.kind {
            FrontendKind::ClusterIP => "internalTrafficPolicy",
            _ => "externalTrafficPolicy",
        };
        let short_circuit = self.meanings().find_map(|meaning| match meaning {
            Meaning::ShortCircuit { from_node } => Some(*from_node),
            _ => None,
        });
        let text = match (frontend.policy?, short_circuit) {
            (TrafficPolicy::Cluster, _) => {
                format!(
                    "{field} is Cluster: all endpoints that are ready may get it, on any node{}",
                    self.hints()
                )
            }
            (TrafficPolicy::Local, Some(from_node)) => format!(
                "{field} is Local, but {} sends this, which never was outside: all endpoints may get it",
                if from_node { "this node" } else { "a pod" }
            ),
            (TrafficPolicy::Local, None) => {
                format!("{field} is Local: only endpoints on this node may get it")
            }
        };
        Some(Remark::new(About::Policy, text))
    }

    /// Whether fewer endpoints are seen than there are.
    fn hints(&self) -> String {
        let seen = self.service.map(|service| (service.cluster_endpoints.len(), service.endpoints));
        match seen {
            Some((seen, all)) if seen < all => format!(
                " ({seen} of {all}; the others are not ready, or topology hints keep traffic from them)"
            ),
            _ => String::new(),
        }
    }

    fn choice(&self) -> Option<Remark> {
        if self.endpoints_in_question() < 2 {
            return None;
        }
        let way = match self.service.map(|service| service.load_balancing) {
            Some(LoadBalancing::RoundRobin) if self.is_nftables() => {
                "endpoints take turns, one new connection after the other"
            }
            Some(LoadBalancing::SourceHash) if self.is_nftables() => {
                "the client's address decides: this one always gets the same, as long as there are so many endpoints"
            }
            _ => "one is drawn at random for each new connection, whose packets then all go there",
        };
        let affinity = self.service.and_then(|service| service.affinity_seconds);
        let remembers = self.meanings().any(|meaning| *meaning == Meaning::Remembers);
        let text = match affinity {
            Some(seconds) => format!(
                "{way}; a client that had one within {seconds} s gets it again (sessionAffinity: ClientIP)"
            ),
            None if remembers => {
                format!(
                    "{way}; a client that had one before gets it again (sessionAffinity: ClientIP)"
                )
            }
            None => way.to_owned(),
        };
        Some(Remark::new(About::Choice, text))
    }

    fn endpoints_in_question(&self) -> usize {
        let planned = self.service.map(|service| {
            let is_short = self.meanings().any(|m| matches!(m, Meaning::ShortCircuit { .. }));
            match self.frontend.and_then(|frontend| frontend.policy) {
                Some(TrafficPolicy::Local) if !is_short => service.local_endpoints.len(),
                _ => service.cluster_endpoints.len(),
            }
        });
        let met = self.ways.iter().filter(|way| matches!(way.verdict, Outcome::Endpoint { .. }));
        met.count().max(planned.unwrap_or_default())
    }

    fn is_nftables(&self) -> bool {
        self.ways.iter().flat_map(|way| &way.steps).any(|(rule, _)| rule.table.is_none())
    }

    /// Whom endpoints see, first in general and then where one reaches itself.
    fn source(&self) -> Vec<Remark> {
        let mut reasons: Vec<Reason> = Vec::new();
        for meaning in self.meanings() {
            if let Meaning::Mark(reason) = meaning
                && !reasons.contains(reason)
            {
                reasons.push(*reason);
            }
        }
        let kept = |way: &Way| matches!(way.verdict, Outcome::Endpoint { masqueraded: false, .. });
        let mut remarks: Vec<Remark> = reasons
            .iter()
            .filter(|r| **r != Reason::Hairpin)
            .map(|r| self.masqueraded(*r))
            .collect();
        if self.ways.iter().any(kept) {
            remarks.push(self.unchanged());
        }
        if reasons.contains(&Reason::Hairpin) {
            let text = format!(
                "{} reaches itself: it sees the node's address, or it would answer itself past the translation",
                self.packet.source
            );
            remarks.push(Remark::new(About::Source, text));
        }
        remarks
    }

    fn masqueraded(&self, reason: Reason) -> Remark {
        let seen = "the endpoint sees the node's address as its client";
        let remark = |why: &str| Remark::new(About::Source, format!("{seen}: {why}"));
        match reason {
            Reason::External => remark(
                "what comes from outside may go to another node, and the answer must come back through this one",
            )
            .change(
                "spec.externalTrafficPolicy: Local keeps the client's address; nodes without an endpoint then drop the traffic",
            ),
            Reason::FromNode => {
                remark("this node sends it, and the answer must come back through the translation")
            }
            Reason::All => remark("all traffic to cluster IPs is masqueraded (masqueradeAll)")
                .change("masqueradeAll: false"),
            Reason::NotFromPods | Reason::Hairpin => remark(&format!(
                "{} goes to a cluster IP and is no pod's ({}), so the answer must be made to come back here",
                self.packet.source,
                self.detection()
            ))
            .change("if it is a pod's, --cluster-cidr or --detect-local-mode do not say so"),
        }
    }

    fn unchanged(&self) -> Remark {
        let seen = format!("the endpoint sees {} as its client", self.packet.source);
        let remark = |why: &str| Remark::new(About::Source, format!("{seen}: {why}"));
        let short_circuit = self.meanings().any(|m| matches!(m, Meaning::ShortCircuit { .. }));
        match self.frontend {
            _ if short_circuit => remark("it comes from a pod, to whom the answer finds its way"),
            Some(Frontend { kind: FrontendKind::ClusterIP, .. }) => match self.plan {
                Some(Plan { pod_traffic: None, .. }) => remark(
                    "nothing says which traffic is the pods', so none to cluster IPs is masqueraded",
                )
                .change("--cluster-cidr, if senders other than pods get no answer"),
                _ => remark("it comes from a pod, to whom the answer finds its way"),
            },
            _ => remark("externalTrafficPolicy Local keeps it"),
        }
    }

    fn detection(&self) -> String {
        match self.plan.and_then(|plan| plan.pod_traffic.as_ref()) {
            Some(PodTraffic::From(network)) => format!("pods are in {network}"),
            Some(PodTraffic::Through(bridge)) => format!("pods come in through {bridge}"),
            Some(PodTraffic::ThroughPrefix(start)) => format!("pods come in through {start}*"),
            None => "as the rule tells them".to_owned(),
        }
    }

    fn no_service(&self) -> Remark {
        let to = self.packet.destination;
        let remark = |text: String| Remark::new(About::NoService, text);
        if let Some(frontend) = self.frontend {
            return self.not_taken(frontend);
        }
        let is_here = to.ip().is_loopback() || self.local.contains(&to.ip());
        if let Some(service) = self.node_port_elsewhere() {
            if !is_here {
                return remark(format!(
                    "{} is a node port of {service}, but {} is no address of this node: the node that has it decides",
                    to.port(),
                    to.ip()
                ));
            }
            return remark(format!("{} is a node port of {service}, but not at {}", to.port(), to.ip())).change(
                "--nodeport-addresses says at which of the node's addresses node ports are open; in nftables mode it is the primary one alone by default, and never loopback",
            );
        }
        if let Some(service) = self.endpoint_of() {
            return remark(format!(
                "{to} is an endpoint of {service}: the packet goes to it directly, and no rule of a Service is about it"
            ));
        }
        if let Some(ports) = self.ports_there() {
            return remark(format!("no Service has port {} at {}", to.port(), to.ip()))
                .change(ports);
        }
        remark(format!(
            "no Service has {to}/{}: the packet goes on as it is",
            self.packet.protocol.name()
        ))
    }

    /// A Service has the address, and no rule takes the packet.
    fn not_taken(&self, frontend: &Frontend) -> Remark {
        let external = self.service.and_then(|service| service.external.as_ref());
        let is_refused = external.is_some_and(|of| matches!(of.outcome, plan::Outcome::Refuse(_)));
        if is_refused && self.packet.origin == Origin::Host {
            return Remark::new(
                About::NoService,
                format!(
                    "{} has no endpoint for it, but what this node itself sends to an external address goes out to the load balancer then, as with kube-proxy",
                    frontend.service
                ),
            );
        }
        Remark::new(
            About::NoService,
            format!("{} has this address, but no rule here is about it", frontend.service),
        )
        .change("`rulegen diff` says which rules are missing")
    }

    /// The service port whose node port it would be at another address of the node.
    fn node_port_elsewhere(&self) -> Option<String> {
        let to = self.packet.destination;
        let is_it = |address: &ExternalAddress| matches!(address, ExternalAddress::NodePort(port) if port.get() == to.port());
        let services = self.plan?.services.iter();
        let found = services
            .filter(|of| crate::words::protocol(of.name.protocol) == self.packet.protocol)
            .find(|of| of.external.iter().flat_map(|e| &e.addresses).any(is_it))?;
        Some(found.name.to_string())
    }

    fn endpoint_of(&self) -> Option<String> {
        let to = self.packet.destination;
        let services = self.plan?.services.iter();
        let found = services
            .filter(|of| crate::words::protocol(of.name.protocol) == self.packet.protocol)
            .find(|of| of.reachable_endpoints.iter().any(|endpoint| endpoint.address == to))?;
        Some(found.name.to_string())
    }
}

fn look_at_slices(service: &str) -> String {
    let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    format!(
        "kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}; `rulegen doctor` says why"
    )
}
