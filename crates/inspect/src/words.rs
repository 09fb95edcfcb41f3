//! The English for all outcomes and reasons: of explanations, of rules, of traced packets and of
//! Services. The command line and the status page write nothing else about them, so they say the same.
//!
//! Outcomes and reasons are types whose codes are stable: JSON has them. Texts may change.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use rulegen_compiler::{PodTraffic, Refusal};
use rulegen_model::{
    Availability, Endpoint, EndpointPortName, LoadBalancing, LocalPolicyScope, MeantNode,
    MisnamedNode, NodeEvidence, NotChosen, Unavailability, UnavailableReason, Unproxied,
    UnusedEndpoints,
};
use rulegen_net::{FrontendKind, IpFamily, Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::Probability;
use rulegen_ruleset::nftables::ChainId;

use crate::explain::cause::Cause;
use crate::explain::conditions::EndCondition;
use crate::explain::explanation::{End, Explanation, PassedRule, ReachedFrontend};
use crate::explain::network::{PathObstacle, RouteFailure};
use crate::explain::no_address::{
    NamedPort, NoPort, ServiceState, UnresolvedReason, UnresolvedService,
};
use crate::explain::outcome::Outcome;
use crate::explain::packet::Sender;
use crate::explain::reason::{
    Affinity, Client, InnerClient, Obstructed, PolicyField, Reason, RemarkSubject, SourceKept,
    TableEffect, TableRule, UsedEndpoints,
};
use crate::explain::remark::Remark;
use crate::masquerade_reason::MasqueradeReason;
use crate::packet_trace::packet::{TracedEnd, TracedOutcome, Translation};
use crate::packet_trace::reason::{StepRule, TraceReason};
use crate::paths::{PathClients, PathSource};
use crate::rule_role::RuleRole;

// Outcomes of packets.

const REJECTED: &str = "rejected: the client gets an ICMP port-unreachable";
const DROPPED: &str = "dropped: the client gets no answer";

/// Consequences for the client, at the end of a sentence.
const CLIENT_IS_REJECTED: &str = "the client gets an ICMP port-unreachable";
const CLIENT_IS_DROPPED: &str = "the client gets no answer";

/// What happens to a packet that ends here.
impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Endpoint { endpoint, masqueraded: true } => {
                write!(f, "{endpoint}, masqueraded")
            }
            Outcome::Endpoint { endpoint, masqueraded: false } => write!(f, "{endpoint}"),
            Outcome::Passes { masqueraded: true } => f.write_str("goes on, masqueraded"),
            Outcome::Passes { masqueraded: false } => f.write_str("goes on unchanged"),
            Outcome::Rejected if self.is_by_others() => {
                f.write_str("rejected: the client gets an error")
            }
            Outcome::Rejected => f.write_str(REJECTED),
            Outcome::Dropped => f.write_str(DROPPED),
            Outcome::Unreachable => {
                f.write_str("not routed: the client gets an error or no answer")
            }
        }
    }
}

impl Explanation {
    /// Where the packet goes in an end in which no rule decides that: ` to 192.0.2.1:80/tcp through
    /// eth0`. Empty for other ends.
    pub fn place(&self, end: &End) -> String {
        let to = self.packet.destination();
        match (end.outcome, end.interface.as_deref()) {
            (Outcome::Passes { .. }, Some("lo")) => format!(" to {to} at this node"),
            (Outcome::Passes { .. }, Some(interface)) => format!(" to {to} through {interface}"),
            (Outcome::Passes { .. }, None) => format!(" to {to}"),
            _ => String::new(),
        }
    }

    /// The kind and address of the frontend that the packet reaches, and its Service.
    pub fn frontend_words(&self) -> String {
        match (&self.frontend, self.packet.no_port) {
            (_, Some(_)) => "none: a packet without a port does not match a Service".to_owned(),
            (None, None) => "none: no Service has this address and port".to_owned(),
            (Some(ReachedFrontend { service, kind, address, .. }), None) => match kind {
                FrontendKind::NodePort => format!("node port {} of {service}", address.port()),
                kind => format!("{} {address} of {service}", kind.words()),
            },
        }
    }

    /// The rules that the packet passes, in parts with headings. With many ends, only the rules of
    /// the first are among them.
    pub fn rule_parts(&self) -> Vec<(String, &[PassedRule])> {
        let is_routed = self.ends.iter().any(|end| end.outcome != Outcome::Unreachable);
        let first = match self.ends.len() {
            _ if !is_routed => "Rules that it would pass if it were routed",
            2.. => "Rules that it passes first in any case",
            _ => "Rules that it passes",
        };
        let shown = if self.has_more_rules() { 1 } else { self.ends.len() };
        let ends = self.ends.iter().filter(|end| !end.rules.is_empty()).take(shown);
        let ends = ends.map(|end| (format!("Rules on the way {}", way(end.outcome)), &*end.rules));
        let behind = [
            ("Rules that it passes then in any case", &self.behind),
            ("Not understood, and assumed to let it pass", &self.unknown),
        ];
        let behind = behind.map(|(heading, rules)| (heading.to_owned(), &**rules));
        let all = [(first.to_owned(), &*self.rules)].into_iter().chain(ends).chain(behind);
        all.filter(|(_, rules)| !rules.is_empty()).collect()
    }

    /// Whether there are more ends than those whose rules [`Self::rule_parts`] has.
    pub fn has_more_rules(&self) -> bool {
        const SHOWN: usize = 8;
        self.ends.len() > SHOWN
    }
}

fn way(outcome: Outcome) -> String {
    match outcome {
        Outcome::Endpoint { endpoint, .. } => format!("to {endpoint}"),
        Outcome::Passes { .. } => "to where it was sent".to_owned(),
        Outcome::Rejected => "to where it is rejected".to_owned(),
        Outcome::Dropped => "to where it is dropped".to_owned(),
        Outcome::Unreachable => "to where it is not routed".to_owned(),
    }
}

impl End {
    /// How probable it is: `1 in 3` if it is one of equal ends, else in percent.
    pub fn chance(&self) -> String {
        match self.probability.one_in {
            Some(1) => certainty(!self.conditions.is_empty()).to_owned(),
            Some(n) => one_in(n),
            None => percent(self.probability.value),
        }
    }

