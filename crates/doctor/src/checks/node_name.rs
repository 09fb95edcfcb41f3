//! Checks whether a Node has the name that rulegen uses for this node: the host's name, or that of
//! --hostname-override. If not, no endpoint counts as local.

use crate::error::FactResult;
use rulegen_inspect::words;
use rulegen_model::{Cluster, KnownNodes, MisnamedNode, NodeName};
use rulegen_os::host;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|cluster| Ok(check(&found(node, cluster)?)))
}

/// Whether no Node has this node's name, so that all endpoints count as on other nodes.
pub(crate) fn is_wrong(node: &NodeFacts, cluster: &Cluster) -> FactResult<bool> {
    Ok(matches!(found(node, cluster)?, NodeName::NotFound(_)))
}

fn found(node: &NodeFacts, cluster: &Cluster) -> FactResult<NodeName> {
    let known = if node.is_from_api_server() { KnownNodes::OnlyThis } else { KnownNodes::OfInput };
    let Cluster { objects, snapshot } = cluster;
    Ok(NodeName::find(&snapshot.node.name, objects, known, &host::addresses()?))
}

fn check(name: &NodeName) -> CheckResult {
    match name {
        NodeName::Found => CheckResult::Found(Vec::new()),
        NodeName::Unsure(_) => CheckResult::NotChecked(
            "the input has no Node objects: use the output of `kubectl get \
             nodes,services,endpointslices -A -o json`"
                .to_owned(),
        ),
        NodeName::NotFound(misnamed) => CheckResult::Found(vec![finding(misnamed)]),
    }
}

fn finding(misnamed: &MisnamedNode) -> Finding {
    let meant = words::meant_node(misnamed).map(|meant| format!(". {meant}"));
    Finding::warning(
        FindingCode::NodeNotFound,
        format!(
            "{}: Services with traffic policy Local drop their traffic here{}",
            words::no_node_has(&misnamed.name),
            meant.unwrap_or_default()
        ),
        words::node_name_remedy(misnamed),
    )
}

#[cfg(test)]
mod tests {
    use rulegen_model::{MeantNode, NodeEvidence};

    use super::*;

    #[test]
    fn doctor_node_name_has_the_probable_node_as_remedy_and_needs_nodes() {
        let misnamed = |meant: Option<&str>, nodes| MisnamedNode {
            name: "ip-192-0-2-10".to_owned(),
            meant: meant.map(|name| MeantNode {
                name: name.to_owned(),
                evidence: NodeEvidence::SimilarNode,
                addresses: Vec::new(),
            }),
            nodes,
        };
        let found = |misnamed| match check(&NodeName::NotFound(misnamed)) {
            CheckResult::Found(mut findings) => findings.remove(0),
            other => panic!("{other:?}"),
        };
        let finding = found(misnamed(Some("ip-192-0-2-10.example"), 1));
        let start = "start rulegen with --hostname-override=ip-192-0-2-10.example (";
        assert!(finding.remedy.starts_with(start), "{finding:?}");
        let finding = found(misnamed(None, 0));
        assert!(finding.remedy.contains("kubectl get nodes"), "{finding:?}");
        assert_eq!(check(&NodeName::Found), CheckResult::Found(Vec::new()));
        let unsure = check(&NodeName::Unsure(misnamed(None, 0)));
        assert!(matches!(unsure, CheckResult::NotChecked(_)), "{unsure:?}");
    }
}
