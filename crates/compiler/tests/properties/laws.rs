//! Order of objects, text output, and diff.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rulegen_compiler::iptables::{OURS, removal_of_everything, ruleset};
use rulegen_compiler::{nftables, plan};
use rulegen_model::{Host, IfEmpty, Objects, read_manifest, snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Chain, Rule, Ruleset, Table, diff, parse};
use serde_json::{Value, json};

use crate::cluster::{config, objects, plans, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The same objects give the same bytes in any order, in one or many files, as YAML or JSON.
    #[test]
    fn manifest_order_files_and_format_do_not_matter(
        (given, shuffled) in objects().prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
        config in config(),
        forms in vec(0_u8..7, 40),
    ) {
        let one_list = vec![json!({"apiVersion": "v1", "kind": "List", "items": given}).to_string()];
        let many_files: Vec<String> =
            shuffled.iter().zip(&forms).map(|(object, form)| in_form(object, *form)).collect();
        let one_file = vec![many_files.join("\n---\n")];
        let texts = |files: &[String]| IpFamily::BOTH.map(|family| {
            let (snapshot, _) = snapshot(&read(files), &config.snapshot_options(), &Host::default());
            ruleset(&plan(&snapshot, &config, family)).to_text()
        });
        let desired = texts(&one_list);
        prop_assert_eq!(&texts(&many_files), &desired);
        prop_assert_eq!(&texts(&one_file), &desired);
    }

    /// Printed rules are parsed back to the same rules, with no foreign ones.
    #[test]
    fn iptables_save_text_is_parsed_back(objects in objects(), config in config()) {
        for (_, plan) in plans(&objects, &config) {
            let ruleset = ruleset(&plan);
            let (back, errors) = parse(ruleset.family, &ruleset.to_text());
            prop_assert_eq!(errors, vec![]);
            prop_assert_eq!(back, ruleset);
        }
    }

    /// After a diff is applied, the next diff is empty, and foreign rules are unchanged.
    #[test]
    fn iptables_diff_then_apply_gives_wanted_rules(
        before in objects(), after in objects(), config in config(), foreign_rules in foreign_rules(),
    ) {
        for ((_, before), (_, after)) in plans(&before, &config).iter().zip(&plans(&after, &config)) {
            let mut actual = ruleset(before);
            foreign_rules.iter().for_each(|foreign_rule| foreign_rule.join(&mut actual));
            let foreign_before = foreign(&actual);
            let desired = ruleset(after);
            let actual_before = actual.clone();
            diff(&actual_before, &desired, &OURS).apply(&mut actual);
            let rest = diff(&actual, &desired, &OURS).to_text();
            prop_assert_eq!(rest, "");
            prop_assert_eq!(&foreign(&actual), &foreign_before);
            for (table, chains) in &desired.tables {
                for (name, chain) in chains.iter().filter(|(name, _)| OURS.owns(*table, name)) {
                    prop_assert_eq!(actual.chain(*table, name), Some(chain));
                }
            }
            let stale = |name: &str| OURS.owns(Table::Nat, &name.into())
                && desired.chain(Table::Nat, &name.into()).is_none();
            for name in actual.tables[&Table::Nat].keys() {
                prop_assert!(!stale(name.as_str()) || has_foreign_jump(&actual, name.as_str()));
            }
        }
    }

    /// The diff of equal rulesets is empty. Applying the diff of an empty kernel gives all desired
    /// rules.
    #[test]
    fn iptables_diff_of_equal_rulesets_is_empty(objects in objects(), config in config()) {
        for (_, plan) in plans(&objects, &config) {
            let desired = ruleset(&plan);
            prop_assert!(diff(&desired, &desired, &OURS).is_empty());
            let mut actual = Ruleset::new(desired.family);
            let empty = actual.clone();
            diff(&empty, &desired, &OURS).apply(&mut actual);
            prop_assert_eq!(actual, desired);
        }
    }

    /// cleanup removes all our rules and no others.
    #[test]
    fn cleanup_removes_own_iptables_rules_only(
        objects in objects(), config in config(), foreign_rules in foreign_rules(),
    ) {
        for (_, plan) in plans(&objects, &config) {
            let mut actual = ruleset(&plan);
            let mut only_foreign = Ruleset::new(actual.family);
            for table in [Table::Filter, Table::Nat] {
                only_foreign.tables.insert(table, Ruleset::built_in_chains(table));
            }
            // A foreign jump to one of our chains keeps the chain; the property above covers this.
            // If there are kubelet's chains, the shared firewall is kubelet's: see
            // `kubelet_keeps_its_firewall`.
            let unrelated: Vec<_> =
                foreign_rules.iter().filter(|s| !s.has_our_target() && !s.chain.contains("KUBELET")).collect();
            unrelated.iter().for_each(|foreign_rule| foreign_rule.join(&mut actual));
            unrelated.iter().for_each(|foreign_rule| foreign_rule.join(&mut only_foreign));
            let before = actual.clone();
            removal_of_everything(&before).0.apply(&mut actual);
            prop_assert_eq!(actual, only_foreign);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// A cluster with some values replaced by arbitrary ones: nothing panics on the way to the
    /// rules of both backends, and the rules are parsed back unchanged. The fuzz targets
    /// (`ci/fuzz`) cover bytes that are not objects.
    #[test]
    fn manifest_malformed_fields_never_break_rules(
        objects in objects(),
        config in config(),
        changes in vec((vec(any::<Index>(), 2..8), malformed_value()), 1..16),
    ) {
        let mut list = Value::Array(objects);
        for (path, value) in changes {
            *descend(&mut list, &path) = value;
        }
        let mut objects = Objects::default();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": list});
        read_manifest("x", list.to_string().as_bytes(), &mut objects);
        objects.complete(IfEmpty::Refuse);
        let (snapshot, _) = snapshot(&objects, &config.snapshot_options(), &Host::default());
        for family in IpFamily::BOTH {
            let plan = plan(&snapshot, &config, family);
            let ruleset = ruleset(&plan);
            let (back, errors) = parse(ruleset.family, &ruleset.to_text());
            prop_assert_eq!(errors, vec![]);
            prop_assert_eq!(back, ruleset);
            nftables::table(&plan, &"rulegen".into());
        }
    }
}

/// Descends into a value, one child per index, until there are no more children.
fn descend<'a>(value: &'a mut Value, path: &[Index]) -> &'a mut Value {
    let children = match value {
        Value::Array(values) => values.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    let Some((at, rest)) = path.split_first().filter(|_| children > 0) else { return value };
    let at = at.index(children);
    let child = match value {
        Value::Array(values) => values.get_mut(at),
        Value::Object(fields) => fields.values_mut().nth(at),
        _ => None,
    };
    descend(child.unwrap(), rest)
}

/// A value of the wrong type, out of range, or with characters that have a meaning in rules.
fn malformed_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => prop::sample::select(vec![
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(65536),
            json!(1.5),
            json!(""),
            json!([]),
            json!({}),
            json!([null]),
            json!("a\"b"),
            json!("x\n-A INPUT -j ACCEPT"),
            json!("10.96.0.010"),
            json!("::ffff:10.96.0.10"),
            json!("10.96.0.0/33"),
            json!("LoadBalancer"),
        ]),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => ".{0,300}".prop_map(|text| json!(text)),
    ]
}