    /// What else than the rules of Services leads here. `None` if a remark says it.
    pub fn because(&self) -> Option<String> {
        let Cause { reason, endpoint } = self.cause.as_ref()?;
        if matches!(reason, Reason::NotTracked(_)) {
            return None;
        }
        let way = endpoint.map_or_else(String::new, |to| format!("on the way to {to}: "));
        Some(format!("because {way}{reason}"))
    }
}

/// The probability of an end that is the only one.
pub fn certainty(has_conditions: bool) -> &'static str {
    if has_conditions { "expected" } else { "always" }
}

/// The probability of each of several equal ends.
fn one_in(number: u64) -> String {
    format!("1 in {number}")
}

fn percent(value: f64) -> String {
    format!("{:.6} %", value * 100.0)
}

/// The probability of an endpoint that a new client gets.
pub fn share(probability: Probability) -> String {
    match probability.one_in() {
        Some(1) => certainty(false).to_owned(),
        Some(number) => one_in(number),
        None => percent(probability.to_f64()),
    }
}

impl Display for EndCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "unless {}", self.reason)
    }
}

/// Stands in front of the conditions of all ends.
pub const OF_ALL: &str = "all";

/// How to change what a remark says.
pub fn to_change(change: &str) -> String {
    format!("to change that: {change}")
}

impl Display for Sender {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "in through {name}"),
            Self::UnknownInterface => f.write_str("received by this node"),
            Self::ThisNode => f.write_str("sent by this node"),
        }
    }
}

impl RemarkSubject {
    /// What stands in front of a remark about it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Policy => "policy",
            Self::Choice => "choice",
            Self::Source => "source",
            Self::NoEndpoints | Self::Refusal => "refused",
            Self::NoService => "passes",
        }
    }
}

// Remarks.

