//! What is not certain about an end of a packet: other tables, and the rest of the host.

use std::collections::BTreeMap;

use rulegen_ruleset::firewall::{
    Effect, FirewallBaseChain, FirewallChainKind, Hit, Judgement, RefusalKind,
};
use serde::Serialize;

use crate::words::{self, Code, TableEffect};

/// A condition under which an end of a packet does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndCondition {
    /// Its code in JSON, which is stable.
    pub code: Code,
    /// The condition, as it stands after "unless".
    pub text: String,
    /// The chains that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<String>,
}

impl EndCondition {
    /// A condition that is not about chains.
    pub(super) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), chains: Vec::new() }
    }
}

/// The conditions of one end, as they are found.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    tables: BTreeMap<String, OfTable>,
    others: Vec<EndCondition>,
}

/// What a table may do.
#[derive(Debug, Default)]
struct OfTable {
    effects: Vec<TableEffect>,
    chains: Vec<String>,
}

impl Conditions {
    /// Adds a condition, once.
    pub(super) fn add(&mut self, condition: EndCondition) {
        if !self.others.contains(&condition) {
            self.others.push(condition);
        }
    }

    /// Adds what a chain may do: the effects that `matters` selects.
    pub(super) fn add_chain(
        &mut self,
        base: &FirewallBaseChain,
        judgement: &Judgement,
        matters: impl Fn(TableEffect) -> bool,
    ) {
        let Judgement { refusals, untracks, translates, .. } = judgement;
        let hits = refusals.iter().chain(untracks).chain(translates);
        let hits =
            hits.map(|hit| (effect(base.kind, hit), hit)).filter(|(effect, _)| matters(*effect));
        let hits: Vec<(TableEffect, &Hit)> = hits.collect();
        let Some((_, first)) = hits.first() else { return };
        let of_table = self.tables.entry(base.table.clone()).or_default();
        for (effect, _) in &hits {
            if !of_table.effects.contains(effect) {
                of_table.effects.push(*effect);
            }
        }
        let rule = match (&base.chains, first.chain == base.chain) {
            (None, _) => String::new(),
            (Some(_), true) => format!(": {}", first.rule),
            (Some(_), false) => format!(": {first}"),
        };
        let (chain, hook, kind) = (&base.chain, base.hook.name(), base.kind.name());
        let described = format!("{chain} ({kind} priority {} at {hook}{rule})", base.priority);
        if !of_table.chains.contains(&described) {
            of_table.chains.push(described);
        }
    }

    /// All conditions: one per table, then the others.
    pub(super) fn all(self) -> Vec<EndCondition> {
        let of_tables = self.tables.into_iter().map(|(table, mut of)| {
            of.effects.sort_unstable();
            EndCondition {
                code: Code::OtherTable,
                text: words::other_table(&table, &of.effects, &of.chains),
                chains: of.chains,
            }
        });
        of_tables.chain(self.others).collect()
    }
}

fn effect(kind: FirewallChainKind, hit: &Hit) -> TableEffect {
    match (hit.effect, kind) {
        (Effect::Refuses(RefusalKind::Reject), _) => TableEffect::Rejects,
        // What is not understood in a chain of type nat most likely translates, as kube-proxy's maps.
        (Effect::Refuses(RefusalKind::Unknown), FirewallChainKind::Nat) => TableEffect::Changes,
        (Effect::Refuses(RefusalKind::Drop), _) => TableEffect::Drops,
        (Effect::Refuses(RefusalKind::Unknown), _) => TableEffect::Unknown,
        (Effect::Untracks, _) => TableEffect::DoesNotTrack,
        (Effect::Translates, _) => TableEffect::Changes,
    }
}
