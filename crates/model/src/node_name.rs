//! Whether the name that is used for this node is the name of a Node. If not, no endpoint counts as
//! local.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rulegen_net::parse_address;

use crate::nearest::nearest;
use crate::object::NodeObject;
use crate::objects::Objects;

/// What objects show about the name that is used for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeName {
    /// A Node or an endpoint has it.
    Found,
    /// There are no Node objects, so it may be that of a node without endpoints.
    Unsure(MisnamedNode),
    /// No Node has it.
    NotFound(MisnamedNode),
}

/// A name that no Node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisnamedNode {
    /// The host's name, or that of --hostname-override, in lower case.
    pub name: String,
    /// The node that is probably meant.
    pub meant: Option<MeantNode>,
    /// Number of Nodes in the objects.
    pub nodes: usize,
}

/// The node that is probably meant by a name that no Node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeantNode {
    /// `metadata.name` of the Node, or `nodeName` of endpoints.
    pub name: String,
    /// Why it is probably meant.
    pub evidence: NodeEvidence,
    /// The addresses of the Node; empty if only endpoints name it.
    pub addresses: Vec<IpAddr>,
}

/// Why a node is probably meant by another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvidence {
    /// The Node has this address of the host.
    Address(IpAddr),
    /// A Node has a similar name.
    SimilarNode,
    /// Endpoints are on a node with a similar name.
    SimilarNodeOfEndpoints,
}

/// The Nodes of which objects are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownNodes {
    /// Those of the input.
    OfInput,
    /// At most the Node with this node's name: the API server was asked for this one only.
    OnlyThis,
}

impl NodeName {
    /// Looks for the name. `host_addresses` are those of this host; empty if the node is another host.
    pub fn find(
        name: &str,
        objects: &Objects,
        known: KnownNodes,
        host_addresses: &[IpAddr],
    ) -> Self {
        let nodes: Vec<&str> =
            objects.nodes.iter().map(|node| node.object.metadata.name.as_str()).collect();
        let endpoints = objects.slices.iter().flat_map(|slice| &slice.object.endpoints);
        let of_endpoints: BTreeSet<&str> =
            endpoints.filter_map(|endpoint| endpoint.node_name.as_deref()).collect();
        if nodes.contains(&name) || of_endpoints.contains(name) {
            return Self::Found;
        }
        let similar = |names: &[&str], evidence| {
            let name = similar(name, names)?.to_owned();
            let node = objects.nodes.iter().find(|node| node.object.metadata.name == name);
            let addresses = node.map(|node| addresses(&node.object).collect()).unwrap_or_default();
            Some(MeantNode { name, evidence, addresses })
        };
        let of_endpoints: Vec<&str> = of_endpoints.into_iter().collect();
        let meant = with_address(objects, host_addresses)
            .or_else(|| similar(&nodes, NodeEvidence::SimilarNode))
            .or_else(|| similar(&of_endpoints, NodeEvidence::SimilarNodeOfEndpoints));
        let is_same_host =
            meant.as_ref().is_some_and(|meant| first_label(&meant.name) == first_label(name));
        let is_sure = known == KnownNodes::OnlyThis || !nodes.is_empty() || is_same_host;
        let misnamed = MisnamedNode { name: name.to_owned(), meant, nodes: nodes.len() };
        if is_sure { Self::NotFound(misnamed) } else { Self::Unsure(misnamed) }
    }
}

/// The Node with an address of this host.
fn with_address(objects: &Objects, host_addresses: &[IpAddr]) -> Option<MeantNode> {
    objects.nodes.iter().find_map(|node| {
        let ip = addresses(&node.object).find(|ip| host_addresses.contains(ip))?;
        let name = node.object.metadata.name.clone();
        let evidence = NodeEvidence::Address(ip);
        Some(MeantNode { name, evidence, addresses: addresses(&node.object).collect() })
    })
}

/// The addresses of a Node by which it differs from others.
fn addresses(node: &NodeObject) -> impl Iterator<Item = IpAddr> + '_ {
    let addresses = node.status.addresses.iter();
    let addresses = addresses.filter_map(|entry| parse_address(&entry.address));
    addresses.filter(|ip| !ip.is_loopback())
}

