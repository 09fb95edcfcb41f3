//! README.md, ARCHITECTURE.md, CONTRIBUTING.md, the pages of docs/ and the chart's README.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::common::{root, rulegen, stdout};

#[test]
fn documentation_links_lead_to_existing_files_and_headings() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            let is_found = anchor.is_empty()
                || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            assert!(is_found, "{}: no heading for {link}", page.display());
        }
    }
}

#[test]
fn documentation_names_existing_files_of_deploy() {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c));
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for rest in text.split("deploy/").skip(1) {
            let path = rest.split(is_end).next().unwrap().trim_end_matches('.');
            assert!(root().join("deploy").join(path).exists(), "{}: {path}", page.display());
        }
    }
}

#[test]
fn lint_codes_are_in_docs_with_severity_and_explanation() {
    let text = fs::read_to_string(root().join("docs/linting.md")).unwrap();
    let rows: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let list = stdout(&rulegen(&root(), &["lint", "--list"]));
    let lines: Vec<&str> = list.lines().collect();
    let expected = lines.chunks(3).map(|lines| {
        let (code, severity) = lines[0].split_once(" (").unwrap();
        let severity = severity.trim_end_matches(')');
        format!("| `{code}` | {severity} | {} |", lines[1].trim())
    });
    let expected: BTreeSet<String> = expected.collect();
    assert!(expected.len() > 40);
    assert_eq!(rows, expected.iter().map(String::as_str).collect());
}

/// Each command of docs/install.md is run by a test, or the page says that it is not. Above a block, one comment
/// per command names the file that runs it and the text in it: `<!-- tested by FILE: TEXT -->`. Else a
/// paragraph `*Not tested: reason.*` is there.
#[test]
fn install_commands_are_run_by_a_test_or_marked_as_not_tested() {
    let page = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let mut blocks = page.split("\n```sh\n");
    let mut above = blocks.next().unwrap();
    let (mut tested, mut untested) = (0, 0);
    for block in blocks {
        let (block, below) = block.split_once("```\n").unwrap();
        let commands = commands(block);
        let runs: Vec<(&str, &str)> = above.lines().rev().map_while(run_of_a_test).collect();
        match runs.as_slice() {
            [] => {
                let paragraph = above.trim_end().rsplit("\n\n").next().unwrap();
                let is_marked = paragraph.starts_with("*Not tested: ") && paragraph.ends_with(".*");
                assert!(is_marked, "neither tested nor marked: {commands:?}");
                untested += 1;
            }
            runs => {
                assert_eq!(runs.len(), commands.len(), "{commands:?}");
                for (command, (file, text)) in commands.iter().zip(runs.iter().rev()) {
                    check_run(command, file, text);
                    tested += 1;
                }
            }
        }
        above = below;
    }
    assert!(tested > 8 && untested > 5, "{tested} {untested}");
}

/// The commands of a block, each in one line.
fn commands(block: &str) -> Vec<String> {
    let block = block.replace("\\\n", " ");
    block.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

fn run_of_a_test(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("<!-- tested by ")?.strip_suffix(" -->")?.split_once(": ")
}

/// The file has the text, which is of this command, and all its options.
fn check_run(command: &str, file: &str, text: &str) {
    let script = fs::read_to_string(root().join(file)).unwrap();
    assert!(script.contains(text), "{file} does not have: {text}");
    let (program, arguments) = command.split_once(' ').unwrap();
    // Tests have its path in a variable.
    let is_rulegen = program == "rulegen";
    assert!(is_rulegen || text.contains(program), "{text} does not run {program}");
    for argument in arguments.split_whitespace() {
        let is_subcommand = argument.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        match argument.starts_with('-') {
            true => assert!(script.contains(argument), "{file} does not have {argument}"),
            false if is_subcommand => assert!(text.contains(argument), "{text}: no {argument}"),
            false => {}
        }
    }
}

#[test]
fn readme_has_at_most_250_lines() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 250, "{lines} lines: move details to docs/");
}

#[test]
fn architecture_cells_have_at_most_60_words() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let cells = text.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('|'));
    for cell in cells {
        assert!(cell.split_whitespace().count() <= 60, "{cell}");
    }
}

#[test]
fn glossary_has_each_term_once_in_alphabetical_order() {
    let text = fs::read_to_string(root().join("docs/GLOSSARY.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let terms: Vec<String> =
        rows.map(|row| row[2..].split(" | ").next().unwrap().to_lowercase()).collect();
    assert!(terms.len() > 50, "{terms:?}");
    for pair in terms.windows(2) {
        assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
    }
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "deploy/chart/README.md"]
        .map(|page| root().join(page));
    docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .chain(top)
        .collect()
}

/// The anchors that GitHub generates for the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.starts_with('#').then(|| line.trim_start_matches('#').trim())?;
        let is_kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        Some(title.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
    };
    text.lines().filter_map(heading).collect()
}
