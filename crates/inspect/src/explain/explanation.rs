//! What became of a packet, as data. The names of the fields are those of the JSON, and stay.

use std::net::{IpAddr, SocketAddr};

use rulegen_model::{TrafficPolicy, UnavailableReason};
use rulegen_net::{FrontendKind, Protocol, ServicePortName};
use rulegen_ruleset::{Origin, Packet};
use serde::Serialize;

use super::outcome::Outcome;
use super::remark::{About, Remark};
use crate::words::CLIENT_IS_REJECTED;

/// What becomes of the first packet of a connection, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The packet.
    pub packet: ShownPacket,
    /// Where it arrives, if that is a Service's.
    pub frontend: Option<ReachedFrontend>,
    /// Why it is so, and what would change it.
    pub remarks: Vec<Remark>,
    /// The rules that it passes in any case, in order.
    pub rules: Vec<PassedRule>,
    /// Where it may end. The probabilities add up to 1.
    pub ends: Vec<End>,
    /// The rules that it passes in any case behind those of its end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<PassedRule>,
    /// What could not be judged, and was taken to let the packet pass: rules of others, and in
    /// nftables mode their chains at the same hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<PassedRule>,
}

impl Explanation {
    /// Tells of something that was not followed.
    pub fn not_followed(&mut self, chain: String, rule: String) {
        self.unknown.push(PassedRule { table: None, chain, rule, element: None, means: None });
    }

    /// Says why a packet is rejected by what its service port lacks, which rules do not show. That
    /// there is no endpoint on this node, rules do show.
    pub fn refused_because(
        &mut self,
        why: impl FnOnce(&ServicePortName) -> Option<UnavailableReason>,
    ) {
        let Some(ReachedFrontend { service: port, .. }) = &self.frontend else { return };
        let lacking = self.remarks.iter_mut().find(|remark| remark.about == About::NoEndpoints);
        let is_rejected = matches!(self.ends.as_slice(), [End { outcome: Outcome::Rejected, .. }]);
        let Some(remark) = lacking.filter(|_| is_rejected) else { return };
        if let Some(why) = why(port) {
            remark.text = format!("{port} {why}: {CLIENT_IS_REJECTED}");
            remark.change = Some(why.remedy(port));
        }
    }
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownPacket {
    /// Its source address.
    pub from: IpAddr,
    /// Its destination, `IP:port`.
    pub to: SocketAddr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// Who sends it.
    pub sender: Sender,
}

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sender {
    /// It comes in through this interface.
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
        Self { from, to, protocol, sender }
    }
}

/// The frontend that a packet reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachedFrontend {
    /// The service port, `namespace/name:port`.
    pub service: ServicePortName,
    /// What the address is to the Service.
    pub kind: FrontendKind,
    /// The packet's destination.
    pub address: SocketAddr,
    /// The traffic policy for it, if the rules or the plan show it.
    pub policy: Option<TrafficPolicy>,
}

/// A rule that did something to the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedRule {
    /// The table, in iptables mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<&'static str>,
    /// The chain.
    pub chain: String,
    /// The rule, as `iptables-save` or `nft` writes it.
    pub rule: String,
    /// The element that it found, in nftables mode: the set, the key and what it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// What it means, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<&'static str>,
}

/// Where a packet may end.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// How often it ends there.
    pub probability: Probability,
    /// The end.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The rules that lead there, between those that it passes in any case.
    pub rules: Vec<PassedRule>,
}

/// How probable something is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probability {
    /// From 0 to 1, as near as floating point comes.
    pub value: f64,
    /// Exactly: a fraction. Left out where its denominator has more than 128 bits, as behind five
    /// rules of iptables, each of which draws 31 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// `n`, if it is one in `n` to the resolution of the kernel's random numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u64>,
}
