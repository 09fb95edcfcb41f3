//! The files of deploy/ci: their scripts are run with this build of rulegen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{Scratch, root, stderr, stdout};

fn read(file: &str) -> Value {
    let text = fs::read_to_string(root().join("deploy/ci").join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Runs a script in the root of the repository.
fn run(script: &str, environment: &BTreeMap<String, String>) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_rulegen")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(root()).env("PATH", path).envs(environment);
    command.output().unwrap()
}

/// The statuses of the steps of the action that run with these inputs.
fn action(inputs: &[(&str, &str)]) -> BTreeMap<String, Output> {
    let action = read("github/action.yml");
    assert_eq!(action["runs"]["using"], "composite");
    let names: Vec<&String> = action["inputs"].as_object().unwrap().keys().collect();
    let value = |expression: &str| -> String {
        let name = expression.strip_prefix("${{ inputs.").unwrap().strip_suffix(" }}").unwrap();
        assert!(names.iter().any(|of| *of == name), "no input {name}");
        let given = inputs.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        given.or(action["inputs"][name]["default"].as_str()).unwrap().to_owned()
    };
    let mut outputs = BTreeMap::new();
    for step in action["runs"]["steps"].as_array().unwrap() {
        assert_eq!(step["shell"], "sh");
        let environment = step["env"].as_object().unwrap().iter();
        let environment: BTreeMap<String, String> =
            environment.map(|(name, of)| (name.clone(), value(of.as_str().unwrap()))).collect();
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "inputs reach scripts as variables only: {script}");
        let condition = step["if"].as_str().unwrap();
        let needed = condition.split("inputs.").nth(1).unwrap().split(' ').next().unwrap();
        if !value(&format!("${{{{ inputs.{needed} }}}}")).is_empty() {
            outputs.insert(step["name"].as_str().unwrap().to_owned(), run(script, &environment));
        }
    }
    outputs
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn github_action_runs_lint_test_and_golden() {
    let scratch = Scratch::new("ci-files-github");
    let file = |name: &str| scratch.0.join(name).display().to_string();
    let outputs = action(&[
        ("manifests", "examples/nodeport.yaml examples/tests"),
        ("fail-on", "error"),
        ("tests", "examples/tests/shop-tests.yaml"),
        ("junit", &file("tests.xml")),
        ("golden", "examples/golden"),
    ]);
    let lint = &outputs["rulegen lint"];
    assert_eq!(outputs.len(), 3);
    assert_eq!(status(lint), 1, "test files are not manifests: {}", stdout(lint));
    assert_eq!(status(&outputs["rulegen test"]), 0, "{}", stderr(&outputs["rulegen test"]));
    assert_eq!(status(&outputs["rulegen golden"]), 0, "{}", stderr(&outputs["rulegen golden"]));
    assert!(fs::read_to_string(file("tests.xml")).unwrap().contains("<testsuites"));
    let outputs = action(&[
        ("manifests", "examples/lint"),
        ("sarif", &file("lint.sarif")),
        ("golden", "none"),
    ]);
    assert_eq!(outputs.len(), 2);
    assert_eq!(status(&outputs["rulegen lint"]), 1);
    assert!(stdout(&outputs["rulegen lint"]).contains("[frontend-conflict]"));
    assert!(fs::read_to_string(file("lint.sarif")).unwrap().contains("\"2.1.0\""));
    assert_eq!(status(&outputs["rulegen golden"]), 2);
    assert!(action(&[]).is_empty());
}

#[test]
fn github_action_prints_what_is_wrong_and_expands_patterns() {
    let scratch = Scratch::new("ci-files-wrong");
    let file = |name: &str| scratch.0.join(name).display().to_string();
    let outputs = action(&[
        ("manifests", "none.yaml"),
        ("sarif", &file("lint.sarif")),
        ("tests", "examples/tests/shop.yaml"),
        ("junit", &file("tests.xml")),
    ]);
    let (lint, test) = (&outputs["rulegen lint"], &outputs["rulegen test"]);
    assert!(stdout(lint).contains("[unreadable-input]"), "{}{}", stdout(lint), stderr(lint));
    assert_eq!(status(lint), 2);
    assert_eq!(status(test), 2, "a wrong file: {}", stdout(test));
    assert!(stdout(test).contains("ERROR"), "{}", stdout(test));
    for report in ["lint.sarif", "tests.xml"] {
        assert!(!fs::read_to_string(file(report)).unwrap().is_empty(), "{report}");
    }
    let outputs = action(&[
        ("manifests", "examples/nodep*.yaml"),
        ("tests", "examples/tests/shop-t*.yaml"),
        ("golden", "examples/gold*"),
    ]);
    for (name, output) in &outputs {
        assert_eq!(status(output), 0, "{name}: {}{}", stdout(output), stderr(output));
    }
    let outputs = action(&[("manifests", " "), ("tests", " "), ("golden", " ")]);
    let statuses: Vec<i32> = outputs.values().map(status).collect();
    assert_eq!(statuses, [0, 0, 0], "blanks name nothing");
}

#[test]
fn gitlab_jobs_run_lint_test_and_golden() {
    let template = read("gitlab/rulegen.yml");
    let scratch = Scratch::new("ci-files-gitlab");
    let job = |name: &str, variables: &[(&str, &str)]| {
        let lines = template[name]["script"].as_array().unwrap().iter();
        let script: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
        let defaults = template["variables"].as_object().unwrap().iter();
        let mut all: BTreeMap<String, String> =
            defaults.map(|(name, of)| (name.clone(), of.as_str().unwrap().to_owned())).collect();
        for (name, value) in variables {
            assert!(all.contains_key(*name), "no variable {name}");
            all.insert((*name).to_owned(), (*value).to_owned());
        }
        // Jobs write their reports into the working directory.
        let here = format!("cd {}\nln -sf {}/examples .\n", scratch.0.display(), root().display());
        run(&(here + &script.join("\n")), &all)
    };
    let lint = job("rulegen-lint", &[("RULEGEN_MANIFESTS", "examples/lint")]);
    assert_eq!(status(&lint), 1, "{}", stderr(&lint));
    let report = &template["rulegen-lint"]["artifacts"]["reports"]["codequality"];
    let report = fs::read_to_string(scratch.0.join(report.as_str().unwrap())).unwrap();
    assert!(report.contains("\"check_name\": \"rulegen/frontend-conflict\""), "{report}");
    let clean = job("rulegen-lint", &[("RULEGEN_MANIFESTS", "examples/nodeport.yaml")]);
    assert_eq!(status(&clean), 0, "{}", stdout(&clean));
    let tests = job("rulegen-test", &[("RULEGEN_TESTS", "examples/tests/shop-failing.yaml")]);
    assert_eq!(status(&tests), 1);
    let report = template["rulegen-test"]["artifacts"]["reports"]["junit"].as_str().unwrap();
    assert!(fs::read_to_string(scratch.0.join(report)).unwrap().contains("<failure"));
    let golden = job("rulegen-golden", &[("RULEGEN_GOLDEN", "examples/golden")]);
    assert_eq!(status(&golden), 0, "{}", stderr(&golden));
}
