//! Small pieces of rules.

use rulegen_ruleset::Negatable;
use rulegen_ruleset::nftables::{Condition, Interface, Name, Rule, Selector, Statement, Verdict};

use crate::plan::{Masquerade, Plan, PodTraffic};

/// The key of a frontend with an address.
pub(super) const ADDRESS_KEY: &[Selector] =
    &[Selector::DestinationAddress, Selector::Protocol, Selector::DestinationPort];

/// The key of maps for node ports, which has no address.
pub(super) const NODE_PORT_KEY: &[Selector] = &[Selector::Protocol, Selector::DestinationPort];

/// Appends a part to a key.
pub(super) fn key_and(key: &[Selector], last: Selector) -> Vec<Selector> {
    key.iter().copied().chain([last]).collect()
}

pub(super) fn holds(key: &[Selector], set: &str) -> Statement {
    Statement::Match(Condition::SetLookup {
        key: key.to_vec(),
        set: Negatable::is(Name::from(set)),
    })
}

pub(super) fn verdict_map(key: &[Selector], map: &str) -> Statement {
    Statement::VerdictMap { key: key.to_vec(), map: Name::from(map) }
}

pub(super) fn jump(chain: impl AsRef<str>) -> Statement {
    Statement::Verdict(Verdict::Jump(Name::from(chain)))
}

pub(super) fn goto(chain: impl AsRef<str>) -> Statement {
    Statement::Verdict(Verdict::Goto(Name::from(chain)))
}

pub(super) fn mark(plan: &Plan) -> Statement {
    Statement::MarkOr(plan.masquerade_mark)
}

/// A condition for traffic of this node's pods, or for all other traffic; nothing if all packets
/// match.
pub(super) fn by_pods(pods: &PodTraffic, negated: bool) -> Option<Statement> {
    let interface = |value| Condition::InInterface(Negatable { negated, value });
    let condition = match pods {
        PodTraffic::From(network) if network.prefix_len() == 0 => return None,
        PodTraffic::From(network) => Condition::Source(Negatable { negated, value: *network }),
        PodTraffic::Through(name) => interface(Interface::Named(name.clone())),
        PodTraffic::ThroughPrefix(start) => interface(Interface::Prefix(start.clone())),
    };
    Some(Statement::Match(condition))
}

/// The rule that marks traffic to a cluster IP from other sources for masquerading, if the plan
/// requires it.
pub(super) fn masquerade_internal(plan: &Plan, masquerade: Masquerade) -> Option<Rule> {
    match (masquerade, &plan.pod_traffic) {
        (Masquerade::All, _) => Some(Rule::new([mark(plan)])),
        (Masquerade::NotFromPods, Some(pods)) => {
            by_pods(pods, true).map(|others| Rule::new([others, mark(plan)]))
        }
        (Masquerade::NotFromPods | Masquerade::None, _) => None,
    }
}

/// The rules for external traffic under policy Local: that of this node's pods and of the node
/// itself is treated as under policy Cluster, and only that of the node is masqueraded.
pub(super) fn short_circuit(plan: &Plan, cluster: &Statement) -> Vec<Rule> {
    let pods = plan.pod_traffic.as_ref().map(|pods| {
        let statements = by_pods(pods, false).into_iter().chain([cluster.clone()]);
        Rule::new(statements).comment("this node's pods: as with policy Cluster")
    });
    let from_node = || Statement::Match(Condition::SourceIsLocal);
    let marked = Rule::new([from_node(), mark(plan)]);
    let node =
        Rule::new([from_node(), cluster.clone()]).comment("the node: as with policy Cluster");
    pods.into_iter().chain([marked, node]).collect()
}
