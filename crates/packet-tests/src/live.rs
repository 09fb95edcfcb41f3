//! The rules in a kernel, in place of those compiled from the input.

use std::net::{IpAddr, SocketAddr};

use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::Explanation;
use rulegen_model::{Host, Node};
use rulegen_net::{IpFamily, Protocol};

/// A packet to follow through the rules of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePacket {
    /// The source address.
    pub from: IpAddr,
    /// The input interface, if the case names one.
    pub interface: Option<String>,
    /// The destination.
    pub to: SocketAddr,
    /// Protocol of the packet.
    pub protocol: Protocol,
}

/// The rules in the kernel of a node.
pub trait LiveRules {
    /// The mode of the rules.
    fn mode(&self) -> ProxyMode;

    /// The host that has the rules.
    fn host(&self) -> &Host;

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

/// Checks that a node is this host.
///
/// # Errors
/// It is another.
pub(crate) fn check_node(host: &Host, node: &Node) -> Result<(), String> {
    let of_object = IpFamily::BOTH.map(|family| node.addresses(family).primary);
    let known: Vec<IpAddr> = of_object.into_iter().filter(|ip| !ip.is_loopback()).collect();
    let is_this = match known.is_empty() {
        true => node.name.eq_ignore_ascii_case(&host.name),
        false => known.iter().any(|ip| host.addresses.contains(ip)),
    };
    if is_this {
        return Ok(());
    }
    let what = match known.as_slice() {
        [] => format!("its name is not {:?}, the name of this host", host.name),
        known => {
            let known: Vec<String> = known.iter().map(IpAddr::to_string).collect();
            let known = known.join(" or ");
            format!("this host ({:?}) does not have its address {known}", host.name)
        }
    };
    Err(format!(
        "the rules in this kernel are not those of node {:?}: {what}. Run --live on that node, or \
         name this node",
        node.name
    ))
}
