//! The output is a fixed point: both variants save what they restored from it.

use std::fs;
use std::path::PathBuf;

use crate::common::root;
use crate::namespace::Namespace;

#[test]
fn iptables_restore_of_golden_output_is_saved_unchanged() {
    let outputs = outputs();
    assert!(outputs.len() > 60, "only {} outputs were found", outputs.len());
    let namespace = Namespace::new("restore");
    for variant in ["nft", "legacy"] {
        for output in &outputs {
            let is_ipv6 = output.file_name().is_some_and(|name| name == "ipv6.iptables-save");
            let program = if is_ipv6 { "ip6tables" } else { "iptables" };
            namespace.run(&format!("{program}-{variant}-restore < {}", output.display()));
            let saved = namespace.run(&format!("{program}-{variant}-save"));
            let wanted = fs::read_to_string(output).unwrap();
            assert_eq!(lines(&saved), lines(&wanted), "{variant}: {}", output.display());
        }
        // The next variant must not see the rules of this one.
        for program in ["iptables", "ip6tables"] {
            let empty = "*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n";
            namespace.run(&format!("printf '{empty}' | {program}-{variant}-restore"));
        }
    }
}

/// All iptables-save files of the golden cases and examples.
fn outputs() -> Vec<PathBuf> {
    let golden =
        fs::read_dir(root().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let of_cases = golden
        .flat_map(|folder| ["ipv4", "ipv6"].map(|f| folder.join(format!("{f}.iptables-save"))));
    let examples =
        fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let of_examples =
        examples.filter(|path| path.extension().is_some_and(|e| e == "iptables-save"));
    let mut outputs: Vec<PathBuf> =
        of_cases.chain(of_examples).filter(|path| path.exists()).collect();
    outputs.sort();
    outputs
}

/// The chains of each table, and the rules of each chain in order. iptables chooses the order of
/// chains.
fn lines(saved: &str) -> Vec<String> {
    let mut table = String::new();
    let mut lines: Vec<(String, usize, String)> = Vec::new();
    for (n, line) in saved.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let line = line.split(" [").next().unwrap_or_default();
        if line.starts_with('*') {
            table = line.to_owned();
        }
        let chain = line.strip_prefix("-A ").and_then(|rule| rule.split(' ').next());
        let place = chain.map_or(0, |_| n + 1);
        lines.push((format!("{table} {}", chain.unwrap_or_default()), place, line.to_owned()));
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line).collect()
}
