//! Delinearizing the kernel's expressions gives the original rules.

use proptest::prelude::*;
use rulegen_compiler::nftables;
use rulegen_net::{IpFamily, parse_network};
use rulegen_ruleset::Negatable;
use rulegen_ruleset::dataplane::Dataplane;
use rulegen_ruleset::nftables::{
    Comment, Condition, Number, NumgenMode, Selector, Statement, Table, delinearize, diff,
    linearize,
};

use crate::cluster::{objects, plans};
use crate::fake_kernel::FakeKernel;
use crate::layout::in_nftables_mode;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each rule is recovered from the kernel's expressions.
    #[test]
    fn nftables_rules_delinearize_round_trip(objects in objects(), config in in_nftables_mode()) {
        for (_, plan) in plans(&objects, &config) {
            let table = nftables::table(&plan, &"rulegen".into());
            for rule in table.chains.values().flat_map(|chain| &chain.rules) {
                let linearized = linearize(table.family, &rule.statements);
                let desired: Vec<Statement> = rule.statements.iter().map(as_read).collect();
                prop_assert_eq!(delinearize(table.family, &linearized), Some(desired));
            }
        }
    }

    /// Each table is recovered, except its comment, which is not read.
    #[test]
    fn nftables_tables_delinearize_round_trip(objects in objects(), config in in_nftables_mode()) {
        for (_, plan) in plans(&objects, &config) {
            let mut desired = nftables::table(&plan, &"rulegen".into());
            for rule in desired.chains.values_mut().flat_map(|chain| &mut chain.rules) {
                rule.statements = rule.statements.iter().map(as_read).collect();
            }
            let mut fake = FakeKernel::default();
            fake.commit(None, &[diff(None, &desired)]).unwrap();
            let (_, actual) = fake.read(&[(desired.family, &desired.name)]).unwrap();
            let actual = actual.into_iter().flatten().next().unwrap();
            let delinearized = actual.delinearize(desired.family, &desired.name);
            prop_assert_eq!(delinearized.unknown, vec![]);
            prop_assert_eq!(delinearized.table, Table { comment: Comment::from(""), ..desired });
        }
    }
}

/// Round-robin with one endpoint has the same kernel form as the constant 0, so it is read back as
/// the constant.
pub(crate) fn as_read(statement: &Statement) -> Statement {
    let mut actual = statement.clone();
    if let Statement::DnatMap { key, .. } = &mut actual {
        for selector in key {
            if *selector == Selector::Number(Number::Modulo(NumgenMode::InTurn, 1)) {
                *selector = Selector::Number(Number::Constant(0));
            }
        }
    }
    actual
}

#[test]
fn nftables_partial_rule_is_not_delinearized() {
    let network = parse_network("10.0.0.0/8").unwrap();
    let statement = Statement::Match(Condition::Source(Negatable::is(network)));
    let linearized = linearize(IpFamily::Ipv4, std::slice::from_ref(&statement));
    assert_eq!(delinearize(IpFamily::Ipv4, &linearized), Some(vec![statement]));
    for part in 1..linearized.len() {
        assert_eq!(delinearize(IpFamily::Ipv4, &linearized[..part]), None, "{part}");
        assert_eq!(delinearize(IpFamily::Ipv4, &linearized[part..]), None, "{part}");
    }
    assert_eq!(delinearize(IpFamily::Ipv6, &linearized), None);
}
