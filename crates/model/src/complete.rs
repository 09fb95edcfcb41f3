//! Checks of the whole input, after all files are read.

use crate::mirror::mirror;
use crate::object::Service;
use crate::objects::Objects;
use crate::problem::{Problem, Severity};
use crate::problem_code::ProblemCode;

/// How to treat an input without any Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfEmpty {
    /// Reject it: usually the namespace is wrong, and all Services would lose their rules.
    Refuse,
    /// Reject it, unless it has a Node.
    RefuseWithoutNode,
    /// Reject it, also if it has Services but none has a cluster IP, as in manifests that were
    /// never applied to a cluster. For an agent, which cannot ask for confirmation.
    RefuseWithoutAddress,
    /// Accept it.
    Allow,
}

/// The command that prints all objects that a proxy needs.
pub(crate) const FETCH: &str = "kubectl get nodes,services,endpointslices -A -o json";

const NO_SERVICE: &str =
    "no Service in the input: check the namespace (use --allow-empty if this is intended)";

const NO_CLUSTER_IP: &str = "no Service in the input has a cluster IP: the API server assigns it, so use \
                             the output of `kubectl get -o yaml` (use --allow-empty if this is \
                             intended)";

impl Objects {
    /// Completes the input after all files are read: mirrors Endpoints and checks for missing objects.
    pub fn complete(&mut self, if_empty: IfEmpty) -> Vec<Problem> {
        let mut problems = mirror(self);
        let is_reachable = self.services.iter().any(|service| has_cluster_ip(&service.object));
        let is_empty = self.services.is_empty();
        let message = match if_empty {
            IfEmpty::Refuse if is_empty => Some(NO_SERVICE),
            IfEmpty::RefuseWithoutNode if is_empty && self.nodes.is_empty() => Some(NO_SERVICE),
            IfEmpty::RefuseWithoutAddress if is_empty => Some(NO_SERVICE),
            IfEmpty::RefuseWithoutAddress if !is_reachable => Some(NO_CLUSTER_IP),
            _ => None,
        };
        problems.extend(message.map(empty));
        if is_reachable && self.slices.is_empty() {
            let message = format!(
                "no EndpointSlice in the input, so the Services have no endpoints and reject all \
                 traffic: use the output of `{FETCH}`"
            );
            problems.push(Problem::new(Severity::Warning, message).code(ProblemCode::NoSlices));
        }
        problems
    }
}

fn empty(message: &str) -> Problem {
    Problem::new(Severity::Incomplete, message).code(ProblemCode::EmptyInput)
}

/// False for headless and ExternalName Services too.
fn has_cluster_ip(service: &Service) -> bool {
    let spec = &service.spec;
    let first = spec.cluster_ip.as_deref().or(spec.cluster_ips.first().map(String::as_str));
    spec.kind.as_deref() != Some("ExternalName")
        && first.is_some_and(|ip| !ip.is_empty() && ip != "None")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_manifest;

    fn messages(text: &str, if_empty: IfEmpty) -> Vec<(Severity, String)> {
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
        let messages = |problem: Problem| (problem.severity, problem.to_string());
        objects.complete(if_empty).into_iter().map(messages).collect()
    }

    #[test]
    fn input_without_service_needs_allow_empty() {
        for text in [
            r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
            r#"{"apiVersion": "v1", "kind": "ServiceList", "items": null}"#,
            r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}"#,
            r#"{"type": "DELETED", "object": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}}"#,
        ] {
            let refused = messages(text, IfEmpty::Refuse);
            assert_eq!(refused.len(), 1, "{text}: {refused:?}");
            assert_eq!(refused[0].0, Severity::Incomplete, "{text}");
            assert!(refused[0].1.contains("--allow-empty"), "{refused:?}");
            assert_eq!(messages(text, IfEmpty::Allow), [], "{text}");
        }
    }

    #[test]
    fn input_of_services_without_cluster_ip_is_refused() {
        let text =
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}}"#;
        let refused = messages(text, IfEmpty::RefuseWithoutAddress);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].0 == Severity::Incomplete && refused[0].1.contains("has a cluster IP"));
        for if_empty in [IfEmpty::Refuse, IfEmpty::RefuseWithoutNode, IfEmpty::Allow] {
            assert_eq!(messages(text, if_empty), [], "{if_empty:?}");
        }
    }

    #[test]
    fn input_without_endpoint_slices_is_a_warning() {
        let service = |spec: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "a"}}, "spec": {spec}}}"#
            )
        };
        let web = service(r#"{"clusterIP": "10.96.0.1"}"#);
        let warned = messages(&format!("{web}{web}"), IfEmpty::Refuse);
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert_eq!(warned[0].0, Severity::Warning);
        assert!(warned[0].1.contains(FETCH), "{warned:?}");
        let slice = r#"{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "b"}}"#;
        assert_eq!(messages(&format!("{web}{slice}"), IfEmpty::Refuse), []);
        for spec in [r#"{"clusterIP": "None"}"#, r#"{"type": "ExternalName"}"#] {
            assert_eq!(messages(&service(spec), IfEmpty::Refuse), [], "{spec}");
        }
    }
}
