//! Checks whether a Node has the name that rulegen uses for this node: the host's name, or that of
//! --hostname-override. If not, no endpoint counts as local.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::Result;
use rulegen_model::Cluster;
use rulegen_net::parse_address;
use rulegen_os::host;

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> Result<Outcome> {
    node.with_cluster(|cluster| {
        let facts = facts(cluster, host::addresses()?);
        Ok(Outcome::Found(check(&facts).into_iter().collect()))
    })
}

struct Facts {
    /// The name in use, in lower case.
    name: String,
    /// The Nodes with their addresses. The API server is asked only for the Node with our name.
    nodes: Vec<(String, Vec<IpAddr>)>,
    /// The nodes of endpoints.
    of_endpoints: BTreeSet<String>,
    host_addresses: Vec<IpAddr>,
}

fn facts(cluster: &Cluster, host_addresses: Vec<IpAddr>) -> Facts {
    let nodes = cluster.objects.nodes.iter().map(|node| {
        let addresses = node.object.status.addresses.iter();
        let addresses = addresses.filter_map(|entry| parse_address(&entry.address));
        let addresses = addresses.filter(|ip| !ip.is_loopback()).collect();
        (node.object.metadata.name.clone(), addresses)
    });
    let endpoints = cluster.objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
    Facts {
        name: cluster.snapshot.node.name.clone(),
        nodes: nodes.collect(),
        of_endpoints: endpoints.filter_map(|endpoint| endpoint.node_name.clone()).collect(),
        host_addresses,
    }
}

fn check(facts: &Facts) -> Option<Finding> {
    let Facts { name, nodes, of_endpoints, host_addresses } = facts;
    if nodes.iter().any(|(node, _)| node == name) || of_endpoints.contains(name) {
        return None;
    }
    let with_address = nodes.iter().find_map(|(node, addresses)| {
        let ip = addresses.iter().find(|ip| host_addresses.contains(ip))?;
        Some((node, format!("Node {node} has this host's address {ip}")))
    });
    let similar = of_endpoints.iter().find(|node| first_label(node) == first_label(name));
    let similar = similar.map(|node| (node, format!("there are endpoints on node {node}")));
    let (node, reason) = match with_address.or(similar) {
        Some((node, reason)) => (node.as_str(), reason),
        None if nodes.is_empty() => return None,
        None => ("NODE", format!("none of the {} Nodes has an address of this host", nodes.len())),
    };
    Some(Finding::warning(
        FindingCode::NodeNotFound,
        format!(
            "no Node is named {name}: no endpoint counts as local, so Services with traffic policy \
             Local drop their traffic here. {reason}"
        ),
        format!("start rulegen with --hostname-override={node} (hostnameOverride)"),
    ))
}

/// The part of a host name before its domain, in lower case.
fn first_label(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(nodes: &[(&str, [u8; 4])], of_endpoints: &[&str]) -> Option<Finding> {
        let node = |(name, ip): &(&str, [u8; 4])| ((*name).to_owned(), vec![IpAddr::from(*ip)]);
        check(&Facts {
            name: "ip-192-0-2-10".to_owned(),
            nodes: nodes.iter().map(node).collect(),
            of_endpoints: of_endpoints.iter().map(|name| (*name).to_owned()).collect(),
            host_addresses: vec![IpAddr::from([192, 0, 2, 10])],
        })
    }

    #[test]
    fn node_name_is_found_by_address_or_by_endpoints() {
        let node = ("ip-192-0-2-10", [192, 0, 2, 10]);
        let other = ("other", [192, 0, 2, 11]);
        let full = ("ip-192-0-2-10.region.example", [192, 0, 2, 10]);
        assert_eq!(found(&[other, node], &["other"]), None);
        assert_eq!(found(&[], &["other"]), None, "the input has no Nodes");
        let remedy = |finding: Option<Finding>| finding.unwrap().remedy;
        let with_override = "start rulegen with --hostname-override=ip-192-0-2-10.region.example (";
        assert!(remedy(found(&[other, full], &[])).starts_with(with_override));
        assert!(remedy(found(&[], &["other", full.0])).starts_with(with_override));
        let finding = found(&[other], &[]).unwrap();
        let end = "none of the 1 Nodes has an address of this host";
        assert!(finding.what.ends_with(end), "{finding:?}");
    }
}