impl Display for Remark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let names: Vec<String> =
            self.endpoints.iter().take(SHOWN).map(ToString::to_string).collect();
        let names = names.join(", ");
        match (self.endpoints.len(), self.endpoints.len().saturating_sub(SHOWN)) {
            (0, _) => {}
            (_, 0) => write!(f, "{names}: ")?,
            (_, 1) => write!(f, "{names} and 1 other: ")?,
            (_, others) => write!(f, "{names} and {others} others: ")?,
        }
        Display::fmt(&self.reason, f)
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const AS_CLIENT: &str = "the endpoint sees the node's address as its client";
        match self {
            Self::PolicyCluster { field, uses, unused } => write!(
                f,
                "{field} is Cluster: endpoints on all nodes are used ({uses}{})",
                not_used(unused)
            ),
            Self::PolicyLocal { field, uses } => {
                write!(f, "{field} is Local: only endpoints on this node are used ({uses})")
            }
            Self::PolicyLocalFromNode { field, client, uses } => {
                let client = match client {
                    InnerClient::Node => "this node",
                    InnerClient::Pod => "a pod",
                };
                write!(
                    f,
                    "{field} is Local, but the packet comes from {client}, not from outside: \
                     endpoints on all nodes are used ({uses})"
                )
            }
            Self::AffinityHit => f.write_str(
                "this client used this endpoint before and gets it again (sessionAffinity: ClientIP)",
            ),
            Self::Maglev(affinity) => write!(
                f,
                "chosen by a hash of the client's address: the same client gets the same endpoint \
                 while the endpoints do not change{}",
                again(affinity.as_ref())
            ),
            Self::Maglev5Tuple(affinity) => write!(
                f,
                "chosen by a hash of the client's address and source port: the same pair gets the \
                 same endpoint while the endpoints do not change{}",
                again(affinity.as_ref())
            ),
            Self::RoundRobin(affinity) => write!(
                f,
                "round-robin: each new connection gets the next endpoint{}",
                again(affinity.as_ref())
            ),
            Self::Random(affinity) => write!(
                f,
                "an endpoint is chosen at random for each new connection, and all packets of the \
                 connection go there{}",
                again(affinity.as_ref())
            ),
            Self::Masquerade { reason: MasqueradeReason::NotFromPods, pods, .. } => {
                let reason = MasqueradeReason::NotFromPods.text();
                write!(f, "{AS_CLIENT}: {reason} ({})", detection(pods.as_ref()))
            }
            Self::Masquerade { reason, .. } => write!(f, "{AS_CLIENT}: {}", reason.text()),
            Self::MasqueradedByOthers => {
                write!(f, "{AS_CLIENT}: a rule that is not a Service rule masquerades it")
            }
            Self::NotMasqueraded { source } => write!(
                f,
                "the endpoint sees {source} as its client: it is marked for masquerading, but no \
                 rule masquerades it, and the reply may get lost"
            ),
            Self::SourceKept { source, why } => {
                let why = match why {
                    SourceKept::FromPod => {
                        "the client is a pod, so the reply comes back through this node"
                    }
                    SourceKept::PodsUnknown => {
                        "local pod traffic cannot be detected (see --detect-local-mode), so traffic \
                         to cluster IPs is not masqueraded"
                    }
                    SourceKept::PolicyLocal => "externalTrafficPolicy is Local",
                    SourceKept::NoRule => "no rule on this node masquerades it",
                };
                write!(f, "the endpoint sees {source} as its client: {why}")
            }
            Self::NoEndpoints { service, why: Some(why) } => {
                write!(f, "{service} {}: {CLIENT_IS_REJECTED}", unavailable(why))
            }
            Self::NoEndpoints { service, why: None } => {
                write!(f, "{service} has no ready endpoint on any node: {CLIENT_IS_REJECTED}")
            }
            Self::NoLocalEndpoints { service, why: Some(why), .. }
            | Self::EndpointsWithoutNode { service, why } => {
                write!(f, "{service} {}: {CLIENT_IS_DROPPED}", unavailable(why))
            }
            Self::NodeNotFound { service, field, node } => write!(
                f,
                "{service} has {field} Local, and {}: {CLIENT_IS_DROPPED}",
                no_node_has(&node.name)
            )
            .and_then(|()| match meant_node(node) {
                Some(meant) => write!(f, ". {meant}"),
                None => Ok(()),
            }),
            Self::NoLocalEndpoints { service, field, is_cluster_ip, why: None, .. } => {
                let hope = match is_cluster_ip {
                    // The node that a pod is on always decides.
                    true => "",
                    false => ", so that the client retries and may reach another node",
                };
                write!(
                    f,
                    "{service} has endpoints, but none usable on this node, and its {field} is \
                     Local: the packet is dropped{hope}"
                )
            }
            Self::UnusedAddresses { service, addresses } => {
                let ServicePortName { namespace, service, .. } = service;
                write!(
                    f,
                    "only the first address of each endpoint is used; these of \
                     {namespace}/{service} are not: {}",
                    list(addresses)
                )
            }
            Self::UnusedAddress { service, address, first } => {
                let ServiceRef { namespace, name, .. } = service;
                write!(
                    f,
                    "{address} is not the first address of an endpoint of {namespace}/{name} \
                     ({first} is), so the Service does not use it: the packet goes there directly"
                )
            }
            Self::Unresolved(unresolved) => Display::fmt(unresolved, f),
            Self::WithoutPort { no_port, is_rejected, .. } => {
                f.write_str(match no_port {
                    NoPort::Icmp => {
                        "Services have rules for TCP, UDP and SCTP ports only: an ICMP packet is not \
                         translated, so a Service cannot be pinged"
                    }
                    NoPort::Absent => {
                        "Services have rules for TCP, UDP and SCTP ports only: a packet to no port \
                         of a Service is not translated"
                    }
                })?;
                match is_rejected {
                    true => f.write_str(
                        ". The rules reject packets to a cluster IP that are for none of its ports",
                    ),
                    false => Ok(()),
                }
            }
            Self::OtherTable { table, effects, chains } => {
                let verbs: Vec<&str> = effects.iter().map(|effect| verb(*effect)).collect();
                write!(f, "table {table} {} it: {}", verbs.join(" or "), chains.join(", "))
            }
            Self::OtherRule { place, rule } => {
                write!(f, "a rule that is not understood matches it, {place}: {rule}")
            }
            Self::NotTracked(TableRule { table, hit }) => write!(
                f,
                "table {table} excludes the packet from connection tracking, so no Service \
                 translates it, {hit}"
            ),
            Self::NotRouted { failure, to, input } => {
                f.write_str(&not_routed(failure, *to, input))
            }
            Self::HairpinOff { bridge, port: Some(port) } => write!(
                f,
                "hairpin mode is off on port {port} of bridge {bridge}: the packet would leave by \
                 the port that it came in by"
            ),
            Self::HairpinOff { bridge, port: None } => write!(
                f,
                "bridge {bridge} drops it: hairpin mode is off on the port that it came in by, or \
                 ports are isolated"
            ),
            Self::PortsIsolated { bridge, from, to } => {
                let ports = match from == to {
                    true => format!("port {from}"),
                    false => format!("ports {from} and {to}"),
                };
                write!(
                    f,
                    "{ports} of bridge {bridge}: isolated, so the bridge does not forward between \
                     them"
                )
            }
            Self::HostNetwork => f.write_str("the host's routes or rp_filter stop it"),
            Self::Obstacle { obstacle, packet } => f.write_str(&met(obstacle, *packet)),
            Self::NoWayBack { client } => write!(
                f,
                "the error does not reach {client}: this node has no route back to it"
            ),
            Self::AsymmetricRoute { client, interface, back } => {
                asymmetric_route(f, "the reply", *client, interface, back)
            }
            Self::AsymmetricErrorRoute { client, interface, back } => {
                asymmetric_route(f, "the error", *client, interface, back)
            }
            Self::NoReply { client } => {
                write!(f, "the reply gets lost: this node does not route it to {client}")
            }
            Self::UnknownInterface => f.write_str(
                "rp_filter, routes or filters of its input interface stop it (this node has no \
                 single route back to its source, so that interface is not known: give --interface)",
            ),
            Self::InterfaceOfPods(pods) => write!(
                f,
                "it comes in through {pods}, as packets of local pods do (if so, give --interface)"
            ),
            Self::InterfaceOfRules(names) => write!(
                f,
                "it comes in through {}, for which there are rules (if so, give --interface)",
                some(names)
            ),
            Self::PortOfMaster { port, master } => {
                write!(f, "{port} belongs to {master}: its packets come in through {master}")
            }
            Self::UnknownHost => f.write_str(
                "the rest of the host changes that: other tables, routes, rp_filter, bridges, tc, \
                 XDP, a full conntrack table (not followed here)",
            ),
            Self::SourceRange { service, source } => write!(
                f,
                "{service} allows only its source ranges at load-balancer IPs, and {source} is not \
                 in any of them"
            ),
            Self::ClosedPort { service, to: (port, protocol), .. } => write!(
                f,
                "the cluster IP belongs to {service}, which has no port {port}/{}",
                protocol.name()
            ),
            Self::NoSuchPort { service, kind, to, protocol, .. } => write!(
                f,
                "{} is the {} of {service}, which has no port {}/{}",
                to.ip(),
                kind.words(),
                to.port(),
                protocol.name()
            ),
            Self::NoSuchClusterIp(ip) => {
                write!(f, "{ip} is in the range of cluster IPs, but no Service has it")
            }
            Self::LoopbackGuard => f.write_str(
                "packets from other hosts to loopback addresses are dropped while node ports are \
                 open at loopback (CVE-2020-8558)",
            ),
            Self::RouteLocalnet => f.write_str(
                "net.ipv4.conf.all.route_localnet is 0: the kernel drops the packet after these \
                 rules",
            ),
            Self::RefusedByTable { by: TableRule { table, hit }, outcome } => {
                let verb = if *outcome == Outcome::Rejected { "rejects" } else { "drops" };
                write!(f, "table {table} {verb} it, {hit}")
            }
            Self::RefusedByOthers { last } => {
                let last = last.as_deref().unwrap_or("unknown");
                write!(f, "not caused by a Service rule; the last rule on the path is {last}")
            }
            Self::NodePortElsewhere { service, to, is_here: true } => {
                let (ip, port) = (to.ip(), to.port());
                write!(f, "{port} is a node port of {service}, but not at {ip}")
            }
            Self::NodePortElsewhere { service, to, is_here: false } => write!(
                f,
                "{} is a node port of {service}, but {} is not an address of this node: the rules \
                 of that node apply",
                to.port(),
                to.ip()
            ),
            Self::NodePortOfMisnamedNode { service, to, node } => write!(
                f,
                "{} is a node port of {service}, but no Node is named {}, so {} does not count as \
                 an address of this node",
                to.port(),
                node.name,
                to.ip()
            ),
            Self::DirectToEndpoint { service, to } => write!(
                f,
                "{to} is an endpoint of {service}: the packet goes to it directly, and no Service \
                 rule matches"
            ),
            Self::NoService { to, protocol } => {
                write!(f, "no Service has {to}/{}: the packet is not changed", protocol.name())
            }
            Self::MissingRules { service } => write!(
                f,
                "{} has this address, but the rules on this node do not match the packet",
                some_service(service.as_ref())
            ),
            Self::MissingPaths => {
                f.write_str("on some paths no endpoint is found, and the packet is not changed")
            }
            Self::LeftToLoadBalancer { service } => write!(
                f,
                "{} has no endpoint for this packet. Packets from this node to an external address \
                 then go out to the load balancer, as with kube-proxy",
                some_service(service.as_ref())
            ),
        }
    }
}

