//! Broken input: each case gets exactly its message, and everything sound beside it is still
//! compiled. The table is `bad-input.txt`; what cannot stand in a table is made here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on shall stop"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Scratch, root, rulegen, stderr, stdout};

#[test]
fn the_table() {
    let text = fs::read_to_string(root().join("tests/bad-input.txt")).unwrap();
    let cases = parse(&text);
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let scratch = Scratch::new("bad-input");
    let wrong: Vec<String> = cases.iter().filter_map(|case| case.mismatch(&scratch)).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_document_of_200_megabytes() {
    let scratch = Scratch::new("large");
    let mut text =
        String::from("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: large\ndata:\n  blob: ");
    text.push_str(&"x".repeat(200 << 20));
    text.push_str("\n---\n");
    text.push_str(&good_text());
    let file = scratch.write("large.yaml", text);
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
    let expected = format!(
        "warning: {file}: 200 MiB are too much for one document (limit 160 MiB): split it\n"
    );
    assert_eq!(stderr(&output), expected);
    assert!(output.status.success());
    assert_compiled(&stdout(&output), "the large document");
}

#[test]
fn an_unreadable_file_is_an_error_and_loses_nothing_else() {
    let scratch = Scratch::new("unreadable");
    let good = good_path();
    let missing = scratch.0.join("missing.yaml").to_str().unwrap().to_owned();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &missing, "-f", &good]);
    assert_eq!(
        stderr(&output),
        format!("error: {missing}: cannot be read: No such file or directory (os error 2)\n")
    );
    assert_eq!(output.status.code(), Some(1));
    assert_compiled(&stdout(&output), "the missing file");

    // Root reads whatever the mode is, so what cannot be read is a file of /proc that refuses.
    let refusing = "/proc/self/mem";
    let output = rulegen(&scratch.0, &["--dry-run", "-f", refusing, "-f", &good]);
    assert!(
        stderr(&output).starts_with("error: /proc/self/mem: cannot be read: "),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    assert_compiled(&stdout(&output), "the refusing file");
}

#[test]
fn an_unreadable_configuration_is_an_error() {
    let scratch = Scratch::new("unreadable-config");
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &good_path(), "--config", "none.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("none.yaml: the configuration cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_empty_file_is_told() {
    let scratch = Scratch::new("empty");
    let file = scratch.write("empty.yaml", "");
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
    assert_eq!(stderr(&output), format!("warning: {file}: is empty: there is no object in it\n"));
    assert_compiled(&stdout(&output), "the empty file");
}

#[test]
fn an_empty_folder_is_told() {
    let scratch = Scratch::new("empty-folder");
    let folder = scratch.0.to_str().unwrap();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", folder, "-f", &good_path()]);
    assert_eq!(
        stderr(&output),
        format!("warning: {folder}: has no *.yaml, *.yml or *.json in it\n")
    );
    assert_compiled(&stdout(&output), "the empty folder");
}

#[test]
fn binary_junk_is_told() {
    let scratch = Scratch::new("junk");
    let mut junk = vec![0x7f, b'E', b'L', b'F', 0, 0xff, 0xfe, 0x80];
    junk.extend((0..=255).cycle().take(100_000));
    let file = scratch.write("junk.yaml", junk);
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
    assert_eq!(stderr(&output), format!("warning: {file}: is not text: byte 5 is not UTF-8\n"));
    assert_compiled(&stdout(&output), "junk");
}

#[test]
fn strict_makes_a_warning_fail_and_still_prints() {
    let scratch = Scratch::new("strict");
    let file = scratch.write("empty.yaml", "");
    let output = rulegen(&scratch.0, &["--dry-run", "--strict", "-f", &file, "-f", &good_path()]);
    assert_eq!(output.status.code(), Some(1));
    assert_compiled(&stdout(&output), "strict");
}

#[test]
fn an_incomplete_input_is_never_applied() {
    // Refused before it would even look for iptables: nothing of the kernel is touched.
    let scratch = Scratch::new("incomplete");
    let folder = scratch.0.join("folder");
    fs::create_dir(&folder).unwrap();
    let empty = scratch.write("empty.yaml", "");
    let cut = scratch
        .write("cut.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\":");
    let broken = scratch.write("broken.yaml", format!("{}---\na: [\n", good_text()));
    let junk = scratch.write("junk.yaml", [0xff; 9]);
    for input in ["missing.yaml", folder.to_str().unwrap(), &empty, &cut, &broken, &junk, "-"] {
        let output = rulegen(&scratch.0, &["apply", "-f", input, "-f", &good_path()]);
        assert_eq!(output.status.code(), Some(1), "{input}");
        assert!(stderr(&output).contains("nothing is applied"), "{input}: {}", stderr(&output));
    }
}

#[test]
fn deep_json_and_many_braces_do_not_overflow_the_stack() {
    let scratch = Scratch::new("deep");
    for (name, unit) in [
        ("lists.json", "{\"a\":["),
        ("flow.yaml", "["),
        ("maps.yaml", "{a: "),
        ("block.yaml", "- "),
    ] {
        let file = scratch.write(name, unit.repeat(100_000));
        let output = rulegen(&scratch.0, &["--dry-run", "-f", &file, "-f", &good_path()]);
        assert!(output.status.success(), "{name}: {} {}", output.status, stderr(&output));
        assert!(
            stderr(&output).starts_with(&format!("warning: {file}: ")),
            "{name}: {}",
            stderr(&output)
        );
        assert_compiled(&stdout(&output), name);
    }
}

#[test]
fn a_file_without_read_permission_is_read_by_root_only() {
    let scratch = Scratch::new("permission");
    let file = scratch.write("secret.yaml", good_text());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let output = rulegen(&scratch.0, &["--dry-run", "-f", &file]);
    if output.status.success() {
        assert_compiled(&stdout(&output), "root");
    } else {
        assert!(
            stderr(&output).contains("cannot be read: Permission denied"),
            "{}",
            stderr(&output)
        );
    }
}

struct Case<'a> {
    name: &'a str,
    is_config: bool,
    input: String,
    expected: Vec<&'a str>,
}

