//! What is not certain about an end of a packet: other tables, and the rest of the host.

use std::collections::BTreeMap;

use rulegen_ruleset::firewall::{
    Effect, Evaluation, FirewallBaseChain, FirewallChainKind, Hit, RefusalKind,
};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::reason::{Reason, TableEffect};

/// A condition under which an end of a packet does not hold. Its text stands after "unless".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndCondition {
    /// What would change the end.
    pub reason: Reason,
}

impl EndCondition {
    /// Its code in JSON, which is stable.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// The chains that it is about.
    pub fn chains(&self) -> &[String] {
        match &self.reason {
            Reason::OtherTable { chains, .. } => chains,
            _ => &[],
        }
    }
}

impl Serialize for EndCondition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut condition = serializer.serialize_struct("EndCondition", 3)?;
        condition.serialize_field("code", self.code())?;
        condition.serialize_field("text", &self.reason.to_string())?;
        match self.chains() {
            [] => condition.skip_field("chains")?,
            chains => condition.serialize_field("chains", chains)?,
        }
        condition.end()
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
    pub(super) fn add(&mut self, reason: Reason) {
        let condition = EndCondition { reason };
        if !self.others.contains(&condition) {
            self.others.push(condition);
        }
    }

    /// Adds what a chain may do: the effects that `matters` selects.
    pub(super) fn add_chain(
        &mut self,
        base: &FirewallBaseChain,
        evaluation: &Evaluation,
        matters: impl Fn(TableEffect) -> bool,
    ) {
        let Evaluation { refusals, untracks, translates, .. } = evaluation;
        // Marks matter together with those of other chains.
        let hits = refusals.iter().chain(untracks).chain(translates);
        let hits =
            hits.map(|hit| (effect(base.kind, hit), hit)).filter(|(effect, _)| matters(*effect));
        let hits: Vec<(TableEffect, &Hit)> = hits.collect();
        self.add_hits(base, &hits);
    }

    /// Adds what rules of a chain may do.
    pub(super) fn add_hits(&mut self, base: &FirewallBaseChain, hits: &[(TableEffect, &Hit)]) {
        let Some((_, first)) = hits.first() else { return };
        let of_table = self.tables.entry(base.table.clone()).or_default();
        for (effect, _) in hits {
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
            let OfTable { effects, chains } = of;
            EndCondition { reason: Reason::OtherTable { table, effects, chains } }
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
        (Effect::Translates | Effect::Marks { .. }, _) => TableEffect::Changes,
    }
}