impl Reason {
    /// How to change that, if there is reason to.
    pub fn change(&self) -> Option<String> {
        const SEE_DIFF: &str = "`rulegen diff` shows which rules are missing";
        let change = match self {
            Self::Masquerade { reason, client, .. } => match (reason, client) {
                (MasqueradeReason::All, _) => "masqueradeAll: false",
                (MasqueradeReason::NotFromPods, _) => {
                    "if the client is a pod, correct --cluster-cidr or --detect-local-mode"
                }
                (MasqueradeReason::External, Client::Pod) => {
                    "use the cluster IP: it keeps the address of a pod"
                }
                (MasqueradeReason::External, Client::Other) => {
                    "spec.externalTrafficPolicy: Local keeps the client's address; nodes without an \
                     endpoint then drop the traffic"
                }
                (MasqueradeReason::External, Client::Node)
                | (MasqueradeReason::FromNode | MasqueradeReason::Hairpin, _) => return None,
            },
            Self::NotMasqueraded { .. } | Self::MissingRules { .. } | Self::MissingPaths => {
                SEE_DIFF
            }
            Self::SourceKept { why: SourceKept::PodsUnknown, .. } => {
                "set --cluster-cidr if clients other than pods get no reply"
            }
            Self::NoEndpoints { service, why: Some(why) }
            | Self::EndpointsWithoutNode { service, why } => {
                return Some(unavailability_remedy(why, service));
            }
            Self::NodeNotFound { node, .. } | Self::NodePortOfMisnamedNode { node, .. } => {
                return Some(node_name_remedy(node));
            }
            Self::NoEndpoints { service: ServicePortName { namespace, service, .. }, .. } => {
                return Some(format!(
                    "kubectl -n {namespace} get endpointslices -l \
                     kubernetes.io/service-name={service}; `rulegen doctor` shows the reason"
                ));
            }
            Self::NoLocalEndpoints { service, field, why, like, .. } => {
                let remedy = match why {
                    Some(why) => unavailability_remedy(why, service),
                    None => format!("spec.{field}: Cluster, or a pod of the Service on this node"),
                };
                return Some(match like {
                    Some(name) => format!(
                        "if this node's name is {name}: --hostname-override={name} \
                         (hostnameOverride). If not: {remedy}"
                    ),
                    None => remedy,
                });
            }
            Self::WithoutPort { ports, .. } => return ports.as_deref().map(use_port),
            Self::ClosedPort { ports, .. } | Self::NoSuchPort { ports, .. } => {
                return Some(use_port(ports));
            }
            Self::SourceRange { .. } => "add the sender's network to spec.loadBalancerSourceRanges",
            Self::NoSuchClusterIp(_) => {
                "the Service may have been deleted or recreated: resolve its name again"
            }
            Self::RouteLocalnet => ROUTE_LOCALNET_REMEDY,
            Self::RefusedByOthers { .. } => "ask the owner of that rule or policy",
            Self::NodePortElsewhere { is_here: true, to, .. } => match to.ip() {
                IpAddr::V4(ip) if ip.is_loopback() => {
                    "use another address of this node, or iptables mode: there, node ports are open \
                     at 127.0.0.0/8 with --iptables-localhost-nodeports (localhostNodePorts), if \
                     --nodeport-addresses is empty or contains 127.0.0.0/8"
                }
                IpAddr::V6(ip) if ip.is_loopback() => {
                    "use another address of this node: node ports are never open at ::1"
                }
                _ => {
                    "--nodeport-addresses sets the node addresses at which node ports are open; the \
                     default in nftables mode is only the primary address"
                }
            },
            _ => return None,
        };
        Some(change.to_owned())
    }
}

/// How to let packets of this host to loopback addresses pass.
pub const ROUTE_LOCALNET_REMEDY: &str = "sysctl -w net.ipv4.conf.all.route_localnet=1, but only after \
    the rules are applied, because they drop what other hosts send to 127.0.0.1 (an agent does both)";

fn use_port(ports: &[(u16, Protocol)]) -> String {
    let named = |(port, protocol): &(u16, Protocol)| format!("{port}/{}", protocol.name());
    match ports {
        [] => "use a port of spec.ports; targetPort is the port of the pods and does not work here"
            .to_owned(),
        [port] => format!("use its port {}", named(port)),
        ports => {
            let ports: Vec<String> = ports.iter().map(named).collect();
            format!("use one of its ports: {}", ports.join(", "))
        }
    }
}

impl Display for PolicyField {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "internalTrafficPolicy",
            Self::External => "externalTrafficPolicy",
        })
    }
}

impl Display for UsedEndpoints {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready endpoints",
            Self::Terminating => "no endpoint is ready, so terminating endpoints that still serve",
        })
    }
}