fn parse(text: &str) -> Vec<Case<'_>> {
    text.split("\n### ").skip(1).map(parse_case).collect()
}

fn parse_case(text: &str) -> Case<'_> {
    let (name, rest) = text.split_once('\n').unwrap();
    let (input, expected) =
        rest.split_once("\n>>>\n").unwrap_or_else(|| panic!("{name}: no >>> line"));
    let (kind, input) = input.split_once('\n').unwrap_or((input, ""));
    let is_config = match kind {
        "<<< config" => true,
        "<<< manifest" => false,
        other => panic!("{name}: {other:?} is no kind of input"),
    };
    let expected = expected.lines().filter(|line| !line.trim().is_empty()).collect();
    Case { name, is_config, input: format!("{input}\n"), expected }
}

impl Case<'_> {
    fn mismatch(&self, scratch: &Scratch) -> Option<String> {
        let file = scratch.write("broken.yaml", &self.input);
        let good = good_path();
        let arguments: &[&str] = match self.is_config {
            true => &["--dry-run", "-f", &good, "--config", &file],
            false => &["--dry-run", "-f", &file, "-f", &good],
        };
        let output = rulegen(&scratch.0, arguments);
        let expected: String = self
            .expected
            .iter()
            .map(|line| format!("{}\n", line.replace("{file}", &file)))
            .collect();
        let fails = self.expected.iter().any(|line| line.starts_with("error: "));
        if stderr(&output) != expected {
            return Some(format!(
                "{}:\nexpected {expected}found    {}",
                self.name,
                stderr(&output)
            ));
        }
        if output.status.code() != Some(i32::from(fails)) {
            return Some(format!("{}: {}", self.name, output.status));
        }
        (!is_compiled(&stdout(&output))).then(|| format!("{}: default/good is lost", self.name))
    }
}

fn good_path() -> String {
    root().join("tests/good.yaml").to_str().unwrap().to_owned()
}

fn good_text() -> String {
    fs::read_to_string(good_path()).unwrap()
}

fn is_compiled(rules: &str) -> bool {
    [
        "\"default/good:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-",
        "--to-destination 10.244.9.9:8080",
    ]
    .iter()
    .all(|part| rules.contains(part))
}

fn assert_compiled(rules: &str, what: &str) {
    assert!(is_compiled(rules), "default/good is lost beside {what}");
}
