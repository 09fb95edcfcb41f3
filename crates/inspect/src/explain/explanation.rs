//! An explanation as data. The names of fields are those of the JSON, and are stable.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::{Plan, PodTraffic};
use rulegen_model::{NodeName, TrafficPolicy, UnavailableReason};
use rulegen_net::{FrontendKind, ServicePortName, ServiceRef};
use rulegen_ruleset::RefusedAt;
use rulegen_ruleset::firewall::{Budget, FirewallBaseChain};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::cause::Cause;
use super::conditions::EndCondition;
use super::host_path::{EvaluatedEnd, HostEvaluation, Tracking};
use super::network::HostNetwork;
use super::no_address::NoPort;
use super::outcome::Outcome;
use super::packet::{Sender, ShownPacket};
use super::reason::{Reason, RemarkSubject};
use super::remark::Remark;
use crate::rule_role::RuleRole;

/// What happens to the first packet of a connection, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The explained packet, as it arrives at or leaves this node.
    pub packet: ShownPacket,
    /// The frontend that it reaches; `None` if it is not to a Service's.
    pub frontend: Option<ReachedFrontend>,
    /// The reasons, with remedies.
    pub remarks: Vec<Remark>,
    /// The rules that it passes first in all cases, in order.
    pub rules: Vec<PassedRule>,
    /// Its possible ends. Their probabilities add up to 1.
    pub ends: Vec<End>,
    /// The rules that it passes last in all cases, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<PassedRule>,
    /// Rules of other programs in the followed tables that could not be evaluated, and were assumed
    /// to let the packet pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<PassedRule>,
    /// Bits of the mark for which the rules masquerade a packet; 0 if they have no such rule.
    #[serde(skip)]
    pub masquerade_mark: u32,
}

impl Explanation {
    /// Adds a rule or chain that was not followed.
    pub fn not_followed(&mut self, chain: String, rule: String) {
        self.unknown.push(PassedRule { table: None, chain, rule, element: None, role: None });
    }

    /// Explains a rejected packet by what its service port lacks, which rules do not show. Rules
    /// only show whether there is an endpoint on this node.
    pub fn refused_because(
        &mut self,
        why: impl FnOnce(&ServicePortName) -> Option<UnavailableReason>,
    ) {
        let Some(ReachedFrontend { service: port, .. }) = &self.frontend else { return };
        let lacking =
            self.remarks.iter_mut().find(|remark| remark.about == RemarkSubject::NoEndpoints);
        let [End { outcome, .. }] = self.ends.as_slice() else { return };
        let Some((remark, why)) = lacking.zip(why(port)) else { return };
        let without_node = match why {
            UnavailableReason::NoneLocal { elsewhere: 0, without_node: 1.., .. } => Some(true),
            UnavailableReason::NoneLocal { without_node: 1.., .. } => Some(false),
            _ => None,
        };
        let port = port.clone();
        match (outcome, &mut remark.reason, without_node) {
            (Outcome::Rejected, reason, _) => {
                *reason = Reason::NoEndpoints { service: port, why: Some(why) };
            }
            (Outcome::Dropped, reason, Some(true)) => {
                *reason = Reason::EndpointsWithoutNode { service: port, why };
            }
            (Outcome::Dropped, Reason::NoLocalEndpoints { why: told, .. }, Some(false)) => {
                *told = Some(why);
            }
            _ => {}
        }
    }

    /// If no Node has this node's name, makes that the reason of two remarks: the packet was dropped
    /// because no endpoint is on this node, and the destination is not an address of this node.
    pub(super) fn at_misnamed_node(&mut self, name: &NodeName) {
        for remark in &mut self.remarks {
            match (&mut remark.reason, name) {
                (Reason::NoLocalEndpoints { like, .. }, NodeName::Unsure(node)) => {
                    *like = node.meant.as_ref().map(|of| of.name.clone());
                }
                (Reason::NoLocalEndpoints { service, field, .. }, NodeName::NotFound(node)) => {
                    let (service, field, node) = (service.clone(), *field, node.clone());
                    remark.reason = Reason::NodeNotFound { service, field, node };
                }
                (
                    Reason::NodePortElsewhere { service, to, is_here: false },
                    NodeName::NotFound(node),
                ) if node.meant.as_ref().is_some_and(|of| of.addresses.contains(&to.ip())) => {
                    let (service, to, node) = (service.clone(), *to, node.clone());
                    remark.reason = Reason::NodePortOfMisnamedNode { service, to, node };
                }
                _ => {}
            }
        }
    }

