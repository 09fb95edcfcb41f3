//! `rulegen golden`: files, changes by Service, and what it never touches.

use std::fs;
use std::path::PathBuf;

use crate::common::{Scratch, root, rulegen, stderr, stdout};

/// The example with its manifest, in a folder of its own.
fn example(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    for file in ["nodeport.yaml", "golden/golden.yaml"] {
        let to = scratch.0.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join("examples").join(file), to).unwrap();
    }
    scratch
}

fn run(scratch: &Scratch, action: &str) -> (i32, String) {
    let output = rulegen(&scratch.0, &["golden", action, "golden"]);
    (output.status.code().unwrap(), format!("{}{}", stdout(&output), stderr(&output)))
}

fn edit(scratch: &Scratch, file: &str, from: &str, to: &str) {
    let path = scratch.0.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn files(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten();
    let folders = entries(scratch.0.join("golden/rules"));
    let files = folders.flat_map(|folder| entries(folder.unwrap().path()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn golden_rules_of_the_example_are_up_to_date() {
    let output = rulegen(&root(), &["golden", "--check", "examples/golden"]);
    assert_eq!(stdout(&output), "8 files are up to date\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn golden_check_shows_changes_by_service_in_both_modes_once_for_all_nodes() {
    let scratch = example("golden-check");
    let (status, text) = run(&scratch, "--check");
    assert_eq!((status, text.matches("the file does not exist").count()), (1, 1), "{text}");
    assert_eq!(run(&scratch, "--update"), (0, "8 files written, 0 unchanged, 0 removed\n".into()));
    assert_eq!(run(&scratch, "--check"), (0, "8 files are up to date\n".into()));
    edit(&scratch, "nodeport.yaml", "10.244.3.7", "10.244.3.9");
    let before = fs::read(&files(&scratch)[0]).unwrap();
    let (status, text) = run(&scratch, "--check");
    assert_eq!(status, 1);
    let remedy =
        "8 files differ. If the changes are intended, run: rulegen golden --update golden\n";
    assert!(text.ends_with(remedy), "{text}");
    assert_eq!(text.matches("~ default/web-service TCP").count(), 2, "one per mode: {text}");
    let changed = "  ~ NodePort *:30080/TCP\n    - endpoint 10.244.3.7:8080\n    + endpoint 10.244.3.9:8080\n";
    assert_eq!(text.matches(changed).count(), 2, "one per mode: {text}");
    assert!(text.contains("  ip rulegen set endpoints: changed\n"), "{text}");
    assert_eq!(
        text.matches("Plan: 0 services to add, 1 to change, 0 to remove").count(),
        2,
        "{text}"
    );
    assert!(!text.contains("example-service"), "{text}");
    assert_eq!(fs::read(&files(&scratch)[0]).unwrap(), before, "--check writes nothing");
}

#[test]
fn golden_check_says_where_a_stored_file_is_not_readable() {
    let scratch = example("golden-unreadable");
    assert_eq!(run(&scratch, "--update").0, 0);
    edit(&scratch, "golden/rules/default/node-1.nft", "\tset cluster-ips {", "\tset cluster-ips");
    edit(&scratch, "golden/rules/default/node-2.iptables-save", "*filter", "*filter\nnonsense");
    let (status, text) = run(&scratch, "--check");
    assert_eq!(status, 1);
    for part in [
        "node-1.nft\nwas not written by rulegen golden: line 5: unknown syntax: set cluster-ips\n",
        "node-2.iptables-save\nis not in the format of iptables-save: line 3: ",
        "2 files differ.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Of Services, and of a node that is not the configuration's.
#[test]
fn golden_warns_of_problems_and_conflicts_with_file_and_object_once() {
    let scratch = example("golden-problems");
    let path = scratch.0.join("nodeport.yaml");
    let mut manifest = fs::read_to_string(&path).unwrap();
    manifest = manifest.replacen("  - 10.244.2.0/24", "  - 10.244.2.0/33", 1);
    manifest += "---\napiVersion: v1\nkind: Service\nmetadata: {name: taker}\nspec:\n  type: NodePort\n  \
                 clusterIP: 10.96.0.77\n  ports: [{port: 80, nodePort: 30080}]\n";
    scratch.write("nodeport.yaml", manifest);
    for (action, status) in [("--update", 0), ("--check", 0)] {
        let output = rulegen(&scratch.0, &["golden", action, "golden"]);
        let found = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{found}");
        for part in
            ["Node node-2: ", "Service default/taker: node port 30080 (TCP, IPv4) is claimed by"]
        {
            assert_eq!(found.matches(part).count(), 1, "{part}: {found}");
            let line = found.lines().find(|line| line.contains(part)).unwrap();
            assert!(line.starts_with("warning: golden/../nodeport.yaml (document "), "{line}");
        }
    }
}

#[test]
fn golden_update_removes_only_its_own_files() {
    let scratch = example("golden-update");
    assert_eq!(run(&scratch, "--update").0, 0);
    scratch.write("golden/rules/masquerade-all/notes.txt", "mine");
    scratch.write("golden/rules/masquerade-all/node-9.nft", "table ip mine {}\n");
    edit(&scratch, "golden/golden.yaml", "nodes: [node-1, node-2]", "nodes: [node-1]");
    edit(&scratch, "golden/golden.yaml", "name: default", "name: plain");
    let (status, text) = run(&scratch, "--check");
    assert_eq!(status, 1);
    assert!(
        text.contains("rules/default/node-1.nft\n")
            && text.contains("configuration needs this file")
    );
    assert_eq!(run(&scratch, "--update"), (0, "2 files written, 2 unchanged, 6 removed\n".into()));
    let names = files(&scratch);
    let names = names.iter().map(|of| of.strip_prefix(&scratch.0).unwrap().display().to_string());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "golden/rules/masquerade-all/node-1.iptables-save",
            "golden/rules/masquerade-all/node-1.nft",
            "golden/rules/masquerade-all/node-9.nft",
            "golden/rules/masquerade-all/notes.txt",
            "golden/rules/plain/node-1.iptables-save",
            "golden/rules/plain/node-1.nft",
        ]
    );
    assert!(!scratch.0.join("golden/rules/default").exists(), "the folder is empty");
}

#[test]
fn golden_update_replaces_no_file_that_it_did_not_write() {
    let scratch = example("golden-foreign");
    fs::create_dir_all(scratch.0.join("golden/rules/default")).unwrap();
    scratch.write("golden/rules/default/node-1.nft", "table ip mine {}\n");
    let (status, text) = run(&scratch, "--update");
    assert_eq!(status, 2);
    assert!(text.contains("default/node-1.nft: not written by rulegen golden"), "{text}");
    assert_eq!(files(&scratch).len(), 1, "nothing is written");
}

#[test]
fn golden_settings_are_checked_before_anything_is_written() {
    for (from, to, part) in [
        (
            "nodes: [node-1, node-2]",
            "nodes: [node-7]",
            "error: golden/golden.yaml: nodes: no Node \"node-7\" in the input, did you mean \"node-3\"?\n",
        ),
        (
            "nodes:",
            "node:",
            "error: golden/golden.yaml:2: node: unknown field, did you mean \"nodes\"?\n",
        ),
        (
            "- name: default",
            "- name: default\n  confg: a",
            "error: golden/golden.yaml:5: configurations[0].confg: unknown field, did you mean \"config\"?\n",
        ),
        (
            "nodes: [node-1, node-2]",
            "modes: [iptable]",
            "error: golden/golden.yaml:2: modes[0]: unknown value \"iptable\", did you mean \"iptables\"?\n",
        ),
        (
            "manifests: [../nodeport.yaml]",
            "manifests: ../nodeport.yaml",
            "error: golden/golden.yaml:1: manifests: is a string, use a list\n",
        ),
        ("manifests: [../nodeport.yaml]", "", "error: golden/golden.yaml:2: missing: manifests\n"),
        (
            "nodes: [node-1, node-2]",
            "modes: []",
            "error: golden/golden.yaml:2: modes: empty: name at least iptables or nftables\n",
        ),
        (
            "name: default",
            "name: ../up",
            "error: golden/golden.yaml:4: configurations[0].name: invalid name \"../up\"",
        ),
        (
            "name: default",
            "name: masquerade-all",
            "error: golden/golden.yaml:5: configurations[1].name: another configuration has the same name\n",
        ),
        (
            "iptables: {masqueradeAll: true}",
            "iptables: {masqueradeAll: 7}",
            "error: golden/golden.yaml: configurations[1].configuration: iptables.masqueradeAll: ",
        ),
        (
            "iptables: {masqueradeAll: true}",
            "iptables: {masqueradAll: true}",
            "error: golden/golden.yaml: configurations[1].configuration: iptables.masqueradAll: \
             unknown field, did you mean \"masqueradeAll\"?\n",
        ),
        (
            "../nodeport.yaml",
            "none.yaml",
            "error: golden/golden.yaml: manifests: golden/none.yaml: cannot read file",
        ),
    ] {
        let scratch = example("golden-settings");
        edit(&scratch, "golden/golden.yaml", from, to);
        for action in ["--check", "--update"] {
            let (status, text) = run(&scratch, action);
            assert_eq!(status, 2, "{to}: {text}");
            assert!(text.contains(part), "{to}: {text}");
        }
        assert!(files(&scratch).is_empty(), "{to}");
    }
    let output = rulegen(&root(), &["golden", "examples/golden"]);
    assert_eq!(output.status.code(), Some(2), "neither --check nor --update");
}
