//! A transaction that is split into several commits results in the same table. After each commit,
//! packets reach endpoints only, and all frontends that exist before and after are present.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rulegen_compiler::nftables;
use rulegen_ruleset::dataplane::Dataplane;
use rulegen_ruleset::nftables::{
    Actual, Comment, Data, Key, Name, Table, Transaction, Verdict, diff, stages,
};
use serde_json::Value;

use crate::cluster::{objects, plans};
use crate::fake_kernel::FakeKernel;
use crate::layout::{gap, in_nftables_mode};

/// Elements of a stage.
const STAGE_SIZE: usize = 7;

/// Maximum number of stages, each of which is checked whole.
const MOST_STAGES: usize = 30;

fn actual(fake: &mut FakeKernel, table: &Table) -> Option<Actual> {
    let (_, actual) = fake.read(&[(table.family, &table.name)]).unwrap();
    actual.into_iter().next().flatten()
}

fn delinearized(fake: &mut FakeKernel, table: &Table) -> Table {
    actual(fake, table).unwrap().delinearize(table.family, &table.name).table
}

/// The frontends of a table.
fn frontends(table: &Table) -> BTreeSet<(&'static str, Key)> {
    ["services", "node-ports"]
        .into_iter()
        .flat_map(|name| table.sets[name].elements.keys().map(move |key| (name, key.clone())))
        .collect()
}

/// A frontend that may choose a number without an endpoint.
fn leads_nowhere(table: &Table) -> Option<String> {
    for (name, key) in frontends(table) {
        if let Some(Data::Verdict(Verdict::Goto(chain))) = &table.sets[name].elements[&key].data
            && let Some(number) = gap(table, chain, &key)
        {
            return Some(format!("{name} {key:?} has no endpoint {number}"));
        }
    }
    None
}

fn table(objects: &[Value], config: &rulegen_config::ProxyConfig) -> Table {
    let [(_, plan), _] = plans(objects, config);
    nftables::table(&plan, &Name::from("rulegen"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nftables_stages_of_a_commit_keep_frontends_reachable(
        states in prop::collection::vec(objects(), 2..4), config in in_nftables_mode(),
    ) {
        let mut fake = FakeKernel::default();
        let mut before: Option<Table> = None;
        for state in &states {
            let desired = table(state, &config);
            let actual = actual(&mut fake, &desired);
            let transaction = diff(actual.as_ref(), &desired);
            let size = STAGE_SIZE.max(transaction.elements() / MOST_STAGES);
            let all = stages(std::slice::from_ref(&transaction), size);
            let steps = all.len();
            let stay: BTreeSet<_> = match &before {
                Some(before) => frontends(before).intersection(&frontends(&desired)).cloned().collect(),
                None => BTreeSet::new(),
            };
            for stage in &all {
                prop_assert!(steps == 1 || element_count(stage) <= 2 * size, "{stage:?}");
                fake.commit(None, stage).unwrap();
                let now = delinearized(&mut fake, &desired);
                prop_assert_eq!(leads_nowhere(&now), None);
                prop_assert!(frontends(&now).is_superset(&stay));
            }
            let now = delinearized(&mut fake, &desired);
            prop_assert_eq!(now, Table { comment: Comment::from(""), ..as_read(desired.clone()) });
            before = Some(desired);
        }
    }
}

/// Number of elements in a stage. A replaced element counts twice.
fn element_count(stage: &[Transaction<'_>]) -> usize {
    stage.iter().map(Transaction::elements).sum()
}

fn as_read(mut table: Table) -> Table {
    for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        rule.statements = rule.statements.iter().map(crate::raising::as_read).collect();
    }
    table
}