    /// Adds that route_localnet is off, if that matters: the kernel then drops translated packets of
    /// this host to loopback addresses, whatever the rules. Those of others are translated before
    /// they are routed.
    pub fn without_route_localnet(&mut self) {
        let is_own = self.packet.sender == Sender::ThisNode;
        let is_translated = |end: &End| matches!(end.outcome, Outcome::Endpoint { .. });
        if is_own && self.packet.to.ip().is_loopback() && self.ends.iter().any(is_translated) {
            self.remarks.push(Remark::new(RemarkSubject::Refusal, Reason::RouteLocalnet));
        }
    }

    /// Sets the condition of all ends if nothing is known about the host.
    pub(super) fn on_unknown_host(&mut self) {
        for end in &mut self.ends {
            end.conditions = vec![EndCondition { reason: Reason::UnknownHost }];
        }
    }

    /// Adds a condition to all ends for each input interface that rules ask for, if that of the
    /// packet is not known.
    pub(super) fn depends_on_interface(
        &mut self,
        interfaces: &BTreeSet<String>,
        plan: Option<&Plan>,
    ) {
        let of_pods = match plan.and_then(|plan| plan.pod_traffic.as_ref()) {
            Some(PodTraffic::Through(bridge)) => Some(bridge.clone()),
            Some(PodTraffic::ThroughPrefix(start)) => Some(format!("{start}*")),
            Some(PodTraffic::From(_)) | None => None,
        };
        let (of_pods, others): (Vec<&String>, Vec<&String>) =
            interfaces.iter().partition(|name| of_pods.as_ref() == Some(name));
        let of_pods = of_pods.into_iter().map(|name| Reason::InterfaceOfPods(name.clone()));
        let others: Vec<String> = others.into_iter().cloned().collect();
        let others = (!others.is_empty()).then_some(Reason::InterfaceOfRules(others));
        for reason in of_pods.chain(others) {
            for end in &mut self.ends {
                end.conditions.push(EndCondition { reason: reason.clone() });
            }
        }
    }

    /// Evaluates the rest of the host: the base chains of other tables, routes and bridges. An end that
    /// the packet certainly does not reach gets the outcome of what stops it, with the cause. What
    /// is uncertain becomes a condition. `local` are the host's own addresses.
    pub fn on_host(
        &mut self,
        chains: &[FirewallBaseChain],
        network: &dyn HostNetwork,
        local: &[IpAddr],
    ) {
        let (packet, budget) = (self.packet.clone(), Budget::default());
        let masquerade_mark = self.masquerade_mark;
        let host =
            HostEvaluation { chains, network, local, packet: &packet, masquerade_mark, budget };
        let tracking = host.tracking();
        if let Tracking::Untracked(cause) = &tracking {
            self.bypasses_services(cause.clone());
        }
        let unknown: Vec<EndCondition> = self.unknown.iter().map(unknown_rule).collect();
        for end in &mut self.ends {
            let EvaluatedEnd { outcome, cause, mut conditions, interface } =
                host.end(end.outcome, &end.refused_at, &tracking);
            conditions.extend(unknown.iter().cloned());
            // Which interface it is decides in the followed rules too.
            let earlier = end.conditions.drain(..);
            conditions.extend(earlier.filter(|of| of.reason.is_about_input()));
            (end.outcome, end.conditions) = (outcome, conditions);
            end.cause = cause.or(end.cause.take());
            end.interface = interface;
        }
    }

    /// Makes this the explanation of a packet that is not tracked, and so is not translated.
    fn bypasses_services(&mut self, cause: Cause) {
        self.remarks = vec![Remark::new(RemarkSubject::NoService, cause.reason.clone())];
        self.rules.clear();
        self.behind.clear();
        self.unknown.clear();
        self.ends = vec![End {
            probability: Chance { value: 1.0, exact: Some("1".to_owned()), one_in: Some(1) },
            outcome: Outcome::Passes { masqueraded: false },
            cause: Some(cause),
            conditions: Vec::new(),
            rules: Vec::new(),
            interface: None,
            refused_at: BTreeSet::new(),
        }];
    }

    /// Makes this the explanation of a packet without a port. The packet that was followed has
    /// [`super::Destination::STAND_IN`].
    pub fn without_port(&mut self, no_port: NoPort) {
        self.packet.no_port = Some(no_port);
        self.frontend = None;
        let ports = self.remarks.iter().find_map(|remark| match &remark.reason {
            Reason::ClosedPort { ports, .. } | Reason::NoSuchPort { ports, .. } => Some(ports),
            _ => None,
        });
        let ports = ports.cloned();
        let is_refused = self.remarks.iter().any(|remark| remark.about == RemarkSubject::Refusal);
        let about = if is_refused { RemarkSubject::Refusal } else { RemarkSubject::NoService };
        self.remarks.retain(|remark| {
            use Reason::{ClosedPort, NoService, NoSuchPort};
            !matches!(remark.reason, ClosedPort { .. } | NoSuchPort { .. } | NoService { .. })
        });
        let is_rejected = is_refused && self.remarks.is_empty();
        let reason = Reason::WithoutPort { no_port, is_rejected, ports };
        self.remarks.insert(0, Remark::new(about, reason));
    }

