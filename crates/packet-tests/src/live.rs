//! The rules in a kernel, in place of those compiled from the input.

use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::Explanation;
use rulegen_model::Node;
use rulegen_net::Protocol;

/// A packet to follow through the rules of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePacket {
    /// The source address.
    pub from: IpAddr,
    /// The input interface, if the case names one.
    pub interface: Option<String>,
    /// The destination.
    pub to: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
}

/// The rules in the kernel of a node.
pub trait LiveRules {
    /// The mode of the rules.
    fn mode(&self) -> ProxyMode;

    /// Checks that the rules are those of this node.
    ///
    /// # Errors
    /// They are those of another node.
    fn check_node(&self, node: &Node) -> Result<(), String>;

    /// Explains what the rules do with a packet. The plan is that of the input. `complete` adds what
    /// the input says about the explanation.
    ///
    /// # Errors
    /// The rules cannot be read.
    fn explain(
        &self,
        packet: &LivePacket,
        plan: &Plan,
        complete: &dyn Fn(&mut Explanation),
    ) -> Result<Explanation, String>;
}
