//! kube-proxy's own nftables table: its names (pkg/proxy/nftables/proxier.go of Kubernetes), and how
//! they show Services.
//!
//! ```text
//! services ─@service-ips──────▶ service-HASH-NAMESPACE/NAME/PROTOCOL/PORT      policy Cluster
//!          └@service-nodeports▶ external-… ─▶ service-…                     └▶ endpoint-…__IP/PORT
//!                                        └──▶ local-…                          policy Local
//! ```

use rulegen_compiler::nftables::FrontendMaps;
use rulegen_model::TrafficPolicy;
use rulegen_net::{Protocol, ServicePortName};
use rulegen_ruleset::nftables::{Data, Element, Name, Table, Verdict};

/// The chain that marks packets for masquerading.
pub(crate) const MARK: &str = "mark-for-masquerade";
/// The chain that rejects or drops packets to unused cluster IPs and ports.
pub(crate) const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";

/// The start of the names of chains with all endpoints of a service port.
pub(crate) const CLUSTER_POLICY: &str = "service-";
/// The start of the names of chains with the endpoints of this node.
pub(crate) const LOCAL_POLICY: &str = "local-";
/// The start of the names of chains for traffic to external addresses and node ports.
pub(crate) const EXTERNAL: &str = "external-";
/// The start of the names of chains that translate to one endpoint.
pub(crate) const ENDPOINT: &str = "endpoint-";
/// The start of the names of chains that drop packets from outside the source ranges.
pub(crate) const FIREWALL: &str = "firewall-";
/// The start of the names of sets of clients of an endpoint.
pub(crate) const AFFINITY: &str = "affinity-";

/// Whose layout a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Rulegen's.
    Rulegen,
    /// kube-proxy's.
    KubeProxy,
}

impl Layout {
    /// The layout of a table, by its maps: rulegen's table may have kube-proxy's name.
    pub(crate) fn of(table: &Table) -> Self {
        let is_kube_proxys = |maps: FrontendMaps| {
            table.sets.contains_key(Self::KubeProxy.services(maps))
                && !table.sets.contains_key(Self::Rulegen.services(maps))
        };
        match FrontendMaps::BOTH.into_iter().any(is_kube_proxys) {
            true => Self::KubeProxy,
            false => Self::Rulegen,
        }
    }

    /// The map from a frontend to its verdict.
    pub(crate) fn services(self, maps: FrontendMaps) -> &'static str {
        match (self, maps) {
            (Self::Rulegen, maps) => maps.services(),
            (Self::KubeProxy, FrontendMaps::Address) => "service-ips",
            (Self::KubeProxy, FrontendMaps::NodePort) => "service-nodeports",
        }
    }

    /// The map from a frontend without endpoints to its verdict: reject or drop.
    pub(crate) fn refused(self, maps: FrontendMaps) -> &'static str {
        match (self, maps) {
            (Self::Rulegen, maps) => maps.refused(),
            (Self::KubeProxy, FrontendMaps::Address) => "no-endpoint-services",
            (Self::KubeProxy, FrontendMaps::NodePort) => "no-endpoint-nodeports",
        }
    }

    /// The service port of an element of a map of frontends. In kube-proxy's table, the chain that it
    /// leads to has the name; elements without such a chain have it in their comment.
    pub(crate) fn service(self, element: &Element, protocol: Protocol) -> Option<ServicePortName> {
        let of_chain = || match self {
            Self::Rulegen => None,
            Self::KubeProxy => service_of_chain(chain_of(element)?.as_str()),
        };
        of_chain().or_else(|| named_in_comment(element, protocol))
    }

    /// The policy of a cluster IP, if the element that it is found by shows it.
    pub(crate) fn internal_policy(self, element: &Element) -> Option<TrafficPolicy> {
        let chain = chain_of(element).filter(|_| self == Self::KubeProxy)?.as_str();
        match () {
            () if chain.starts_with(CLUSTER_POLICY) => Some(TrafficPolicy::Cluster),
            () if chain.starts_with(LOCAL_POLICY) => Some(TrafficPolicy::Local),
            () => None,
        }
    }
}

fn chain_of(element: &Element) -> Option<&Name> {
    match &element.data {
        Some(Data::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => Some(chain),
        _ => None,
    }
}

/// Maximum length of an element's comment. Longer names are truncated, and several service ports may
/// start with the same text.
const LONGEST_COMMENT: usize = 127;

fn named_in_comment(element: &Element, protocol: Protocol) -> Option<ServicePortName> {
    let comment = element.comment.as_ref()?.as_str();
    ServicePortName::from_comment(comment, protocol).filter(|_| comment.len() < LONGEST_COMMENT)
}

/// The service port of a chain in kube-proxy's table, by the chain's name:
/// `service-2QRHZV4L-default/kubernetes/tcp/https`.
pub(crate) fn service_of_chain(chain: &str) -> Option<ServicePortName> {
    let starts = [CLUSTER_POLICY, LOCAL_POLICY, EXTERNAL, FIREWALL];
    let rest = starts.iter().find_map(|start| chain.strip_prefix(start))?;
    let (hash, rest) = rest.split_once('-')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut parts = rest.split('/');
    let path = [parts.next()?, parts.next()?, parts.next()?, parts.next().unwrap_or_default()];
    // A name that is too long ends in "...".
    ServicePortName::from_path(path).filter(|_| is_hash && !chain.ends_with("..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_proxy_chain_shows_its_service_port() {
        let of = |chain: &str| service_of_chain(chain).map(|name| name.to_string());
        let kubernetes = Some("default/kubernetes:https".to_owned());
        for start in ["service", "local", "external", "firewall"] {
            let chain = format!("{start}-2QRHZV4L-default/kubernetes/tcp/https");
            assert_eq!(of(&chain), kubernetes, "{chain}");
        }
        assert_eq!(of("service-ULMVA6XW-ns1/svc1/udp/"), Some("ns1/svc1".to_owned()));
        for other in [
            "services",
            "service-endpoints-check",
            "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80",
            "service-2QRHZV4L-default/kubernetes/tcp/htt...",
            "service-short-ns1/svc1/tcp/p80",
            "service-2QRHZV4L-A/b/tcp/",
            "service-2QRHZV4L-a/b/icmp/",
            "nat-prerouting",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