/// Why policy Cluster does not use other endpoints.
fn not_used(unused: &UnusedEndpoints) -> String {
    let UnusedEndpoints { not_ready, others_ready, hinted_elsewhere } = *unused;
    let parts = [
        (not_ready, NotChosen::NotReady),
        (others_ready, NotChosen::OthersReady),
        (hinted_elsewhere, NotChosen::HintedElsewhere),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> =
        parts.map(|(count, why)| format!("; {count} not used: {}", not_chosen(*why))).collect();
    parts.concat()
}

fn again(affinity: Option<&Affinity>) -> String {
    const LIMIT: &str = ", unless more other clients came to that endpoint since than the kernel \
                         module xt_recent keeps (100 by default)";
    let Some(Affinity { seconds, is_limited }) = affinity else { return String::new() };
    let client = match seconds {
        Some(seconds) => format!("connected within {seconds} s"),
        None => "connected before".to_owned(),
    };
    let limit = if *is_limited { LIMIT } else { "" };
    format!("; a client that {client} gets the same endpoint (sessionAffinity: ClientIP){limit}")
}

impl MasqueradeReason {
    /// The reason. Follows a colon.
    pub fn text(self) -> &'static str {
        match self {
            Self::All => "all traffic to cluster IPs is masqueraded (masqueradeAll)",
            Self::NotFromPods => {
                "it does not come from a pod, so the reply must come back through this node"
            }
            Self::External => {
                "traffic to an external address or node port may go to another node, and the reply \
                 must come back through this one"
            }
            Self::FromNode => "this node sends it, and the reply must come back through the DNAT",
            Self::Hairpin => {
                "the endpoint reaches itself (hairpin): without SNAT the reply would bypass \
                 conntrack"
            }
        }
    }
}

fn detection(pods: Option<&PodTraffic>) -> String {
    match pods {
        Some(PodTraffic::From(network)) => format!("pods are in {network}"),
        Some(PodTraffic::Through(bridge)) => format!("pods use the interface {bridge}"),
        Some(PodTraffic::ThroughPrefix(start)) => format!("pods use interfaces {start}*"),
        None => "as the rule detects pods".to_owned(),
    }
}

impl Display for UnresolvedService {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ServiceRef { namespace, name, .. } = &self.service;
        let family = self.family.api_name();
        write!(f, "Service {namespace}/{name} ")?;
        match &self.reason {
            UnresolvedReason::NoClusterIp(state) => f.write_str(&no_cluster_ip(*state, family)),
            UnresolvedReason::NoSuchPort(ports) => {
                let ports = list(ports);
                write!(f, "has no such port at its {family} cluster IP; it has {ports}")
            }
            UnresolvedReason::SeveralPorts(ports) => {
                let all = list(ports);
                write!(f, "has several ports at its {family} cluster IP; it has {all}: name one")?;
                match ports.first() {
                    Some(NamedPort { port, protocol, .. }) => {
                        let protocol = protocol.name();
                        write!(f, ", as in {namespace}/{name}:{port}/{protocol}")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

fn no_cluster_ip(state: ServiceState, family: &str) -> String {
    match state {
        ServiceState::Unknown => "does not exist in the input".to_owned(),
        ServiceState::NoObjects => format!(
            "has no {family} cluster IP in the rules (with -f or --kubeconfig, explain shows why)"
        ),
        ServiceState::Unproxied(Unproxied::Headless) => {
            "is headless (clusterIP: None): it has no cluster IP and no rules. DNS answers with the \
             addresses of its pods, and clients connect to them directly"
                .to_owned()
        }
        ServiceState::Unproxied(Unproxied::ExternalName) => {
            "is of type ExternalName: it has no cluster IP and no rules. DNS answers with an alias \
             for spec.externalName, and clients connect to that host directly"
                .to_owned()
        }
        ServiceState::Unproxied(Unproxied::OtherProxy) => {
            "is left to another proxy (label service.kubernetes.io/service-proxy-name): there are \
             no rules for it here"
                .to_owned()
        }
        ServiceState::OtherFamily => format!(
            "has no {family} cluster IP, only one of the other IP family: a packet needs a source \
             address of that family"
        ),
        ServiceState::Unusable => {
            "has no rules because it is invalid or too large: see the warnings about it".to_owned()
        }
    }
}

impl Display for NamedPort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, port, protocol } = self;
        let space = if name.is_empty() { "" } else { " " };
        write!(f, "{name}{space}{port}/{}", protocol.name())
    }
}

fn some_service(service: Option<&ServicePortName>) -> String {
    service.map_or("a Service".to_owned(), ToString::to_string)
}

fn verb(effect: TableEffect) -> &'static str {
    match effect {
        TableEffect::Drops => "drops",
        TableEffect::Rejects => "rejects",
        TableEffect::Changes => "changes",
        TableEffect::DoesNotTrack => "does not track",
        TableEffect::MarksForMasquerade => "sets the mark that masquerades",
        TableEffect::ClearsMasqueradeMark => "clears the mark that masquerades",
        TableEffect::Unknown => "does something that is not understood with",
    }
}

/// The host does not route the packet.
fn not_routed(failure: &RouteFailure, to: IpAddr, input: &Sender) -> String {
    let interface = match input {
        Sender::Interface(name) => name,
        Sender::UnknownInterface => "any interface",
        Sender::ThisNode => "lo",
    };
    match failure {
        RouteFailure::NoRoute(error) => format!("this node has no route to {to} ({error})"),
        RouteFailure::ReversePath => format!(
            "the reverse-path filter of {interface} drops it: replies to its source leave through \
             another interface (rp_filter)"
        ),
        RouteFailure::Martian => format!(
            "the kernel does not accept its source or the destination {to} there (a martian \
             address, or a blackhole route)"
        ),
        RouteFailure::ForwardingOff => {
            format!("this node does not forward packets that come in through {interface}")
        }
        RouteFailure::Ipv6Disabled => format!("IPv6 is off on {interface} (disable_ipv6)"),
        RouteFailure::LinkLocalSource => {
            "packets from a link-local address are not forwarded (IPv6)".to_owned()
        }
    }
}

/// A packet, or an error about it, meets something on its way.
fn asymmetric_route(
    f: &mut Formatter<'_>,
    what: &str,
    client: IpAddr,
    interface: &str,
    back: &[String],
) -> fmt::Result {
    write!(
        f,
        "{what} gets lost: it leaves to {client} through {}, and the packet came in through \
         {interface} (asymmetric routing)",
        some(back)
    )
}

fn met(obstacle: &PathObstacle, packet: Obstructed) -> String {
    let packet = match packet {
        Obstructed::Packet => "it",
        Obstructed::Error => "the error",
    };
    match obstacle {
        PathObstacle::Xdp(on) => {
            format!("an XDP program on {} drops or changes {packet}", some(on))
        }
        PathObstacle::Filters(on) => {
            format!("a tc filter on {} drops or changes {packet}", some(on))
        }
        PathObstacle::UnlistedFilters => format!(
            "a tc program drops or changes {packet} (this process may not list them: bpf(2) and \
             rtnetlink need CAP_NET_ADMIN)"
        ),
        PathObstacle::Shapers { interfaces, kinds } => format!(
            "the queueing discipline {} on {} drops {packet}",
            some(kinds),
            some(interfaces)
        ),
        PathObstacle::NoCarrier(interface) => format!("interface {interface} has no carrier"),
        PathObstacle::InterfaceDown(interface) => format!("interface {interface} is down"),
        PathObstacle::Tunnel(interface) => {
            format!("the packet into which tunnel {interface} puts {packet} is stopped")
        }
        PathObstacle::Encapsulation(to) => {
            format!("the packet into which the route to {to} puts {packet} is stopped")
        }
        PathObstacle::Master { interface, master } => {
            format!("{master}, to which {interface} belongs, drops or changes {packet}")
        }
        PathObstacle::NextHops { to, interfaces } => format!(
            "the next hop that is chosen for {packet} does not deliver it: the route to {to} has \
             several ({})",
            interfaces.join(", ")
        ),
        PathObstacle::NoNeighbour { ip, interface } => {
            format!("{ip} does not answer on {interface} (it has no valid neighbour entry)")
        }
        PathObstacle::UnknownRoute(to) => {
            format!("the route to {to}, which the kernel did not show, does not deliver {packet}")
        }
        PathObstacle::Ipsec => {
            format!("an IPsec policy drops or encrypts {packet} (ip xfrm policy)")
        }
        PathObstacle::Ipvs => {
            format!("IPVS, which has services, takes {packet} over (ipvsadm -L -n)")
        }
        PathObstacle::UnreadIpvs => {
            format!("IPVS takes {packet} over (/proc/net/ip_vs cannot be read)")
        }
        PathObstacle::SocketPrograms => {
            "an eBPF program changes or refuses it in the socket of a process on this node (bpftool \
             cgroup tree)"
                .to_owned()
        }
        PathObstacle::PodSocketPrograms(cgroups) => format!(
            "an eBPF program changes or refuses it in the socket of a pod on this node (cgroup {})",
            some(cgroups)
        ),
        PathObstacle::UnreadSocketPrograms => {
            "an eBPF program changes or refuses it in the socket of a process on this node (the \
             programs of the root cgroup and of pods cannot be read)"
                .to_owned()
        }
        PathObstacle::FullTable { count, max } => {
            format!("the conntrack table is full: it has {count} of at most {max} entries")
        }
        PathObstacle::ErrorRate(setting) => {
            format!("the rate limit of ICMP errors is reached ({setting})")
        }
    }
}

/// At most three names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut all: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    if names.len() > SHOWN {
        all.push("others");
    }
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

