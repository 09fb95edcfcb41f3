//! What kube-proxy's comments on iptables rules say.

use rulegen_compiler::Refusal;
use rulegen_net::{FrontendKind, Protocol, ServicePortName, ServiceRef};
use rulegen_ruleset::iptables::{Match, RuleSpec};

/// The comment of a rule: `default/web:http cluster IP`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleComment<'a>(&'a str);

/// What a comment says about a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommentSubject {
    /// Its traffic to an address of this kind is matched.
    Frontend(FrontendKind),
    /// Its traffic is refused.
    Refused(Refusal),
    /// Traffic from outside its source ranges is dropped.
    Firewalled,
    /// Health checks of load balancers are accepted.
    HealthCheck,
    /// The node itself may bypass policy Local, and is masqueraded.
    MasqueradeFromNode,
    /// The node itself bypasses policy Local.
    RouteFromNode,
    /// Pods bypass policy Local.
    PodTraffic,
}

impl<'a> RuleComment<'a> {
    pub(crate) fn of(rule: &'a RuleSpec) -> Option<Self> {
        rule.matches.iter().find_map(|of| match of {
            Match::Comment(comment) => Some(Self(comment)),
            _ => None,
        })
    }

    /// What it says, if it says more than the name of a service port.
    pub(crate) fn subject(self) -> Option<CommentSubject> {
        use CommentSubject::{
            Firewalled, Frontend, HealthCheck, MasqueradeFromNode, PodTraffic, Refused,
            RouteFromNode,
        };
        let starts = [
            ("masquerade LOCAL ", MasqueradeFromNode),
            ("route LOCAL ", RouteFromNode),
            ("pod traffic ", PodTraffic),
        ];
        if let Some((_, subject)) = starts.iter().find(|(start, _)| self.0.starts_with(start)) {
            return Some(*subject);
        }
        Some(match self.0.split_once(' ')?.1 {
            "cluster IP" => Frontend(FrontendKind::ClusterIP),
            "external IP" => Frontend(FrontendKind::ExternalIP),
            "loadbalancer IP" => Frontend(FrontendKind::LoadBalancerIP),
            "has no endpoints" => Refused(Refusal::NoEndpoints),
            "has no local endpoints" => Refused(Refusal::NoLocalEndpoints),
            "health check node port" => HealthCheck,
            other if other.starts_with("traffic not accepted by ") => Firewalled,
            _ => return None,
        })
    }

    /// The service port that it names. Comments do not show the protocol.
    pub(crate) fn service_port(self, protocol: Protocol) -> Option<ServicePortName> {
        ServicePortName::from_comment(self.0, protocol)
    }

    /// The Service and port that it names.
    pub(crate) fn service(self) -> Option<ServiceRef> {
        ServiceRef::from_comment(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_comments_of_kube_proxy_are_read() {
        use CommentSubject::{
            Firewalled, Frontend, HealthCheck, MasqueradeFromNode, PodTraffic, Refused,
            RouteFromNode,
        };
        for (comment, name, subject) in [
            ("default/web:http", true, None),
            ("default/web:http cluster IP", true, Some(Frontend(FrontendKind::ClusterIP))),
            ("default/web external IP", true, Some(Frontend(FrontendKind::ExternalIP))),
            ("default/web loadbalancer IP", true, Some(Frontend(FrontendKind::LoadBalancerIP))),
            ("default/web has no endpoints", true, Some(Refused(Refusal::NoEndpoints))),
            ("default/web has no local endpoints", true, Some(Refused(Refusal::NoLocalEndpoints))),
            ("default/web health check node port", true, Some(HealthCheck)),
            ("default/web traffic not accepted by KUBE-FW-A", true, Some(Firewalled)),
            ("default/web -> 10.0.0.1:80", true, None),
            ("masquerade LOCAL traffic for default/web", false, Some(MasqueradeFromNode)),
            ("route LOCAL traffic for default/web", false, Some(RouteFromNode)),
            ("pod traffic for default/web", false, Some(PodTraffic)),
            ("kubernetes service portals", false, None),
        ] {
            let comment_of = RuleComment(comment);
            assert_eq!(comment_of.subject(), subject, "{comment}");
            assert_eq!(comment_of.service_port(Protocol::Tcp).is_some(), name, "{comment}");
            assert_eq!(comment_of.service().is_some(), name, "{comment}");
        }
    }
}