fn in_form(object: &Value, form: u8) -> String {
    match form {
        0 => object.to_string(),
        1 => serde_json::to_string_pretty(object).unwrap(),
        2 => serde_saphyr::to_string(object).unwrap(),
        3 => json!([object]).to_string(),
        4 => json!({"type": "ADDED", "object": object}).to_string(),
        5 => serde_saphyr::to_string(&json!({"type": "MODIFIED", "object": object})).unwrap(),
        _ => format!("# a comment\n{}", serde_saphyr::to_string(object).unwrap()),
    }
}

/// A foreign rule.
#[derive(Debug, Clone)]
struct ForeignRuleCase {
    table: Table,
    chain: String,
    text: String,
    target: Option<String>,
    first: bool,
}

fn foreign_rules() -> impl Strategy<Value = Vec<ForeignRuleCase>> {
    let chains = prop::sample::select(vec![
        (Table::Filter, "INPUT"),
        (Table::Filter, "FORWARD"),
        (Table::Filter, "CALICO"),
        (Table::Nat, "PREROUTING"),
        (Table::Nat, "POSTROUTING"),
        (Table::Nat, "CNI-HOSTPORT"),
        (Table::Nat, "KUBE-KUBELET-CANARY"),
    ]);
    let targets =
        prop::sample::select(vec![None, Some("ACCEPT"), Some("KUBE-MARK-MASQ"), Some("CALICO")]);
    let foreign_rule = (chains, targets, any::<u16>(), any::<bool>()).prop_map(
        |((table, chain), target, port, first)| {
            let jump = target.map(|target| format!(" -j {target}")).unwrap_or_default();
            let text = format!("-p tcp -m multiport --dports {port}{jump}");
            ForeignRuleCase {
                table,
                chain: chain.to_owned(),
                text,
                target: target.map(str::to_owned),
                first,
            }
        },
    );
    vec(foreign_rule, 0..8)
}

impl ForeignRuleCase {
    fn join(&self, ruleset: &mut Ruleset) {
        let chains = ruleset
            .tables
            .entry(self.table)
            .or_insert_with(|| Ruleset::built_in_chains(self.table));
        let chain: &mut Chain = chains.entry(self.chain.as_str().into()).or_default();
        let target = self.target.as_deref().map(Into::into);
        let rule = Rule::Foreign { text: self.text.as_str().into(), target };
        let at = if self.first { 0 } else { chain.rules.len() };
        chain.rules.insert(at, rule);
    }

    fn has_our_target(&self) -> bool {
        self.target.as_deref().is_some_and(|target| target.starts_with("KUBE-"))
    }
}

/// Foreign chains, and foreign rules in their order.
fn foreign(ruleset: &Ruleset) -> Vec<(Table, String, Vec<String>)> {
    let mut found = Vec::new();
    for (table, chains) in &ruleset.tables {
        for (name, chain) in chains.iter().filter(|(name, _)| !OURS.owns(*table, name)) {
            let is_foreign = |rule: &&Rule| matches!(rule, Rule::Foreign { .. });
            let rules = chain.rules.iter().filter(is_foreign).map(Rule::to_string).collect();
            found.push((*table, name.to_string(), rules));
        }
    }
    found
}

fn has_foreign_jump(ruleset: &Ruleset, chain: &str) -> bool {
    ruleset.tables[&Table::Nat].values().flat_map(|c| &c.rules).any(|rule| {
        matches!(rule, Rule::Foreign { target: Some(target), .. } if target.as_str() == chain)
    })
}
