//! The manual pages that `rulegen man` writes.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{Scratch, root, rulegen, stdout};

#[test]
fn man_pages_cover_every_command_and_flag() {
    let scratch = Scratch::new("man");
    let output = rulegen(&root(), &["man", scratch.0.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let commands = commands(&[]);
    let files = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> = files.map(|name| name.into_string().unwrap()).collect();
    let wanted: BTreeSet<String> =
        commands.iter().map(|command| format!("{}.1", name(command))).collect();
    assert_eq!(files, wanted, "a page for each command, and no other");
    assert!(wanted.len() > 12, "{wanted:?}");
    for command in &commands {
        let name = name(command);
        let page = fs::read_to_string(scratch.0.join(format!("{name}.1"))).unwrap();
        check(&name, &page, &help(command));
    }
}

fn check(name: &str, page: &str, help: &str) {
    let flags = help.lines().filter_map(|line| {
        let is_flag = line.starts_with("      --") || line.starts_with("  -");
        is_flag.then(|| line.split([' ', ',', '[', '=']).find(|word| word.starts_with("--")))?
    });
    let mut count = 0;
    for flag in flags {
        let escaped = flag.trim_end_matches('=').replace('-', "\\-");
        assert!(page.contains(&escaped), "{flag} is not in {name}.1");
        count += 1;
    }
    assert!(count > 0, "{name}: {help}");
    let mut headings = vec!["NAME", "SYNOPSIS", "DESCRIPTION"];
    if help.contains("\nExamples:\n") {
        headings.push("EXAMPLES");
        // An example keeps its lines.
        assert!(page.contains("\n.nf\n"), "{name}");
    }
    if help.contains("\nExit status:") {
        headings.push("EXIT STATUS");
    }
    for heading in headings {
        let plain = format!("\n.SH {heading}\n");
        let quoted = format!("\n.SH \"{heading}\"\n");
        assert!(page.contains(&plain) || page.contains(&quoted), "{name}.1 lacks {heading}");
    }
}

/// All commands that help lists, each with the commands above it; the first is the program.
fn commands(of: &[String]) -> Vec<Vec<String>> {
    let text = help(of);
    let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    // A continued description has more blanks.
    let names = lines.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let mut all = vec![of.to_vec()];
    for name in names.filter(|name| *name != "help") {
        all.extend(commands(&[of, &[name.to_owned()]].concat()));
    }
    all
}

fn help(command: &[String]) -> String {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    stdout(&rulegen(&root(), &arguments))
}

fn name(command: &[String]) -> String {
    [&["rulegen".to_owned()], command].concat().join("-")
}
