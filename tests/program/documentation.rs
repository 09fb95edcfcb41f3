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
