//! Checks whether a Node has the name that rulegen uses for this node: the host's name, or that of
//! --hostname-override. If not, no endpoint counts as local.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::FactResult;
use rulegen_model::Cluster;
use rulegen_net::parse_address;
use rulegen_os::host;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|cluster| Ok(check(&facts(node, cluster)?)))
}

/// Whether no Node has this node's name, so that all endpoints count as on other nodes.
pub(crate) fn is_wrong(node: &NodeFacts, cluster: &Cluster) -> FactResult<bool> {
    let outcome = check(&facts(node, cluster)?);
    Ok(matches!(outcome, CheckResult::Found(findings) if !findings.is_empty()))
}

struct NodeNameFacts {
    /// The name in use, in lower case.
    name: String,
    /// The Nodes with their addresses.
    nodes: Vec<(String, Vec<IpAddr>)>,
    /// Whether the API server was asked for the Node with our name, and only for this one.
    is_from_api_server: bool,
    /// The nodes of endpoints.
    of_endpoints: BTreeSet<String>,
    host_addresses: Vec<IpAddr>,
}

fn facts(node: &NodeFacts, cluster: &Cluster) -> FactResult<NodeNameFacts> {
    let nodes = cluster.objects.nodes.iter().map(|node| {
        let addresses = node.object.status.addresses.iter();
        let addresses = addresses.filter_map(|entry| parse_address(&entry.address));
        let addresses = addresses.filter(|ip| !ip.is_loopback()).collect();
        (node.object.metadata.name.clone(), addresses)
    });
    let endpoints = cluster.objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
    Ok(NodeNameFacts {
        name: cluster.snapshot.node.name.clone(),
        nodes: nodes.collect(),
        is_from_api_server: node.is_from_api_server(),
        of_endpoints: endpoints.filter_map(|endpoint| endpoint.node_name.clone()).collect(),
        host_addresses: host::addresses()?,
    })
}

fn check(facts: &NodeNameFacts) -> CheckResult {
    let NodeNameFacts { name, nodes, is_from_api_server, of_endpoints, host_addresses } = facts;
    if nodes.iter().any(|(node, _)| node == name) || of_endpoints.contains(name) {
        return CheckResult::Found(Vec::new());
    }
    let with_address = nodes.iter().find_map(|(node, addresses)| {
        let ip = addresses.iter().find(|ip| host_addresses.contains(ip))?;
        Some((node, format!("Node {node} has this host's address {ip}")))
    });
    let similar = of_endpoints.iter().find(|node| first_label(node) == first_label(name));
    let similar = similar.map(|node| (node, format!("there are endpoints on node {node}")));
    let (node, reason) = match with_address.or(similar) {
        Some((node, reason)) => (node.as_str(), reason),
        None if *is_from_api_server => ("NODE", "`kubectl get nodes` lists their names".to_owned()),
        None if nodes.is_empty() => {
            return CheckResult::NotChecked(
                "the input has no Node objects: use the output of `kubectl get \
                 nodes,services,endpointslices -A -o json`"
                    .to_owned(),
            );
        }
        None => ("NODE", format!("none of the {} Nodes has an address of this host", nodes.len())),
    };
    CheckResult::Found(vec![Finding::warning(
        FindingCode::NodeNotFound,
        format!(
            "no Node is named {name}: no endpoint counts as local, so Services with traffic policy \
             Local drop their traffic here. {reason}"
        ),
        format!("start rulegen with --hostname-override={node} (hostnameOverride)"),
    )])
}

/// The part of a host name before its domain, in lower case.
fn first_label(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(nodes: &[(&str, [u8; 4])], of_endpoints: &[&str], live: bool) -> CheckResult {
        let node = |(name, ip): &(&str, [u8; 4])| ((*name).to_owned(), vec![IpAddr::from(*ip)]);
        check(&NodeNameFacts {
            name: "ip-192-0-2-10".to_owned(),
            nodes: nodes.iter().map(node).collect(),
            is_from_api_server: live,
            of_endpoints: of_endpoints.iter().map(|name| (*name).to_owned()).collect(),
            host_addresses: vec![IpAddr::from([192, 0, 2, 10])],
        })
    }

    fn found(nodes: &[(&str, [u8; 4])], of_endpoints: &[&str], live: bool) -> Vec<Finding> {
        match outcome(nodes, of_endpoints, live) {
            CheckResult::Found(findings) => findings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn node_name_is_found_by_address_or_by_endpoints() {
        let node = ("ip-192-0-2-10", [192, 0, 2, 10]);
        let other = ("other", [192, 0, 2, 11]);
        let full = ("ip-192-0-2-10.region.example", [192, 0, 2, 10]);
        assert_eq!(found(&[other, node], &["other"], false), []);
        assert_eq!(found(&[], &["other", node.0], false), []);
        let remedy = |findings: Vec<Finding>| findings[0].remedy.clone();
        let with_override = "start rulegen with --hostname-override=ip-192-0-2-10.region.example (";
        assert!(remedy(found(&[other, full], &[], false)).starts_with(with_override));
        assert!(remedy(found(&[], &["other", full.0], false)).starts_with(with_override));
        let findings = found(&[other], &[], false);
        let end = "none of the 1 Nodes has an address of this host";
        assert!(findings[0].what.ends_with(end), "{findings:?}");
    }

    #[test]
    fn node_name_without_node_objects_is_not_checked_unless_the_api_server_has_none() {
        let CheckResult::NotChecked(reason) = outcome(&[], &["other"], false) else {
            panic!("checked")
        };
        assert!(reason.starts_with("the input has no Node objects"), "{reason}");
        let findings = found(&[], &["other"], true);
        assert!(
            findings[0].what.ends_with("`kubectl get nodes` lists their names"),
            "{findings:?}"
        );
    }
}
