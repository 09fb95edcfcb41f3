//! An explanation as data. The names of fields are those of the JSON, and are stable.

use std::net::{IpAddr, SocketAddr};

use rulegen_model::{TrafficPolicy, UnavailableReason};
use rulegen_net::{FrontendKind, Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::{Origin, Packet};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::conditions::{Condition, Surroundings};
use super::no_address::NoPort;
use super::outcome::Outcome;
use super::remark::{About, Remark};
use crate::words::{self, CLIENT_IS_DROPPED, CLIENT_IS_REJECTED, Code};

/// What happens to the first packet of a connection, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The packet.
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
    /// Rules that could not be evaluated, and were assumed to let the packet pass: those of other
    /// programs, and in nftables mode their chains at the same hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<PassedRule>,
}

impl Explanation {
    /// Adds a rule or chain that was not followed.
    pub fn not_followed(&mut self, chain: String, rule: String) {
        self.unknown.push(PassedRule { table: None, chain, rule, element: None, means: None });
    }

    /// Explains a rejected packet by what its service port lacks, which rules do not show. Rules
    /// only show whether there is an endpoint on this node.
    pub fn refused_because(
        &mut self,
        why: impl FnOnce(&ServicePortName) -> Option<UnavailableReason>,
    ) {
        let Some(ReachedFrontend { service: port, .. }) = &self.frontend else { return };
        let lacking = self.remarks.iter_mut().find(|remark| remark.about == About::NoEndpoints);
        let [End { outcome, .. }] = self.ends.as_slice() else { return };
        let Some((remark, why)) = lacking.zip(why(port)) else { return };
        match (outcome, &why) {
            (Outcome::Rejected, _) => remark.text = format!("{port} {why}: {CLIENT_IS_REJECTED}"),
            (Outcome::Dropped, UnavailableReason::NoneLocal { elsewhere, without_node, .. })
                if *without_node > 0 =>
            {
                if *elsewhere == 0 {
                    remark.code = Code::EndpointsWithoutNode;
                }
                remark.text = format!("{port} {why}: {CLIENT_IS_DROPPED}");
            }
            _ => return,
        }
        remark.change = Some(why.remedy(port));
    }

    /// Sets the conditions of all ends. `local` are the host's own addresses.
    pub fn set_conditions(&mut self, surroundings: &Surroundings, local: &[IpAddr]) {
        let is_from_host = self.packet.sender == Sender::ThisNode;
        for end in &mut self.ends {
            let to = match end.outcome {
                Outcome::Endpoint { endpoint, .. } => endpoint.ip(),
                _ => self.packet.to.ip(),
            };
            let is_to_local = to.is_loopback() || local.contains(&to);
            end.conditions = surroundings.conditions(is_from_host, is_to_local, end.outcome);
        }
    }

    /// Makes this the explanation of a packet without a port. The packet that was followed has
    /// [`super::Destination::STAND_IN`].
    pub fn without_port(&mut self, no_port: NoPort) {
        self.packet.no_port = Some(no_port);
        self.frontend = None;
        let (code, text) = words::without_port(no_port);
        let is_of_port =
            |remark: &Remark| matches!(remark.code, Code::NoSuchPort | Code::NoService);
        let ports = self.remarks.iter().filter(|remark| is_of_port(remark));
        let ports = ports.filter_map(|remark| remark.change.clone()).next();
        let is_refused = self.remarks.iter().any(|remark| remark.about == About::Refusal);
        let about = if is_refused { About::Refusal } else { About::NoService };
        self.remarks.retain(|remark| !is_of_port(remark));
        let text = match is_refused && self.remarks.is_empty() {
            true => format!(
                "{text}. The rules reject packets to a cluster IP that are for none of its ports"
            ),
            false => text.to_owned(),
        };
        let remark = Remark { change: ports, ..Remark::new(about, code, text) };
        self.remarks.insert(0, remark);
    }

