//! Explains which endpoints are selected, and how one of them is chosen.

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::NumgenMode;

use super::Remarks;
use crate::explain::Outcome;
use crate::explain::reason::{Affinity, InnerClient, Reason, RemarkSubject, UsedEndpoints};
use crate::explain::remark::Remark;
use crate::rule_role::RuleRole;

impl Remarks<'_> {
    pub(super) fn policy(&self) -> Option<Remark> {
        let (field, policy) = (self.policy_field(), self.frontend?.policy?);
        let uses = match self.is_terminating_and_serving() {
            true => UsedEndpoints::Terminating,
            false => UsedEndpoints::Ready,
        };
        let reason = match (policy, self.short_circuit()) {
            (TrafficPolicy::Cluster, _) => {
                let unused = self.service.map(|service| service.unused).unwrap_or_default();
                Reason::PolicyCluster { field, uses, unused }
            }
            (TrafficPolicy::Local, Some(client)) => {
                Reason::PolicyLocalFromNode { field, client, uses }
            }
            (TrafficPolicy::Local, None) => Reason::PolicyLocal { field, uses },
        };
        Some(Remark::new(RemarkSubject::Policy, reason))
    }

    pub(super) fn choice(&self) -> Option<Remark> {
        let remark = |reason| Some(Remark::new(RemarkSubject::Choice, reason));
        if self.roles().any(|meaning| *meaning == RuleRole::KnownClient) {
            return remark(Reason::AffinityHit);
        }
        let drawn = self.roles().find_map(|meaning| match meaning {
            RuleRole::Choice(draw) | RuleRole::ChosenTranslation(draw) => Some(*draw),
            _ => None,
        })?;
        let affinity = self.affinity();
        match drawn {
            NumgenMode::BySource => remark(Reason::Maglev(affinity)),
            _ if self.endpoints_met() < 2 => None,
            NumgenMode::ByFlow => remark(Reason::Maglev5Tuple(affinity)),
            NumgenMode::InTurn => remark(Reason::RoundRobin(affinity)),
            NumgenMode::Random => remark(Reason::Random(affinity)),
        }
    }

    /// The session affinity of the Service. iptables mode has a limit, which is not read from this
    /// kernel.
    fn affinity(&self) -> Option<Affinity> {
        let seconds = self.service.and_then(|service| service.affinity_seconds);
        let records_client = self.roles().any(|meaning| *meaning == RuleRole::RecordsClient);
        let mut steps = self.ways.iter().flat_map(|way| &way.steps);
        let is_limited = steps.any(|rule| rule.table.is_some());
        (seconds.is_some() || records_client).then_some(Affinity { seconds, is_limited })
    }

    /// The client that may reach all endpoints although the policy is Local.
    pub(super) fn short_circuit(&self) -> Option<InnerClient> {
        self.roles().find_map(|meaning| match meaning {
            RuleRole::ShortCircuit { from_node: true } => Some(InnerClient::Node),
            RuleRole::ShortCircuit { from_node: false } => Some(InnerClient::Pod),
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
            choice.unwrap().to_string()
        });
        assert!(nftables.ends_with("gets the same endpoint (sessionAffinity: ClientIP)"));
        let limit = ", unless more other clients came to that endpoint since than the kernel module \
                     xt_recent keeps (100 by default)";
        assert_eq!(iptables, format!("{nftables}{limit}"));
    }
}
