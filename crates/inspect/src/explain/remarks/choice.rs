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
            true => "for want of ready ones, those that still serve while they shut down",
            false => "those that are ready",
        };
        let text = match (policy, self.short_circuit()) {
            (TrafficPolicy::Cluster, _) => {
                format!(
                    "{field} is Cluster: all endpoints may get it, on any node ({which}{})",
                    self.hints()
                )
            }
            (TrafficPolicy::Local, Some(from_node)) => format!(
                "{field} is Local, but {} sends this, which never was outside: all endpoints may get it ({which})",
                if from_node { "this node" } else { "a pod" }
            ),
            (TrafficPolicy::Local, None) => {
                format!("{field} is Local: only endpoints on this node may get it ({which})")
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
        if self.roles().any(|meaning| *meaning == RuleRole::Kept) {
            let text = "this client had this endpoint before, and gets it again (sessionAffinity: ClientIP)";
            return Some(Remark::new(About::Choice, Code::AffinityHit, text));
        }
        let drawn = self.roles().find_map(|meaning| match meaning {
            RuleRole::Choice(draw) | RuleRole::ChosenTranslation(draw) => Some(*draw),
            _ => None,
        })?;
        let way = match drawn {
            NumgenMode::BySource => {
                "the client's address decides: this one always gets the same, as long as there are so many endpoints"
            }
            _ if self.endpoints_met() < 2 => return None,
            NumgenMode::InTurn => "endpoints take turns, one new connection after the other",
            NumgenMode::Random => {
                "one is drawn at random for each new connection, whose packets then all go there"
            }
        };
        let affinity = self.service.and_then(|service| service.affinity_seconds);
        let remembers = self.roles().any(|meaning| *meaning == RuleRole::Remembers);
        let again = "gets it again (sessionAffinity: ClientIP)";
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
                    format!("{way}; a client that had one within {seconds} s {again}")
                }
                None if remembers => format!("{way}; a client that had one before {again}"),
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
                "; {seen} of {all}: the others are not ready, or topology hints keep traffic from them"
            ),
            _ => String::new(),
        }
    }
}
