//! `rulegen test`: exit statuses, generated files and `--watch`. Its output is in
//! `tests/packet-tests`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::{Scratch, root, rulegen, stderr, stdout};

const PASSING: &str = "\
inputs: {manifests: [shop.yaml], node: node-1}
cases:
- {name: a, from: outside, to: default/shop:80, expect: {outcome: endpoint}}
";

fn shop(scratch: &Scratch) {
    let manifest = fs::read(root().join("examples/tests/shop.yaml")).unwrap();
    scratch.write("shop.yaml", manifest);
}

#[test]
fn packet_tests_exit_status_is_that_of_the_worst_file() {
    let scratch = Scratch::new("packet-tests-status");
    shop(&scratch);
    scratch.write("passes.yaml", PASSING);
    scratch.write("fails.yaml", PASSING.replace("outcome: endpoint", "outcome: dropped"));
    scratch.write("wrong-case.yaml", PASSING.replace("shop:80", "shop:81"));
    scratch.write("wrong-file.yaml", PASSING.replace("expect", "expects"));
    scratch.write("wrong-input.yaml", PASSING.replace("shop.yaml", "none.yaml"));
    scratch.write("broken.yaml", PASSING.replace("shop.yaml", "broken.txt"));
    scratch.write("broken.txt", "NAME   TYPE\n");
    let config = "configuration: {detectLocalMode: Magic}, node:";
    scratch.write("wrong-config.yaml", PASSING.replace("node:", config));
    let status = |files: &[&str]| {
        let output = rulegen(&scratch.0, &[&["test"], files].concat());
        (output.status.code().unwrap(), stdout(&output))
    };
    assert_eq!(status(&["passes.yaml"]).0, 0);
    assert_eq!(status(&["fails.yaml"]).0, 1);
    assert_eq!(status(&["passes.yaml", "fails.yaml"]).0, 1);
    for (file, part) in [
        ("wrong-case.yaml", "case \"a\": to: Service default/shop has no such port"),
        (
            "wrong-file.yaml",
            "ERROR wrong-file.yaml:3: case \"a\": expects: unknown field, did you mean \"expect\"?",
        ),
        (
            "wrong-input.yaml",
            "ERROR wrong-input.yaml: inputs.manifests: none.yaml: cannot read file",
        ),
        ("broken.yaml", "ERROR broken.yaml: inputs.manifests: broken.txt"),
        ("wrong-config.yaml", "ERROR wrong-config.yaml: inputs.configuration: detectLocalMode: "),
        ("missing.yaml", "ERROR missing.yaml: cannot read file: No such file"),
        (".", "ERROR .: is a folder: name the test files in it, such as ./*.yaml\n"),
        (
            "shop.yaml",
            "ERROR shop.yaml: not a test file: it has more than one document (manifests belong in \
             `inputs.manifests`). A test file begins with `inputs: {manifests: [FILE]}`, followed by \
             `cases:`",
        ),
    ] {
        let (code, text) = status(&["fails.yaml", file]);
        assert_eq!(code, 2, "{file}: {text}");
        assert!(text.contains(part), "{file}: {text}");
        assert!(text.contains("test a (iptables) ... FAILED"), "other files run too: {text}");
        let errors = if file == "wrong-case.yaml" { "; 2 errors\n" } else { "; 1 error\n" };
        assert!(text.contains(errors) && !text.contains("running 0 tests"), "{text}");
    }
}

