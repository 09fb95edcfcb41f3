//! Finds processes (API server, kubelet, sshd) that listen on a node address that a Service has as
//! external or load-balancer IP. Their clients reach the Service instead.

use std::net::IpAddr;

use crate::error::FactResult;
use rulegen_model::{NodeClaims, Snapshot, TakenAddress};
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_os::sockets::{Listener, listeners};

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_services(|cluster| {
        let claims = claims(&cluster.snapshot, &host::addresses()?);
        let ports = claims.ports();
        let listening = if ports.is_empty() { Vec::new() } else { listeners(&ports)? };
        Ok(CheckResult::Found(check(&claims, &listening)))
    })
}

/// Uses the host's addresses too: the Node object may not list all of them.
fn claims(snapshot: &Snapshot, of_host: &[IpAddr]) -> NodeClaims {
    let ports = IpFamily::BOTH.into_iter().flat_map(|family| snapshot.service_ports(family));
    NodeClaims::of(ports, |ip| snapshot.node.has_address(ip) || of_host.contains(&ip))
}

fn check(claims: &NodeClaims, listening: &[Listener]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in listening {
        let taken = claims.taken_from(listener.protocol, listener.address);
        findings.extend(taken.map(|taken| finding(&taken, listener)));
    }
    findings
}

fn finding(taken: &TakenAddress, listener: &Listener) -> Finding {
    let TakenAddress { port, at, kind, others } = taken;
    let process =
        listener.holder.as_ref().map_or_else(|| "a process".to_owned(), ToString::to_string);
    let more = match others {
        0 => String::new(),
        1 => " (and 1 more address)".to_owned(),
        others => format!(" (and {others} more addresses)"),
    };
    let over = port.protocol.api_name();
    Finding::warning(
        FindingCode::NodeAddressInUse,
        format!(
            "{at}{more} ({over}) of Service {port} ({}) is an address of this node, and {process} \
             listens on {}: connections go to the Service's endpoints instead",
            kind.field(),
            listener.address
        ),
        format!(
            "choose another address or port for Service {port}; --refuse-node-addresses excludes \
             all addresses of the node"
        ),
    )
}