fn list(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

// Rules.

impl RuleRole {
    /// What the rule does.
    pub fn words(&self) -> &'static str {
        use rulegen_model::TrafficPolicy::{Cluster, Local};
        match self {
            Self::Frontend(_) => "the Service is found by address and port",
            Self::SourceRange => "the source may use the load balancer",
            Self::Policy(Local) => "policy Local: endpoints of this node only",
            Self::Policy(Cluster) => "policy Cluster: all endpoints",
            Self::ShortCircuit { from_node: true } => "from this node: as with policy Cluster",
            Self::ShortCircuit { from_node: false } => "from a pod: as with policy Cluster",
            Self::Mark(_) => "marked for masquerading",
            Self::RecordsClient => "the client is recorded (session affinity)",
            Self::KnownClient => {
                "the client is known (session affinity): it gets the same endpoint"
            }
            Self::Choice(_) => "an endpoint is chosen",
            Self::ChosenTranslation(_) => "an endpoint is chosen, and the destination translated",
            Self::Translation => "the destination is translated",
            Self::Masquerade => "the source becomes the node's address",
            Self::MasqueradeHairpin => "hairpin: the source becomes the node's address",
            Self::Refused(_, refusal) => refusal_words(*refusal),
            Self::Firewalled(_) => "only sources in the source ranges pass",
            Self::ClosedPort(_) => "the Service does not have this port: rejected",
            Self::NoSuchClusterIp => "no Service has this cluster IP: dropped",
            Self::LoopbackGuard => "to loopback from another host: dropped",
        }
    }
}

// Traced packets.

impl Display for TracedOutcome<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.end)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match self.translation {
            Some(Translation::ToEndpoint(to, service)) => {
                write!(f, " to {to}, an endpoint of {}", service.as_str())?;
            }
            Some(Translation::ByOthers(to)) => {
                write!(f, " to {to}, by a rule of another program")?;
            }
            None => {}
        }
        if self.is_masqueraded {
            f.write_str(", masqueraded")?;
        }
        self.masquerade_reason.map_or(Ok(()), |reason| write!(f, ": {}", reason.text()))
    }
}

impl Display for TracedEnd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(Some(interface)) => write!(f, "left through {interface}"),
            Self::Delivered => f.write_str("delivered to this host"),
            end => f.write_str(end.word()),
        }
    }
}

impl Display for TraceReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(service, refusal) => {
                let reason = match refusal {
                    Refusal::NoEndpoints => "has no ready endpoint",
                    Refusal::NoLocalEndpoints => {
                        "has endpoints, but none usable on this node, and its traffic policy is \
                         Local"
                    }
                };
                write!(f, "{} {reason}", service.as_str())
            }
            Self::SourceRange(comment)
            | Self::NoSuchPort(comment)
            | Self::NoSuchClusterIp(comment) => f.write_str(comment.as_str()),
            Self::UnknownRule(rule) | Self::RefusedByOthers(rule) => write!(f, "by {rule}"),
            Self::EventsDropped => {
                f.write_str("trace events were dropped, because the receive buffer was full")
            }
            Self::NoFurtherEvent(hook) => {
                let reason = match *hook {
                    "prerouting" => "no route, or dropped by rp_filter or rules of iptables-legacy",
                    _ => {
                        "dropped or taken over by rules of iptables-legacy or another part of the \
                         kernel"
                    }
                };
                write!(f, "no hook saw it after {hook}: {reason}")
            }
        }
    }
}

