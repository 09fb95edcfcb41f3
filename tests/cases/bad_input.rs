//! Broken input: each case of `bad-input.txt` gets exactly its message. A broken object is skipped.
//! An unreadable document makes the whole input unusable.

use std::fs;

use libtest_mimic::Trial;

use crate::common::{Scratch, UNUSABLE, good_path, is_compiled, root, rulegen, stderr, stdout};

pub(crate) fn cases() -> Vec<Trial> {
    let text = fs::read_to_string(root().join("tests/bad-input.txt")).unwrap();
    let test = |case: Case| {
        let name = format!("bad_input::{}", case.name.replace(' ', "_"));
        crate::test(name, move || case.mismatch())
    };
    parse(&text).into_iter().map(test).collect()
}

struct Case {
    name: String,
    is_config: bool,
    input: String,
    expected: Vec<String>,
}

fn parse(text: &str) -> Vec<Case> {
    text.split("\n### ").skip(1).map(parse_case).collect()
}

fn parse_case(text: &str) -> Case {
    let (name, rest) = text.split_once('\n').unwrap();
    let (input, expected) =
        rest.split_once("\n>>>\n").unwrap_or_else(|| panic!("{name}: no >>> line"));
    let (kind, input) = input.split_once('\n').unwrap_or((input, ""));
    let is_config = match kind {
        "<<< config" => true,
        "<<< manifest" => false,
        other => panic!("{name}: unknown kind of input {other:?}"),
    };
    let expected =
        expected.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Case { name: name.to_owned(), is_config, input: format!("{input}\n"), expected }
}

impl Case {
    fn mismatch(&self) -> Option<String> {
        let scratch = Scratch::new(&format!("bad-input-{}", self.name.replace([' ', '/'], "-")));
        let file = scratch.write("broken.yaml", &self.input);
        let good = good_path();
        let arguments: &[&str] = match self.is_config {
            true => &["--dry-run", "-f", &good, "--config", &file],
            false => &["--dry-run", "-f", &file, "-f", &good],
        };
        let output = rulegen(&scratch.0, arguments);
        let fails = self.expected.iter().any(|line| line.starts_with("error: "));
        let expected: String = self
            .expected
            .iter()
            .map(String::as_str)
            .chain(fails.then_some(UNUSABLE))
            .map(|line| format!("{}\n", line.replace("{file}", &file)))
            .collect();
        if stderr(&output) != expected {
            return Some(format!("expected {expected}found    {}", stderr(&output)));
        }
        if output.status.code() != Some(i32::from(fails)) {
            return Some(output.status.to_string());
        }
        if fails {
            return (!output.stdout.is_empty()).then(|| "rules were printed".to_owned());
        }
        (!is_compiled(&stdout(&output))).then(|| "the rules of default/good are missing".to_owned())
    }
}