    /// Adds what is to be said about addresses of endpoints that are not used.
    pub fn unused_addresses(&mut self, unused: &[UnusedAddress]) {
        let to = self.packet.to.ip();
        if let Some(ReachedFrontend { service, .. }) = &self.frontend {
            let of_service = unused.iter().filter(|one| one.service.is_service_of(service));
            let addresses: Vec<IpAddr> = of_service.map(|one| one.address).collect();
            if !addresses.is_empty() {
                let reason = Reason::UnusedAddresses { service: service.clone(), addresses };
                self.remarks.push(Remark::new(RemarkSubject::Policy, reason));
                // Remarks about the same stand together.
                self.remarks.sort_by_key(|remark| remark.about != RemarkSubject::Policy);
            }
        } else if let Some(one) = unused.iter().find(|one| one.address == to) {
            let (service, first) = (one.service.clone(), one.first.clone());
            let reason = Reason::UnusedAddress { service, address: one.address, first };
            self.remarks.retain(|remark| remark.about != RemarkSubject::NoService);
            self.remarks.push(Remark::new(RemarkSubject::NoService, reason));
        }
    }
}

/// An address of an endpoint that no Service uses, because it is not the endpoint's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedAddress {
    /// The Service of the EndpointSlice.
    pub service: ServiceRef,
    /// The second or a later address of an endpoint.
    pub address: IpAddr,
    /// The address of the endpoint that is used.
    pub first: String,
}

/// The frontend that a packet reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachedFrontend {
    /// The service port, `namespace/name:port`.
    pub service: ServicePortName,
    /// The kind of address.
    pub kind: FrontendKind,
    /// The packet's destination.
    pub address: SocketAddr,
    /// The traffic policy, if the rules or the plan show it.
    pub policy: Option<TrafficPolicy>,
}

/// A rule that affected the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedRule {
    /// The table: one of iptables, or kube-proxy's own nftables table. Absent for rulegen's.
    pub table: Option<&'static str>,
    /// Name of the chain, without its table.
    pub chain: String,
    /// The rule, as `iptables-save` or `nft` writes it.
    pub rule: String,
    /// The element that it found, with its data, and its set if that has a name; nftables mode only.
    pub element: Option<String>,
    /// Its role in terms of Services, if it has one.
    pub role: Option<RuleRole>,
}

/// With the code of its role, and the meaning of the role in words.
impl Serialize for PassedRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rule = serializer.serialize_struct("PassedRule", 6)?;
        match &self.table {
            Some(table) => rule.serialize_field("table", table)?,
            None => rule.skip_field("table")?,
        }
        rule.serialize_field("chain", &self.chain)?;
        rule.serialize_field("rule", &self.rule)?;
        match &self.element {
            Some(element) => rule.serialize_field("element", element)?,
            None => rule.skip_field("element")?,
        }
        if let Some(role) = &self.role {
            rule.serialize_field("role", role.code())?;
            rule.serialize_field("means", role.words())?;
        }
        rule.end()
    }
}

/// A possible end of a packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Probability of this end.
    pub probability: Chance,
    /// What happens to the packet.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What stops the packet, or leads it past the rules of Services, if that is something else than
    /// these rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What is not certain and may lead to another end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<EndCondition>,
    /// The interface through which the packet leaves, if that is known; `lo` if it is for this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The rules that lead to this end, between those that it passes in all cases.
    pub rules: Vec<PassedRule>,
    /// Where the followed rules reject or drop the packet, if they do.
    #[serde(skip)]
    pub refused_at: BTreeSet<RefusedAt>,
}

impl End {
    /// Whether something else than the rules of Services decides it.
    pub fn is_by_others(&self) -> bool {
        self.cause.is_some() || self.refused_at.iter().any(|at| at.by_others)
    }
}

/// A probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chance {
    /// The value from 0 to 1, as floating point.
    pub value: f64,
    /// The exact value, as a fraction. Absent if its denominator has more than 128 bits, as after
    /// five rules of iptables, each of which uses a random number of 31 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// `n` if it is 1 in `n`, within the resolution of the kernel's random numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u64>,
}

fn unknown_rule(rule: &PassedRule) -> EndCondition {
    let place = match rule.table {
        Some(table) => format!("{table} {}", rule.chain),
        None => rule.chain.clone(),
    };
    EndCondition { reason: Reason::OtherRule { place, rule: rule.rule.clone() } }
}
