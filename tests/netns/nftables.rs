//! The table as `nft` sees it: what is printed loads, is listed, and the list loads again.

use std::fs;

use crate::common::{root, stderr, stdout};
use crate::namespace::Namespace;

#[test]
fn a_printed_table_is_listed_and_its_list_is_a_fixed_point() {
    let mut tables: Vec<_> = fs::read_dir(root().join("tests/golden"))
        .unwrap()
        .flat_map(|entry| {
            ["ipv4.nft", "ipv6.nft"].map(|name| entry.as_ref().unwrap().path().join(name))
        })
        .filter(|path| path.exists())
        .collect();
    tables.sort();
    assert!(tables.len() >= 12, "only {} tables were found", tables.len());
    let (first, second) = (Namespace::new("listed"), Namespace::new("listed-again"));
    for table in tables {
        first.run(&format!("nft -c -f {}", table.display()));
        first.run(&format!("nft -f {}", table.display()));
        let listed = first.run("nft list ruleset");
        let file = second.file("listed.nft", &listed);
        second.run(&format!("nft -f {file}"));
        assert_eq!(second.run("nft list ruleset"), listed, "{}", table.display());
        for namespace in [&first, &second] {
            namespace.run("nft flush ruleset");
        }
    }
}

#[test]
fn only_printing_is_there_for_nftables() {
    let namespace = Namespace::new("printing");
    let cluster = root().join("tests/netns/cluster.yaml");
    for command in ["apply", "diff"] {
        let output =
            namespace.rulegen(&format!("{command} --proxy-mode nftables -f {}", cluster.display()));
        assert!(!output.status.success(), "{}", stdout(&output));
        assert!(stderr(&output).contains("only prints"), "{}", stderr(&output));
    }
    assert_eq!(namespace.run("nft list ruleset"), "");
}