impl Display for StepRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(handle) = self.handle else { return write!(f, "the policy of {}", self.at) };
        let ChainId { family, table, chain } = &self.at;
        write!(f, "rule {handle} of {}", self.at)?;
        if let Some(comment) = &self.comment {
            write!(f, ", {comment}")?;
        }
        write!(f, " (see `nft -a list chain {} {table} {chain}`)", family.word())
    }
}

// Services and their endpoints.

/// The code of a refusal in JSON.
pub fn refusal_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => "no-endpoints",
        Refusal::NoLocalEndpoints => "no-local-endpoints",
    }
}

/// The refusal in a few words.
pub(crate) fn refusal_words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => "no endpoint: rejected",
        Refusal::NoLocalEndpoints => "no endpoint on this node: dropped",
    }
}

/// The outcome for refused traffic.
pub fn refusal_outcome(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => REJECTED,
        Refusal::NoLocalEndpoints => DROPPED,
    }
}

/// The condition of a Service in output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceCondition {
    /// The code in JSON.
    pub code: &'static str,
    /// A few words; empty if there is no problem.
    pub words: &'static str,
    /// The whole sentence, without a full stop.
    pub sentence: &'static str,
}

/// The condition of a Service, from the availability of its worst port. `None` stands for a Service
/// without ports in the rules.
pub fn service_condition(worst: Option<Availability>) -> ServiceCondition {
    let (code, words, sentence) = match worst {
        None => (
            "no-rules",
            "no rules",
            "No rules: it is headless, of type ExternalName, handled by another proxy, or has no \
             valid port.",
        ),
        Some(Availability::NoEndpoints) => {
            ("no-endpoints", "no endpoints", "A port has no endpoints; its traffic is rejected.")
        }
        Some(Availability::NoneUsable { .. }) => (
            "no-ready-endpoints",
            "none ready",
            "A port has no usable endpoint; its traffic is rejected.",
        ),
        Some(Availability::NoneLocal { .. }) => (
            "no-local-endpoints",
            "no local endpoint",
            "A port has traffic policy Local and no usable endpoint on this node.",
        ),
        Some(Availability::OnlyTerminating { .. }) => (
            "only-terminating-endpoints",
            "only terminating",
            "A port has no ready endpoint; terminating endpoints still get its traffic.",
        ),
        Some(Availability::Ready) => ("ready", "", "All ports have usable endpoints."),
    };
    ServiceCondition { code, words, sentence }
}

/// Why an endpoint gets no traffic.
pub fn not_chosen(reason: NotChosen) -> &'static str {
    match reason {
        NotChosen::NotReady => "not ready",
        NotChosen::OthersReady => "other endpoints are ready",
        NotChosen::HintedElsewhere => "topology hints for other zones or nodes",
        NotChosen::OnAnotherNode => "on another node",
    }
}

/// The code of the reason why an endpoint gets no traffic, in JSON.
pub fn not_chosen_code(reason: NotChosen) -> &'static str {
    match reason {
        NotChosen::NotReady => "not-ready",
        NotChosen::OthersReady => "other-endpoints-ready",
        NotChosen::HintedElsewhere => "hinted-elsewhere",
        NotChosen::OnAnotherNode => "on-another-node",
    }
}

/// The conditions of an endpoint.
pub fn endpoint_state(of: &Endpoint) -> &'static str {
    match (of.ready, of.terminating, of.serving) {
        (true, _, _) => "ready",
        (false, true, true) => "terminating, still serving",
        (false, true, false) => "terminating",
        (false, false, _) => "not ready",
    }
}

/// The name of a way to choose an endpoint, in the JSON of the status page.
pub fn load_balancing_name(of: LoadBalancing) -> &'static str {
    match of {
        LoadBalancing::Random => "random",
        LoadBalancing::RoundRobin => "round robin",
        LoadBalancing::Maglev => "hash of the source",
        LoadBalancing::Maglev5Tuple => "hash of the source and its port",
    }
}

/// How an endpoint is chosen. Follows "chosen".
pub fn load_balancing(of: LoadBalancing) -> &'static str {
    match of {
        LoadBalancing::Random => "at random",
        LoadBalancing::RoundRobin => "in turn",
        LoadBalancing::Maglev => "by a hash of the client's address",
        LoadBalancing::Maglev5Tuple => "by a hash of the client's address and source port",
    }
}

impl PathClients {
    /// The clients.
    pub fn words(self) -> &'static str {
        match self {
            Self::Any => "Any client",
            Self::OnThisNode => "Clients on this node",
            Self::Outside => "Clients outside",
            Self::OutsideAndPods => "Clients outside and pods",
            Self::NodeAndPods => "This node and its pods",
            Self::Node => "This node",
        }
    }
}

impl PathSource {
    /// What the endpoint sees.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kept => "source address preserved",
            Self::Masqueraded => "source address replaced by the node's",
            Self::KeptForLocalPods => {
                "source address preserved for local pods, otherwise replaced by the node's"
            }
            Self::KeptForPods => {
                "source address preserved for pods; the node's traffic is masqueraded"
            }
        }
    }
}

/// Continues a sentence: no Node has the name of this node.
pub fn no_node_has(name: &str) -> String {
    format!("no Node is named {name}, so no endpoint counts as local")
}

/// The node that a name of no Node probably means, and why. `None` if nothing is known about it.
pub fn meant_node(misnamed: &MisnamedNode) -> Option<String> {
    Some(match (&misnamed.meant, misnamed.nodes) {
        (Some(MeantNode { name, evidence, .. }), _) => match evidence {
            NodeEvidence::Address(ip) => format!("Node {name} has this host's address {ip}"),
            NodeEvidence::SimilarNode => format!("There is a Node {name}"),
            NodeEvidence::SimilarNodeOfEndpoints => format!("There are endpoints on node {name}"),
        },
        (None, 0) => return None,
        (None, count) => format!("None of the {count} Nodes has an address of this host"),
    })
}

