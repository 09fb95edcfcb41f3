//! The packet of an explanation.

use std::net::{IpAddr, SocketAddr};

use rulegen_net::Protocol;
use rulegen_ruleset::{Origin, Packet};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::network::RouteInput;
use super::no_address::NoPort;

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
    /// Whether this node sends the packet, or the interface through which it comes in.
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
    /// Another host or a pod. The interface that the packet comes in through is not known.
    UnknownInterface,
    /// A process on this node.
    ThisNode,
}

impl From<&Packet> for ShownPacket {
    fn from(packet: &Packet) -> Self {
        let sender = match &packet.origin {
            Origin::Interface(name) => Sender::Interface(name.clone()),
            Origin::UnknownInterface => Sender::UnknownInterface,
            Origin::Host => Sender::ThisNode,
        };
        let Packet { source: from, destination: to, protocol, .. } = *packet;
        Self { from, to, protocol, no_port: None, sender }
    }
}

impl From<RouteInput<'_>> for Sender {
    fn from(input: RouteInput<'_>) -> Self {
        match input {
            RouteInput::Interface(name) => Self::Interface(name.to_owned()),
            RouteInput::UnknownInterface => Self::UnknownInterface,
            RouteInput::Host => Self::ThisNode,
        }
    }
}
