//! What the statements of nftables rules do.

use rulegen_compiler::nftables::CLUSTER_IPS;
use rulegen_ruleset::nftables::{
    Condition, Key, Number, NumgenMode, Rule, Selector, Statement, Table, Value,
};

/// How the rule generates a number, if it does.
pub(super) fn drawn(rule: &Rule) -> NumgenMode {
    let number = |number: &Number| match number {
        Number::Modulo(draw, below) if *below > 1 => Some(*draw),
        _ => None,
    };
    let in_key = |key: &Vec<Selector>| {
        key.iter().find_map(|selector| match selector {
            Selector::Number(of) => number(of),
            _ => None,
        })
    };
    let in_statement = |statement: &Statement| match statement {
        Statement::DnatMap { key, .. } | Statement::VerdictMap { key, .. } => in_key(key),
        Statement::Match(Condition::Is(of, _)) => number(of),
        _ => None,
    };
    rule.statements.iter().find_map(in_statement).unwrap_or(NumgenMode::Random)
}

pub(super) fn does(rule: &Rule, what: impl Fn(&Statement) -> bool) -> bool {
    rule.statements.iter().any(what)
}

/// Whether a key starts with the address of a cluster IP.
pub(super) fn is_cluster_ip(table: &Table, key: &Key) -> bool {
    let address = key.values().find(|value| matches!(value, Value::Address(_)));
    let Some((address, set)) = address.zip(table.sets.get(CLUSTER_IPS)) else {
        return false;
    };
    set.elements.contains_key(&Key::from([address]))
}
