//! The notes and reasons of `--live` in all output formats.

use rulegen_config::ProxyMode;
use rulegen_packet_tests::{CaseNote, CaseReport, CaseVerdict};
use serde_json::{Value, json};

use super::report::FileReport;
use super::{json, junit, tap, text};
use crate::paint::Paint;

/// A case with notes, and an ignored one.
fn reports() -> Vec<FileReport> {
    let case = |name: &str, verdict, notes| CaseReport {
        name: name.to_owned(),
        mode: ProxyMode::Nftables,
        verdict,
        notes,
    };
    let not_checked = |node: &str, senders| CaseNote::NotChecked { node: node.to_owned(), senders };
    let problem = CaseNote::Problem("Service a/<b>: \u{1b}[0m # taken".to_owned());
    let notes = vec![not_checked("node-2", 1), not_checked("node-3", 2), problem];
    let ignored = CaseVerdict::Ignored("it changes the input (when)".to_owned());
    let cases = vec![case("a", CaseVerdict::Passed, notes), case("b", ignored, Vec::new())];
    vec![FileReport { file: "t.yaml".to_owned(), problems: Vec::new(), cases }]
}

#[test]
fn live_notes_in_text_are_lines_below_their_case() {
    let expected = "running 2 tests of t.yaml\n\
        test a (nftables) ... ok\n    \
        note: not checked: 1 sender on node node-2. Run the test there too\n    \
        note: not checked: 2 senders on node node-3. Run the test there too\n    \
        note: the changes cause a problem: Service a/<b>: \u{fffd}[0m # taken\n\
        test b (nftables) ... ignored, it changes the input (when)\n\n\
        test result: ok. 1 passed; 0 failed; 0 errors; 1 ignored\n";
    assert_eq!(text::describe(&reports(), Paint::none()), expected);
}

#[test]
fn live_notes_in_json_are_typed_and_absent_without_notes() {
    let value: Value = serde_json::from_str(&json::describe(&reports()).unwrap()).unwrap();
    let [with, without] = value["files"][0]["cases"].as_array().unwrap().as_slice() else {
        panic!("{value:#}")
    };
    let notes = json!([
        {"notChecked": {"node": "node-2", "senders": 1}},
        {"notChecked": {"node": "node-3", "senders": 2}},
        {"problem": "Service a/<b>: \u{1b}[0m # taken"},
    ]);
    assert_eq!((&with["result"], &with["notes"]), (&json!("passed"), &notes));
    let reason = json!("it changes the input (when)");
    assert_eq!((&without["result"], &without["reason"]), (&json!("ignored"), &reason));
    assert_eq!(without.get("notes"), None);
}

#[test]
fn live_notes_in_junit_are_properties() {
    let expected = "    <testcase name=\"a\" classname=\"t.yaml.nftables\">\n      <properties>\n        \
        <property name=\"note\" value=\"not checked: 1 sender on node node-2. Run the test there too\"/>\n        \
        <property name=\"note\" value=\"not checked: 2 senders on node node-3. Run the test there too\"/>\n        \
        <property name=\"note\" value=\"the changes cause a problem: Service a/&lt;b&gt;: \u{fffd}[0m # taken\"/>\n      \
        </properties>\n    </testcase>\n    \
        <testcase name=\"b\" classname=\"t.yaml.nftables\">\n      \
        <skipped message=\"it changes the input (when)\"/>\n    </testcase>\n";
    let found = junit::describe(&reports());
    assert!(found.contains(expected), "{found}");
    assert!(found.contains("tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"1\""), "{found}");
}

#[test]
fn live_notes_in_tap_are_in_the_yaml_block_of_their_point() {
    let expected = "TAP version 14\n1..2\nok 1 - t.yaml: a (nftables)\n  ---\n  message: |\n    \
        note: not checked: 1 sender on node node-2. Run the test there too\n    \
        note: not checked: 2 senders on node node-3. Run the test there too\n    \
        note: the changes cause a problem: Service a/<b>: \u{fffd}[0m # taken\n  ...\n\
        ok 2 - t.yaml: b (nftables) # SKIP it changes the input (when)\n";
    assert_eq!(tap::describe(&reports()), expected);
}
