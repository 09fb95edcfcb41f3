//! Whatever the kernel had and whatever fails: in the end it has the desired tables or its old ones,
//! and foreign tables are unchanged.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rulegen_compiler::nftables;
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_net::IpFamily;
use rulegen_ruleset::dataplane::{DataplaneError, RefusalReason, reconcile};
use rulegen_ruleset::nftables::{
    Actual, ActualChain, ActualRule, BaseChain, ChainKind, Element, Expression, Hook, Name,
    Operation, Table, Transaction, Verdict,
};
use serde_json::Value;

use crate::cluster::{config, objects, plans};
use crate::fake_kernel::{FakeKernel, Fault};

fn tables(objects: &[Value], config: &ProxyConfig) -> Vec<Table> {
    let config = ProxyConfig { mode: ProxyMode::Nftables, ..config.clone() };
    plans(objects, &config).map(|(_, plan)| nftables::table(&plan, &"rulegen".into())).into()
}

/// Writes until it works. Returns the number of operations of the last transaction.
fn write(fake: &mut FakeKernel, desired: &[Table]) -> Result<usize, DataplaneError> {
    let count = |all: &[Transaction<'_>]| all.iter().map(|one| one.operations.len()).sum();
    reconcile(fake, desired, count)
}

/// A fake kernel with only these tables.
fn fresh(desired: &[Table]) -> FakeKernel {
    let mut fake = FakeKernel::default();
    write(&mut fake, desired).unwrap();
    fake
}

/// Our tables without rule handles, which only depend on the order of creation.
fn content(fake: &FakeKernel) -> Vec<(IpFamily, Actual)> {
    let ours = fake.tables.iter().filter(|((_, name), _)| name.as_str() == "rulegen");
    let mut content: Vec<(IpFamily, Actual)> =
        ours.map(|((family, _), actual)| (*family, actual.clone())).collect();
    let chains = content.iter_mut().flat_map(|(_, actual)| actual.chains.values_mut().flatten());
    chains.flat_map(|chain| &mut chain.rules).for_each(|rule| rule.handle = None);
    content
}

/// A change by another program.
#[derive(Debug, Clone)]
enum ForeignChange {
    Drop(Index),
    ForeignRule(Index, bool),
    DeleteRule(Index),
    ForeignChain,
    ForeignSet(Index),
    DeleteElement(Index, Index),
    ChangeElement(Index, Index),
    OtherPriority(Index),
    Object,
}

fn foreign_change() -> impl Strategy<Value = ForeignChange> {
    prop_oneof![
        any::<Index>().prop_map(ForeignChange::Drop),
        (any::<Index>(), any::<bool>())
            .prop_map(|(at, first)| ForeignChange::ForeignRule(at, first)),
        any::<Index>().prop_map(ForeignChange::DeleteRule),
        Just(ForeignChange::ForeignChain),
        any::<Index>().prop_map(ForeignChange::ForeignSet),
        (any::<Index>(), any::<Index>())
            .prop_map(|(set, at)| ForeignChange::DeleteElement(set, at)),
        (any::<Index>(), any::<Index>())
            .prop_map(|(set, at)| ForeignChange::ChangeElement(set, at)),
        any::<Index>().prop_map(ForeignChange::OtherPriority),
        Just(ForeignChange::Object),
    ]
}

fn apply_foreign_change(fake: &mut FakeKernel, foreign_change: &ForeignChange) {
    let mine = Name::from("mine");
    for actual in fake.tables.values_mut() {
        let mut chains: Vec<&mut ActualChain> = actual.chains.values_mut().flatten().collect();
        match foreign_change {
            ForeignChange::Drop(at) => {
                let rule = Some(vec![Expression::Verdict(Verdict::Drop)]);
                chains.swap_remove(at.index(chains.len())).rules.insert(0, foreign(rule));
            }
            ForeignChange::ForeignRule(at, first) => {
                let rules = &mut chains.swap_remove(at.index(chains.len())).rules;
                rules.insert(if *first { 0 } else { rules.len() }, foreign(None));
            }
            ForeignChange::DeleteRule(at) => {
                let rules = &mut chains.swap_remove(at.index(chains.len())).rules;
                rules.pop();
            }
            ForeignChange::ForeignChain => {
                let jump = Some(vec![Expression::Verdict(Verdict::Jump(mine.clone()))]);
                chains.swap_remove(0).rules.push(foreign(jump));
                actual.chains.insert(mine.clone(), Some(ActualChain::default()));
            }
            ForeignChange::ForeignSet(at) => {
                let at = at.index(actual.sets.len());
                if let Some(set) = actual.sets.values_mut().nth(at) {
                    *set = None;
                }
            }
            ForeignChange::DeleteElement(set, at) => {
                if let Some(Some(set)) = actual.sets.values_mut().nth(set.index(18) % 17)
                    && !set.elements.is_empty()
                {
                    let at = at.index(set.elements.len());
                    let key = set.elements.keys().nth(at).unwrap().clone();
                    set.elements.remove(&key);
                }
            }
            ForeignChange::ChangeElement(set, at) => {
                if let Some(Some(set)) = actual.sets.values_mut().nth(set.index(18) % 17)
                    && !set.elements.is_empty()
                {
                    let at = at.index(set.elements.len());
                    let element: &mut Element = set.elements.values_mut().nth(at).unwrap();
                    element.comment = Some("foreign".into());
                }
            }
            ForeignChange::OtherPriority(at) => {
                let mut based: Vec<&mut ActualChain> =
                    chains.into_iter().filter(|chain| chain.base.is_some()).collect();
                let at = at.index(based.len());
                let base = BaseChain { kind: ChainKind::Nat, hook: Hook::Input, priority: 7 };
                based.swap_remove(at).base = Some(base);
            }
            ForeignChange::Object => actual.foreign.push("the object mine".to_owned()),
        }
    }
    fake.generation += 1;
}

fn foreign(expressions: Option<Vec<Expression>>) -> ActualRule {
    ActualRule { handle: Some(u64::MAX), expressions, comment: None }
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    select(vec![
        None,
        Some(Fault::Interrupted),
        Some(Fault::Operation(0)),
        Some(Fault::Operation(7)),
        Some(Fault::AnswerLost),
        Some(Fault::QuestionLost),
        Some(Fault::Overtaken),
        Some(Fault::Flushed),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Also with changes by other programs before. The fake refuses operations in a wrong order,
    /// like the kernel.
    #[test]
    fn reconcile_gives_wanted_table_and_then_writes_nothing(
        before in objects(), after in objects(), configs in (config(), config()),
        foreign_changes in prop::collection::vec(foreign_change(), 0..4),
    ) {
        let mut fake = fresh(&tables(&before, &configs.0));
        foreign_changes.iter().for_each(|foreign_change| apply_foreign_change(&mut fake, foreign_change));
        let other = (IpFamily::Ipv4, Name::from("theirs"));
        let theirs = Actual { foreign: vec!["what nft cannot read".to_owned()], ..Actual::default() };
        fake.tables.insert(other.clone(), theirs.clone());

        let desired = tables(&after, &configs.1);
        write(&mut fake, &desired).unwrap();
        prop_assert_eq!(content(&fake), content(&fresh(&desired)));
        let generation = fake.generation;
        prop_assert_eq!(write(&mut fake, &desired).unwrap(), 0);
        prop_assert_eq!(fake.generation, generation);
        prop_assert_eq!(&fake.tables[&other], &theirs);
    }

    #[test]
    fn reconcile_replaces_table_that_cannot_be_changed(
        before in objects(), after in objects(), config in config(),
    ) {
        let mut fake = fresh(&tables(&before, &config));
        apply_foreign_change(&mut fake, &ForeignChange::ForeignChain);
        fake.faults = vec![Some(Fault::Unchangeable), None];
        let desired = tables(&after, &config);
        let replaced = reconcile(&mut fake, &desired, |all| {
            all.iter().all(|one| one.operations[0] == Operation::DeleteTable)
        });
        prop_assert!(replaced.unwrap());
        prop_assert_eq!(content(&fake), content(&fresh(&desired)));
    }

    /// This takes two commits. The first contains everything that affects packets.
    #[test]
    fn reconcile_works_with_late_chain_release_before_linux_6_2(
        before in objects(), after in objects(), config in config(),
    ) {
        let mut fake = fresh(&tables(&before, &config));
        fake.is_old = true;
        let desired = tables(&after, &config);
        write(&mut fake, &desired).unwrap();
        prop_assert_eq!(content(&fake), content(&fresh(&desired)));
    }

    #[test]
    fn reconcile_survives_faults(
        before in objects(), after in objects(), config in config(),
        faults in prop::collection::vec(fault(), 0..40),
    ) {
        let mut fake = fresh(&tables(&before, &config));
        let desired = tables(&after, &config);
        let (old, new) = (content(&fake), content(&fresh(&desired)));
        fake.faults = faults;
        let mut tries = 0;
        while let Err(error) = write(&mut fake, &desired) {
            let now = content(&fake);
            prop_assert!(now == old || now == new || now.is_empty(), "{error}: a mix of both states");
            tries += 1;
            prop_assert!(tries <= 40, "{error}: too many tries");
        }
        prop_assert_eq!(content(&fake), new);
    }

    /// Fails each operation of a transaction in turn.
    #[test]
    fn reconcile_failed_operation_is_named_and_undone(
        before in objects(), after in objects(), config in config(),
    ) {
        let desired = tables(&after, &config);
        let fake_before = || fresh(&tables(&before, &config));
        let operations = write(&mut fake_before(), &desired).unwrap();
        for number in 0..operations {
            let mut fake = fake_before();
            let old = content(&fake);
            fake.faults = vec![Some(Fault::Operation(number)), None];
            match write(&mut fake, &desired) {
                // Operations that depend on the failed one fail too, and are reported after it.
                Err(DataplaneError::Refused(refusals)) => {
                    prop_assert_eq!(refusals[0].reason, RefusalReason::Circumstances);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            prop_assert_eq!(&content(&fake), &old);
            prop_assert_eq!(write(&mut fake, &desired).unwrap(), operations);
        }
    }
}

/// The diff is minimal: a replaced endpoint replaces one element in each map that contains it.
#[test]
fn reconcile_of_one_endpoint_writes_few_elements() {
    let service = |address: &str| {
        let service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                     "ports": [{"port": 80}]},
        });
        let slice = serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "default",
                         "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.5"]}, {"addresses": [address]}],
        });
        tables(&[service, slice], &ProxyConfig::default())
    };
    let mut fake = fresh(&service("10.244.1.6"));
    let desired = service("10.244.1.7");
    let operations = reconcile(&mut fake, &desired, |all| {
        let elements = |operation: &Operation<'_>| match operation {
            Operation::AddElements(name, _, elements) => format!("+{name} {}", elements.len()),
            Operation::DeleteElements(name, _, elements) => format!("-{name} {}", elements.len()),
            other => format!("{other:?}"),
        };
        all.iter().flat_map(|one| &one.operations).map(elements).collect::<Vec<_>>()
    });
    assert_eq!(operations.unwrap(), ["-endpoints 1", "-hairpins 1", "+endpoints 1", "+hairpins 1"]);
}
