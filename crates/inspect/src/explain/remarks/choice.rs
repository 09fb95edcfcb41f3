//! Explains which endpoints are selected, and how one of them is chosen.

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::NumgenMode;

use super::Remarks;
use crate::explain::Outcome;
use crate::explain::remark::{Remark, RemarkSubject};
use crate::rule_role::RuleRole;
use crate::words::Code;

impl Remarks<'_> {
    pub(super) fn policy(&self) -> Option<Remark> {
        let field = self.policy_field();
        let policy = self.frontend?.policy?;
        let which = match self.is_terminating_and_serving() {
            true => "no endpoint is ready, so terminating endpoints that still serve",
            false => "ready endpoints",
        };
        let text = match (policy, self.short_circuit()) {
            (TrafficPolicy::Cluster, _) => {
                format!(
                    "{field} is Cluster: endpoints on all nodes are used ({which}{})",
                    self.hints()
                )
            }
            (TrafficPolicy::Local, Some(from_node)) => format!(
                "{field} is Local, but the packet comes from {}, not from outside: endpoints on all nodes are used ({which})",
                if from_node { "this node" } else { "a pod" }
            ),
            (TrafficPolicy::Local, None) => {
                format!("{field} is Local: only endpoints on this node are used ({which})")
            }
        };
        let code = match (policy, self.short_circuit()) {
            (TrafficPolicy::Cluster, _) => Code::PolicyCluster,
            (TrafficPolicy::Local, Some(_)) => Code::PolicyLocalFromNode,
            (TrafficPolicy::Local, None) => Code::PolicyLocal,
        };
        Some(Remark::new(RemarkSubject::Policy, code, text))
    }

    pub(super) fn choice(&self) -> Option<Remark> {
        if self.roles().any(|meaning| *meaning == RuleRole::KnownClient) {
            let text = "this client used this endpoint before and gets it again (sessionAffinity: ClientIP)";
            return Some(Remark::new(RemarkSubject::Choice, Code::AffinityHit, text));
        }
        let drawn = self.roles().find_map(|meaning| match meaning {
            RuleRole::Choice(draw) | RuleRole::ChosenTranslation(draw) => Some(*draw),
            _ => None,
        })?;
        let way = match drawn {
            NumgenMode::BySource => {
                "chosen by a hash of the client's address: the same client gets the same endpoint while the endpoints do not change"
            }
            _ if self.endpoints_met() < 2 => return None,
            NumgenMode::ByFlow => {
                "chosen by a hash of the client's address and source port: the same pair gets the same endpoint while the endpoints do not change"
            }
            NumgenMode::InTurn => "round-robin: each new connection gets the next endpoint",
            NumgenMode::Random => {
                "an endpoint is chosen at random for each new connection, and all packets of the connection go there"
            }
        };
        let affinity = self.service.and_then(|service| service.affinity_seconds);
        let records_client = self.roles().any(|meaning| *meaning == RuleRole::RecordsClient);
        let again = "gets the same endpoint (sessionAffinity: ClientIP)";
        let code = match drawn {
            NumgenMode::BySource => Code::Maglev,
            NumgenMode::ByFlow => Code::Maglev5Tuple,
            NumgenMode::InTurn => Code::RoundRobin,
            NumgenMode::Random => Code::Random,
        };
        Some(Remark::new(
            RemarkSubject::Choice,
            code,
            match affinity {
                Some(seconds) => {
                    format!(
                        "{way}; a client that connected within {seconds} s {again}{}",
                        self.limit()
                    )
                }
                None if records_client => {
                    format!("{way}; a client that connected before {again}{}", self.limit())
                }
                None => way.to_owned(),
            },
        ))
    }

    /// The limit of session affinity in iptables mode. The value of this kernel is not read.
    fn limit(&self) -> &'static str {
        let mut steps = self.ways.iter().flat_map(|way| &way.steps);
        match steps.any(|(rule, _)| rule.table.is_some()) {
            true => {
                ", unless more other clients came to that endpoint since than the kernel module xt_recent keeps (100 by default)"
            }
            false => "",
        }
    }

    /// The client that may reach all endpoints although the policy is Local: this node, or a pod.
    pub(super) fn short_circuit(&self) -> Option<bool> {
        self.roles().find_map(|meaning| match meaning {
            RuleRole::ShortCircuit { from_node } => Some(*from_node),
            _ => None,
        })
    }

    fn endpoints_met(&self) -> usize {
        self.ways.iter().filter(|way| matches!(way.verdict, Outcome::Endpoint { .. })).count()
    }

    /// True if none of the endpoints that it may reach is ready.
    fn is_terminating_and_serving(&self) -> bool {
        let is_met = |endpoint: &&Endpoint| {
            self.ways.iter().any(|way| match way.verdict {
                Outcome::Endpoint { endpoint: met, .. } => met == endpoint.address,
                _ => false,
            })
        };
        let Some(service) = self.service else { return false };
        let mut met = service.reachable_endpoints.iter().filter(is_met).peekable();
        met.peek().is_some() && met.all(|endpoint| !endpoint.ready)
    }

    /// True if the policy selects fewer endpoints than exist.
    fn hints(&self) -> String {
        let seen = self.service.map(|service| (service.cluster_endpoints.len(), service.endpoints));
        match seen {
            Some((seen, all)) if seen < all => format!(
                "; {seen} of {all}: the others are not ready, or topology hints exclude them"
            ),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rulegen_compiler::{iptables::ruleset, nftables::table, plan};
    use rulegen_config::ProxyConfig;
    use rulegen_model::{Host, Objects, SnapshotOptions, read_manifest, snapshot};
    use rulegen_net::{IpFamily, Protocol};
    use rulegen_ruleset::{Origin, Packet};

    use crate::explain::{RemarkSubject, by_ruleset, by_table};

    #[test]
    fn explain_session_affinity_in_iptables_mode_names_the_limit_of_xt_recent() {
        let manifest = "
            {kind: List, apiVersion: v1, items: [
            {kind: Service, apiVersion: v1, metadata: {name: web}, spec: {clusterIP: 10.96.0.10,
            sessionAffinity: ClientIP, ports: [{port: 80}]}},
            {kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: web-1,
            labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{port: 80}],
            endpoints: [{addresses: [10.244.1.5]}, {addresses: [10.244.1.6]}]}]}";
        let mut objects = Objects::default();
        assert_eq!(read_manifest("test", manifest.as_bytes(), &mut objects), []);
        let (snapshot, _) = snapshot(&objects, &SnapshotOptions::default(), &Host::default());
        let plan = plan(&snapshot, &ProxyConfig::default(), IpFamily::Ipv4);
        let packet = Packet {
            origin: Origin::Interface("eth0".to_owned()),
            source: "10.244.1.9".parse().unwrap(),
            destination: "10.96.0.10:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        };
        let [iptables, nftables] = [
            by_ruleset(&ruleset(&plan), &[], &packet, Some(&plan)),
            by_table(&table(&plan, &"rulegen".into()), &[], &packet, Some(&plan)),
        ]
        .map(|explanation| {
            let choice =
                explanation.remarks.into_iter().find(|it| it.about == RemarkSubject::Choice);
            choice.unwrap().text
        });
        assert!(nftables.ends_with("gets the same endpoint (sessionAffinity: ClientIP)"));
        let limit = ", unless more other clients came to that endpoint since than the kernel module \
                     xt_recent keeps (100 by default)";
        assert_eq!(iptables, format!("{nftables}{limit}"));
    }
}