#[test]
fn packet_tests_wrong_usage_exits_with_2() {
    for arguments in [
        &["test"][..],
        &["test", "-o", "xml", "x"],
        &["test", "--generate", "x"],
        &["test", "-f", "y", "x"],
        &["test", "--schema", "x"],
        &["test", "--watch", "--generate", "-f", "y", "x"],
        &["test", "--generate", "-f", "y", "x", "z"],
        &["test", "--generate", "-f", "missing.yaml", "x"],
    ] {
        let output = rulegen(&root(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn packet_tests_generated_in_another_folder_pass_there_and_are_not_overwritten() {
    let scratch = Scratch::new("packet-tests-generate");
    shop(&scratch);
    fs::create_dir(scratch.0.join("tests")).unwrap();
    let kind = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    scratch.write("config.yaml", format!("{kind}clusterCIDR: 10.244.0.0/16\n"));
    let to = |node: &'static str, file: &'static str| {
        let inputs = ["-f", "shop.yaml", "--config", "config.yaml", "--hostname-override", node];
        rulegen(&scratch.0, &[&["test", "--generate"], &inputs[..], &[file]].concat())
    };
    let output = to("node-1", "tests/shop.yaml");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = |folder: &std::path::Path, file: &str| rulegen(folder, &["test", file]);
    for (folder, file) in
        [(scratch.0.clone(), "tests/shop.yaml"), (scratch.0.join("tests"), "shop.yaml")]
    {
        let output = run(&folder, file);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert!(stdout(&output).contains("running 8 tests"), "{}", stdout(&output));
    }
    let printed = stdout(&to("node-1", "-"));
    assert!(printed.starts_with("inputs:\n  manifests:\n  - shop.yaml\n"), "{printed}");

    let again = to("node-1", "tests/shop.yaml");
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("tests/shop.yaml exists"), "{}", stderr(&again));
    let unknown = to("node-3", "tests/other.yaml");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no Node \"node-3\""), "{}", stderr(&unknown));
    assert!(!scratch.0.join("tests/other.yaml").exists());
}

/// A change of the manifest, then of the test file.
#[test]
fn packet_tests_watch_runs_again_when_a_file_changes() {
    let scratch = Scratch::new("packet-tests-watch");
    fs::create_dir(scratch.0.join("tests")).unwrap();
    shop(&scratch);
    let tests = PASSING.replace("shop.yaml", "../shop.yaml");
    scratch.write("tests/a.yaml", &tests);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rulegen"))
        .args(["test", "--watch", "tests/a.yaml"])
        .current_dir(&scratch.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        out.lines().map_while(Result::ok).try_for_each(|of| sender.send(of))
    });
    // A change may be seen twice, and run the tests twice.
    let wait_for = |wanted: &str| {
        let line = || lines.recv_timeout(Duration::from_secs(30));
        while line().unwrap_or_else(|error| panic!("{wanted}: {error}")) != wanted {}
    };
    wait_for("test result: ok. 2 passed; 0 failed; 0 errors");
    let manifest = fs::read_to_string(scratch.0.join("shop.yaml")).unwrap();
    let not_ready = manifest.replace("nodeName", "conditions: {ready: false}, nodeName");
    scratch.write("shop.yaml", not_ready);
    wait_for("test result: FAILED. 0 passed; 2 failed; 0 errors");
    scratch.write("tests/a.yaml", tests.replace("endpoint", "refused"));
    wait_for("test result: ok. 2 passed; 0 failed; 0 errors");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Each run writes to a file in a watched folder.
#[test]
fn packet_tests_watch_does_not_run_again_because_of_its_output() {
    let scratch = Scratch::new("packet-tests-watch-output");
    shop(&scratch);
    scratch.write("a.yaml", PASSING);
    let output = scratch.0.join("output");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rulegen"))
        .args(["test", "--watch", "a.yaml"])
        .current_dir(&scratch.0)
        .stdout(fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let runs = || fs::read_to_string(&output).unwrap().matches("test result: ok").count();
    let deadline = Instant::now() + Duration::from_secs(30);
    while runs() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    // A run takes less than a tenth of this.
    std::thread::sleep(Duration::from_secs(3));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(runs(), 1);
}

#[test]
fn packet_tests_example_of_the_page_is_the_file() {
    let page = fs::read_to_string(root().join("docs/testing-services.md")).unwrap();
    let file = fs::read_to_string(root().join("examples/tests/shop-tests.yaml")).unwrap();
    assert!(page.contains(&format!("```yaml\n{file}```\n")), "{file}");
}
