//! What is said of an input as a whole, once all its files are read.

use crate::manifest::Objects;
use crate::mirror::mirror;
use crate::object::Service;
use crate::problem::{Problem, Severity};

/// What an input without any Service means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfEmpty {
    /// A mistake, mostly in the namespace: all Services would lose their rules.
    Refuse,
    /// The same, unless there is a Node: it may have no Services.
    RefuseWithoutNode,
    /// A mistake, also where Services are there and none has a cluster IP, as in manifests that
    /// were never in a cluster. For an agent, which asks nobody.
    RefuseWithoutAddress,
    /// Nothing unusual.
    Allow,
}

/// The command that gets what a proxy needs.
pub(crate) const FETCH: &str = "kubectl get nodes,services,endpointslices -A -o json";

const NO_SERVICE: &str = "there is no Service in the input: is its namespace right? \
                          (--allow-empty says that there shall be none)";

const NO_CLUSTER_IP: &str = "no Service in the input has a cluster IP: the API server assigns it, so take \
                             the manifests from `kubectl get -o yaml` (--allow-empty says that there \
                             shall be no rules)";

impl Objects {
    /// Ends the reading of an input: mirrors Endpoints, and looks at what the input has as a
    /// whole.
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
        problems.extend(message.map(|message| Problem::new(Severity::Unread, message)));
        if is_reachable && self.slices.is_empty() {
            let message = format!(
                "there is no EndpointSlice in the input, so the Services have no endpoints and refuse \
                 all traffic: `{FETCH}` gets both"
            );
            problems.push(Problem::new(Severity::Warning, message));
        }
        problems
    }
}

/// Whether it has an address that packets come to; headless Services and names of DNS have none.
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

    fn said(text: &str, if_empty: IfEmpty) -> Vec<(Severity, String)> {
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", text.as_bytes(), &mut objects), []);
        let said = |problem: Problem| (problem.severity, problem.to_string());
        objects.complete(if_empty).into_iter().map(said).collect()
    }

    #[test]
    fn an_input_without_a_service() {
        for text in [
            r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
            r#"{"apiVersion": "v1", "kind": "ServiceList", "items": null}"#,
            r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}"#,
            r#"{"type": "DELETED", "object": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}}"#,
        ] {
            let refused = said(text, IfEmpty::Refuse);
            assert_eq!(refused.len(), 1, "{text}: {refused:?}");
            assert_eq!(refused[0].0, Severity::Unread, "{text}");
            assert!(refused[0].1.contains("--allow-empty"), "{refused:?}");
            assert_eq!(said(text, IfEmpty::Allow), [], "{text}");
        }
    }

    #[test]
    fn services_that_were_never_in_a_cluster() {
        let text =
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}}"#;
        let refused = said(text, IfEmpty::RefuseWithoutAddress);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].0 == Severity::Unread && refused[0].1.contains("has a cluster IP"));
        for if_empty in [IfEmpty::Refuse, IfEmpty::RefuseWithoutNode, IfEmpty::Allow] {
            assert_eq!(said(text, if_empty), [], "{if_empty:?}");
        }
    }

    #[test]
    fn services_without_slices() {
        let service = |spec: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "a"}}, "spec": {spec}}}"#
            )
        };
        let web = service(r#"{"clusterIP": "10.96.0.1"}"#);
        let warned = said(&format!("{web}{web}"), IfEmpty::Refuse);
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert_eq!(warned[0].0, Severity::Warning);
        assert!(warned[0].1.contains(FETCH), "{warned:?}");
        let slice = r#"{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "b"}}"#;
        assert_eq!(said(&format!("{web}{slice}"), IfEmpty::Refuse), []);
        for spec in [r#"{"clusterIP": "None"}"#, r#"{"type": "ExternalName"}"#] {
            assert_eq!(said(&service(spec), IfEmpty::Refuse), [], "{spec}");
        }
    }
}
