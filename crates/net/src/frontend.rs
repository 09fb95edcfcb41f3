use serde::Serialize;

/// The kind of address at which a Service receives traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[expect(missing_docs, reason = "the names are the API's")]
pub enum FrontendKind {
    ClusterIP,
    ExternalIP,
    LoadBalancerIP,
    NodePort,
    /// An external or load-balancer IP, where the rules do not tell which.
    External,
}

impl FrontendKind {
    /// The kind as it stands in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            FrontendKind::ClusterIP => "cluster IP",
            FrontendKind::ExternalIP => "external IP",
            FrontendKind::LoadBalancerIP => "load-balancer IP",
            FrontendKind::NodePort => "node port",
            FrontendKind::External => "external or load-balancer IP",
        }
    }
}
