//! What was read says what was written.

use proptest::prelude::*;
use rulegen_compiler::nftables;
use rulegen_kernel::nftables::Dataplane;
use rulegen_model::parse_network;
use rulegen_ruleset::nftables::{Comment, Condition, Statement, Table, diff, lower, raise};
use rulegen_ruleset::{Family, Negatable};

use crate::cluster::{objects, plans};
use crate::layout::in_nftables_mode;
use crate::twin::Twin;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each rule is found again in what the kernel keeps of it.
    #[test]
    fn rules_are_found_again(objects in objects(), config in in_nftables_mode()) {
        for (_, plan) in plans(&objects, &config) {
            let table = nftables::table(&plan, &"rulegen".into());
            for rule in table.chains.values().flat_map(|chain| &chain.rules) {
                let lowered = lower(table.family, &rule.statements);
                prop_assert_eq!(raise(table.family, &lowered), Some(rule.statements.clone()));
            }
        }
    }

    /// And so is the table, but for what it says it is for, which is not read.
    #[test]
    fn tables_are_found_again(objects in objects(), config in in_nftables_mode()) {
        for (_, plan) in plans(&objects, &config) {
            let wanted = nftables::table(&plan, &"rulegen".into());
            let mut twin = Twin::default();
            twin.commit(None, &[diff(None, &wanted)]).unwrap();
            let (_, held) = twin.read(&[(wanted.family, &wanted.name)]).unwrap();
            let held = held.into_iter().flatten().next().unwrap();
            let raised = held.raised(wanted.family, &wanted.name);
            prop_assert_eq!(raised.unknown, vec![]);
            prop_assert_eq!(raised.table, Table { comment: Comment::from(""), ..wanted });
        }
    }
}

#[test]
fn half_a_rule_is_no_rule() {
    let network = parse_network("10.0.0.0/8").unwrap();
    let statement = Statement::If(Condition::Source(Negatable::is(network)));
    let lowered = lower(Family::Ipv4, std::slice::from_ref(&statement));
    assert_eq!(raise(Family::Ipv4, &lowered), Some(vec![statement]));
    for part in 1..lowered.len() {
        assert_eq!(raise(Family::Ipv4, &lowered[..part]), None, "{part}");
        assert_eq!(raise(Family::Ipv4, &lowered[part..]), None, "{part}");
    }
    assert_eq!(raise(Family::Ipv6, &lowered), None);
}