/// How the user can correct a name that no Node has.
pub fn node_name_remedy(misnamed: &MisnamedNode) -> String {
    match &misnamed.meant {
        Some(MeantNode { name, .. }) => {
            format!("start rulegen with --hostname-override={name} (hostnameOverride)")
        }
        None => {
            "start rulegen with --hostname-override=NODE (hostnameOverride), where NODE is the \
                 name of this node in `kubectl get nodes`"
                .to_owned()
        }
    }
}

/// How the user can get endpoints for a service port.
pub fn unavailability_remedy(why: &UnavailableReason, port: &ServicePortName) -> String {
    let (namespace, service) = (&port.namespace, &port.service);
    match why {
        UnavailableReason::NoSlice => format!(
            "check that its selector matches a pod (`kubectl -n {namespace} describe service \
             {service}`); a Service without a selector needs an EndpointSlice with the label \
             kubernetes.io/service-name: {service}"
        ),
        UnavailableReason::EmptySlices => format!(
            "start pods that its selector matches (`kubectl -n {namespace} describe service \
             {service}` shows it), or correct the selector"
        ),
        UnavailableReason::NoSuchPort { .. } => {
            "set spec.ports[].targetPort to the name of a port of the pods' containers; in \
             hand-written EndpointSlices, ports[].name must be the name of the Service's port"
                .to_owned()
        }
        UnavailableReason::NoneReady { .. } => format!(
            "check why the pods are not ready (`kubectl -n {namespace} get pods`, then `kubectl \
             describe pod`): usually a failing readiness probe"
        ),
        UnavailableReason::OnlyTerminating { .. } => {
            format!("check why no new pods start (`kubectl -n {namespace} get pods`)")
        }
        UnavailableReason::NoneLocal { elsewhere, unusable_here, scope, .. } => {
            let field = match scope {
                LocalPolicyScope::Internal => "spec.internalTrafficPolicy",
                LocalPolicyScope::External => "spec.externalTrafficPolicy",
                LocalPolicyScope::Both => {
                    "spec.internalTrafficPolicy and spec.externalTrafficPolicy"
                }
            };
            match (elsewhere, unusable_here) {
                (_, 1..) => format!(
                    "check why no pod on this node is ready (`kubectl -n {namespace} get pods \
                     -o wide`), or set {field} to Cluster"
                ),
                (0, 0) => format!(
                    "set endpoints[].nodeName in the EndpointSlices, or set {field} to Cluster"
                ),
                _ => format!("run a pod on this node, or set {field} to Cluster"),
            }
        }
    }
}

/// Why a service port has no usable endpoint.
pub fn unavailability(of: &Unavailability) -> String {
    let Unavailability { port, family, why } = of;
    format!("Service {port} ({}) {}", family.api_name(), unavailable(why))
}

/// Why a service port has no usable endpoint. Continues a sentence about it: `has no EndpointSlice`.
pub fn unavailable(why: &UnavailableReason) -> String {
    match why {
        UnavailableReason::NoSlice => "has no EndpointSlice".to_owned(),
        UnavailableReason::EmptySlices => "has only EndpointSlices without endpoints".to_owned(),
        UnavailableReason::NoSuchPort { port, found } => {
            let found = match found.as_slice() {
                [] => "no ports".to_owned(),
                found => found.iter().map(endpoint_port).collect::<Vec<_>>().join(", "),
            };
            let port = endpoint_port(port);
            format!("has endpoints, but none with its port ({port}): they have {found}")
        }
        UnavailableReason::NoneReady { not_ready, terminating } => {
            let counts = match (not_ready, terminating) {
                (not_ready, 0) => format!("{not_ready} not ready"),
                (0, terminating) => format!("{terminating} terminating"),
                _ => format!("{not_ready} not ready, {terminating} terminating"),
            };
            format!("has no ready endpoint: {counts}")
        }
        UnavailableReason::OnlyTerminating { terminating, unusable } => {
            let others = match unusable {
                0 => String::new(),
                unusable => format!(", {unusable} not ready"),
            };
            format!(
                "has no ready endpoint: {terminating} terminating still get its traffic{others}"
            )
        }
        UnavailableReason::NoneLocal { elsewhere, without_node, unusable_here, scope } => format!(
            "has no usable endpoint on this node for {}: {} ({})",
            traffic(*scope),
            policy_is_local(*scope),
            locations(*elsewhere, *without_node, *unusable_here)
        ),
    }
}

/// A service port that has no endpoint on any node, because no endpoint has a node.
pub fn unavailable_anywhere(
    port: &ServicePortName,
    family: IpFamily,
    scope: LocalPolicyScope,
) -> String {
    format!(
        "Service {port} ({}) has no endpoint on any node for {}: {}, and the endpoints have no \
         nodeName",
        family.api_name(),
        traffic(scope),
        policy_is_local(scope)
    )
}

/// The location of endpoints that policy Local does not use.
fn locations(elsewhere: usize, without_node: usize, unusable_here: usize) -> String {
    let here = (unusable_here > 0).then(|| format!("{unusable_here} on this node not ready"));
    let elsewhere = (elsewhere > 0).then(|| format!("{elsewhere} on other nodes"));
    let unknown = (without_node > 0)
        .then(|| format!("{without_node} on no known node: endpoints[].nodeName is missing"));
    here.into_iter().chain(elsewhere).chain(unknown).collect::<Vec<_>>().join(", ")
}

fn endpoint_port(EndpointPortName { name, protocol }: &EndpointPortName) -> String {
    let name = if name.is_empty() { "unnamed port" } else { name };
    format!("{name} over {}", protocol.api_name())
}

fn traffic(scope: LocalPolicyScope) -> &'static str {
    match scope {
        LocalPolicyScope::Internal => "traffic to its cluster IP",
        LocalPolicyScope::External => "traffic from outside",
        LocalPolicyScope::Both => "all traffic",
    }
}

fn policy_is_local(scope: LocalPolicyScope) -> &'static str {
    match scope {
        LocalPolicyScope::Internal => "internalTrafficPolicy is Local",
        LocalPolicyScope::External => "externalTrafficPolicy is Local",
        LocalPolicyScope::Both => "internalTrafficPolicy and externalTrafficPolicy are Local",
    }
}