/// The name that differs only in its domain or in upper case, else one with a spelling mistake.
fn similar<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let same_host = names.iter().find(|other| first_label(other) == first_label(name));
    let misspelt = || {
        let others = names.iter().filter(|other| !is_another_number(name, other));
        nearest(name, others.copied())
    };
    same_host.copied().or_else(misspelt)
}

/// The part of a host name before its domain, in lower case.
fn first_label(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

/// Whether two names differ only in their numbers: `node-1` is not a misspelt `node-2`.
fn is_another_number(one: &str, other: &str) -> bool {
    let words = |name: &str| -> Vec<String> {
        name.split(|c: char| c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_manifest;

    const HOST: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10))];

    fn found(name: &str, nodes: &[(&str, &str)], of_endpoints: &[&str]) -> NodeName {
        NodeName::find(name, &objects(nodes, of_endpoints), KnownNodes::OfInput, &HOST)
    }

    fn objects(nodes: &[(&str, &str)], of_endpoints: &[&str]) -> Objects {
        let node = |(name, ip): &(&str, &str)| {
            format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{addresses: \
                 [{{type: InternalIP, address: {ip}}}]}}\n---\n"
            )
        };
        let mut text: String = nodes.iter().map(node).collect();
        let endpoint = |node: &&str| format!("{{addresses: [10.244.1.5], nodeName: {node}}}");
        let endpoints: Vec<String> = of_endpoints.iter().map(endpoint).collect();
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1}}\n\
             addressType: IPv4\nendpoints: [{}]\n",
            endpoints.join(", ")
        );
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
        objects
    }

    fn meant(found: NodeName) -> Option<(String, NodeEvidence)> {
        let (NodeName::NotFound(misnamed) | NodeName::Unsure(misnamed)) = found else {
            panic!("found")
        };
        misnamed.meant.map(|meant| (meant.name, meant.evidence))
    }

    #[test]
    fn node_name_that_no_node_has_is_explained_by_address_domain_or_spelling() {
        use NodeEvidence::{Address, SimilarNode, SimilarNodeOfEndpoints};
        let node = |name, evidence| Some((String::from(name), evidence));
        let here = ("a.example", "192.0.2.10");
        let other = ("worker-a.example", "192.0.2.11");
        assert_eq!(meant(found("x", &[other, here], &[])), node("a.example", Address(HOST[0])));
        for name in ["worker-a", "Worker-A", "worker-a.local", "wroker-a.example"] {
            let expected = node("worker-a.example", SimilarNode);
            assert_eq!(meant(found(name, &[("b", "192.0.2.12"), other], &[])), expected, "{name}");
            let expected = node("worker-a.example", SimilarNodeOfEndpoints);
            assert_eq!(meant(found(name, &[], &["b", "worker-a.example"])), expected, "{name}");
        }
        assert_eq!(meant(found("x", &[other], &["other"])), None);
        assert_eq!(meant(found("worker-3", &[("worker-1", "192.0.2.11")], &[])), None);
    }

    #[test]
    fn node_name_is_found_in_nodes_and_endpoints_and_unsure_without_nodes() {
        assert_eq!(found("a", &[("a", "192.0.2.11")], &["b"]), NodeName::Found);
        assert_eq!(found("b", &[("a", "192.0.2.11")], &["b"]), NodeName::Found);
        let unsure = |name, of_endpoints: &[&str]| {
            matches!(found(name, &[], of_endpoints), NodeName::Unsure(_))
        };
        assert!(unsure("node-3", &["node-1", "node-2"]) && unsure("node-3", &[]));
        assert!(unsure("wroker", &["worker"]) && !unsure("worker", &["worker.example"]));
        let live = NodeName::find("a", &objects(&[], &["x"]), KnownNodes::OnlyThis, &HOST);
        let expected = MisnamedNode { name: "a".to_owned(), meant: None, nodes: 0 };
        assert_eq!(live, NodeName::NotFound(expected));
    }
}