    /// Adds what is to be said about addresses of endpoints that are not used.
    pub fn unused_addresses(&mut self, unused: &[UnusedAddress<'_>]) {
        let to = self.packet.to.ip();
        if let Some(ReachedFrontend { service, .. }) = &self.frontend {
            let of_service = unused.iter().filter(|one| one.service.is_service_of(service));
            let addresses: Vec<String> = of_service.map(|one| one.address.to_string()).collect();
            if !addresses.is_empty() {
                let text = words::unused_addresses(service, &addresses);
                self.remarks.push(Remark::new(About::Policy, Code::UnusedAddresses, text));
                // Remarks about the same stand together.
                self.remarks.sort_by_key(|remark| remark.about != About::Policy);
            }
        } else if let Some(one) = unused.iter().find(|one| one.address == to) {
            let text = words::unused_address(&one.service, one.address, one.first);
            self.remarks.retain(|remark| remark.about != About::NoService);
            self.remarks.push(Remark::new(About::NoService, Code::UnusedAddress, text));
        }
    }
}

/// An address of an endpoint that no Service uses, because it is not the endpoint's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedAddress<'a> {
    /// The Service of the EndpointSlice.
    pub service: ServiceRef,
    /// The address.
    pub address: IpAddr,
    /// The address of the endpoint that is used.
    pub first: &'a str,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownPacket {
    /// Its source address.
    pub from: IpAddr,
    /// Its destination, `IP:port`.
    pub to: SocketAddr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// Why the destination has no port, if so. Port and protocol then mean nothing.
    pub no_port: Option<NoPort>,
    /// The sender.
    pub sender: Sender,
}

impl ShownPacket {
    /// The destination, such as `10.96.0.1:80/tcp` or `10.96.0.1/icmp`.
    pub fn destination(&self) -> String {
        match self.no_port {
            None => format!("{}/{}", self.to, self.protocol.name()),
            Some(NoPort::Icmp) => format!("{}/icmp", self.to.ip()),
            Some(NoPort::Absent) => self.to.ip().to_string(),
        }
    }
}

impl Serialize for ShownPacket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let to = match self.no_port {
            None => self.to.to_string(),
            Some(_) => self.to.ip().to_string(),
        };
        let protocol = match self.no_port {
            None => Some(self.protocol.name()),
            Some(NoPort::Icmp) => Some("icmp"),
            Some(NoPort::Absent) => None,
        };
        let mut packet = serializer.serialize_struct("ShownPacket", 4)?;
        packet.serialize_field("from", &self.from)?;
        packet.serialize_field("to", &to)?;
        packet.serialize_field("protocol", &protocol)?;
        packet.serialize_field("sender", &self.sender)?;
        packet.end()
    }
}

/// The sender of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sender {
    /// Another host or a pod: the packet comes in through this interface.
    Interface(String),
    /// A process on this node.
    ThisNode,
}

impl From<&Packet> for ShownPacket {
    fn from(packet: &Packet) -> Self {
        let sender = match &packet.origin {
            Origin::Interface(name) => Sender::Interface(name.clone()),
            Origin::Host => Sender::ThisNode,
        };
        let Packet { source: from, destination: to, protocol, .. } = *packet;
        Self { from, to, protocol, no_port: None, sender }
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedRule {
    /// The table: one of iptables, or kube-proxy's own nftables table. Absent for rulegen's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<&'static str>,
    /// The chain.
    pub chain: String,
    /// The rule, as `iptables-save` or `nft` writes it.
    pub rule: String,
    /// The element that it found, with its data, and its set if that has a name; nftables mode only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// Its meaning, if that is not obvious.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<&'static str>,
}

/// A possible end of a packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Probability of this end.
    pub probability: Probability,
    /// What happens to the packet.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What is not followed and may lead to another end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The rules that lead to this end, between those that it passes in all cases.
    pub rules: Vec<PassedRule>,
}

/// A probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probability {
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
