//! The manual pages that `rulegen man` writes.

use std::fs;

use crate::common::{root, rulegen, stdout};

#[test]
fn man_pages_cover_every_command_and_flag() {
    let folder = std::env::temp_dir().join(format!("rulegen-man-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let output = rulegen(&root(), &["man", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for command in ["", "agent", "apply", "cleanup", "diff", "doctor", "explain", "list", "trace"] {
        let name = if command.is_empty() { "rulegen".into() } else { format!("rulegen-{command}") };
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        let arguments = [command, "--help"];
        let help = stdout(&rulegen(&root(), &arguments[usize::from(command.is_empty())..]));
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
        assert!(count > 4, "{name}: {help}");
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS"] {
            let plain = format!("\n.SH {heading}\n");
            let quoted = format!("\n.SH \"{heading}\"\n");
            assert!(page.contains(&plain) || page.contains(&quoted), "{name}.1 lacks {heading}");
        }
        // An example keeps its lines.
        assert!(page.contains("\n.nf\n"), "{name}");
    }
    fs::remove_dir_all(folder).unwrap();
}
