//! Explains which endpoints are selected, and how one of them is chosen.

use rulegen_model::{Endpoint, TrafficPolicy};
use rulegen_ruleset::nftables::NumgenMode;

use super::Remarks;
use crate::explain::Outcome;
use crate::explain::remark::{About, Remark};
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
        Some(Remark::new(About::Policy, code, text))
    }

    pub(super) fn choice(&self) -> Option<Remark> {
        if self.roles().any(|meaning| *meaning == RuleRole::KnownClient) {
            let text = "this client used this endpoint before and gets it again (sessionAffinity: ClientIP)";
            return Some(Remark::new(About::Choice, Code::AffinityHit, text));
        }
        let drawn = self.roles().find_map(|meaning| match meaning {
            RuleRole::Choice(draw) | RuleRole::ChosenTranslation(draw) => Some(*draw),
            _ => None,
        })?;
        let way = match drawn {
            NumgenMode::BySource => {
                "chosen by a hash of the client's address: the same client gets the same endpoint while the number of endpoints does not change"
            }
            _ if self.endpoints_met() < 2 => return None,
            NumgenMode::InTurn => "round-robin: each new connection gets the next endpoint",
            NumgenMode::Random => {
                "an endpoint is chosen at random for each new connection, and all packets of the connection go there"
            }
        };
        let affinity = self.service.and_then(|service| service.affinity_seconds);
        let records_client = self.roles().any(|meaning| *meaning == RuleRole::RecordsClient);
        let again = "gets the same endpoint (sessionAffinity: ClientIP)";
        let code = match drawn {
            NumgenMode::BySource => Code::SourceHash,
            NumgenMode::InTurn => Code::RoundRobin,
            NumgenMode::Random => Code::Random,
        };
        Some(Remark::new(
            About::Choice,
            code,
            match affinity {
                Some(seconds) => {
                    format!("{way}; a client that connected within {seconds} s {again}")
                }
                None if records_client => format!("{way}; a client that connected before {again}"),
                None => way.to_owned(),
            },
        ))
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
