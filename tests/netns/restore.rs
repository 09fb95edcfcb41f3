//! The output is a fixed point: both variants save what they restored from it, and netlink reads
//! and writes the rules of iptables-nft as its programs do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rulegen_compiler::iptables::OURS;
use rulegen_kernel::iptables::{Iptables, Variant};
use rulegen_kernel::nftables::NfTables;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Table, diff, parse};

use crate::common::{difference, root};
use crate::namespace::{Namespace, StopOnDrop};

#[test]
fn iptables_restore_of_golden_output_is_saved_unchanged() {
    let outputs = outputs();
    assert!(outputs.len() > 60, "only {} outputs were found", outputs.len());
    let namespace = Namespace::new("restore");
    for variant in ["nft", "legacy"] {
        for output in &outputs {
            let program = program(family_of(output));
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

/// What iptables-nft-restore writes is read back through netlink as iptables-nft-save prints it,
/// and is nothing to do. What netlink writes is printed by iptables-nft-save as the output, chain by
/// chain and rule by rule, and is nothing to do either.
#[test]
fn iptables_netlink_reads_and_writes_golden_output_as_iptables_nft() {
    let namespace = Namespace::new("netlink");
    for output in outputs() {
        let (family, wanted) = (family_of(&output), fs::read_to_string(&output).unwrap());
        let (desired, errors) = parse(family, &wanted);
        assert_eq!(errors, []);
        let program = program(family);
        namespace.run(&format!("nft flush ruleset; {program}-nft-restore < {}", output.display()));
        let saved = namespace.run(&format!("{program}-nft-save"));
        let read = namespace.inside(|| tables(family).save().unwrap());
        let expected = parse(family, &saved).0;
        let differs = || difference(&expected.to_text(), &read.to_text());
        assert!(read == expected, "{}:\n{}", output.display(), differs());
        assert_eq!(diff(&read, &desired, &OURS).summary(), "nothing to do", "{}", output.display());

        namespace.run("nft flush ruleset");
        let read = namespace.inside(|| {
            let empty = Ruleset::new(family);
            tables(family).restore(&diff(&empty, &desired, &OURS)).unwrap();
            tables(family).save().unwrap()
        });
        let saved = namespace.run(&format!("{program}-nft-save"));
        assert_eq!(uncounted(&saved), uncounted(&wanted), "{}", output.display());
        assert_eq!(diff(&read, &desired, &OURS).summary(), "nothing to do", "{}", output.display());
    }
}

/// Another program moves a rule from one chain to another all the time. Each read sees it in one of
/// them, and each write succeeds.
#[test]
fn iptables_netlink_reads_and_writes_between_commits_of_others() {
    let namespace = Namespace::new("busy");
    let chain = |n: usize| {
        let (chain, ip) = (format!("KUBE-SEP-{n:016}"), format!("10.1.{}.{}", n / 250, n % 250));
        format!(":{chain} - [0:0]\n-A {chain} -s {ip}/32 -j RETURN\n-A {chain} -j ACCEPT\n")
    };
    let text = format!("*nat\n{}COMMIT\n", (0..2000).map(chain).collect::<String>());
    let (desired, errors) = parse(IpFamily::Ipv4, &text);
    assert_eq!(errors, []);
    let tables = tables(IpFamily::Ipv4);
    let empty = Ruleset::new(IpFamily::Ipv4);
    // The kernel lists chains in the order in which they were made.
    namespace.run("nft 'add table ip nat; add chain ip nat FIRST; add rule ip nat FIRST accept'");
    namespace.inside(|| tables.restore(&diff(&empty, &desired, &OURS)).unwrap());
    namespace.run("nft add chain ip nat LAST");
    let flush = "flush chain ip nat FIRST; flush chain ip nat LAST";
    let moves = ["FIRST", "LAST"].map(|to| format!("nft '{flush}; add rule ip nat {to} accept'"));
    let is_over = AtomicBool::new(false);
    let mut interrupted = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                namespace.shell(&moves.join(";"));
            }
        });
        let _over = StopOnDrop(&is_over);
        namespace.inside(|| {
            let mut kernel = NfTables::open().unwrap();
            for _ in 0..10 {
                let before = kernel.generation().unwrap();
                let read = tables.save().unwrap();
                interrupted += usize::from(kernel.generation().unwrap() != before);
                let rules = |name: &str| read.chain(Table::Nat, &name.into()).unwrap().rules.len();
                assert_eq!(rules("FIRST") + rules("LAST"), 1, "a commit was seen in half");
                // Removes a rule of each chain, and writes it again.
                let mut without = desired.clone();
                let chains = without.tables.values_mut().flat_map(|chains| chains.values_mut());
                chains.for_each(|chain| drop(chain.rules.pop()));
                tables.restore(&diff(&read, &without, &OURS)).unwrap();
                let read = tables.save().unwrap();
                assert_eq!(diff(&read, &without, &OURS).summary(), "nothing to do");
                tables.restore(&diff(&read, &desired, &OURS)).unwrap();
            }
        });
    });
    assert!(interrupted >= 5, "too few reads saw a commit: {interrupted}");
}

fn tables(family: IpFamily) -> Iptables {
    Iptables::new(family, Variant::Nft, Duration::from_secs(5))
}

fn family_of(output: &Path) -> IpFamily {
    let is_ipv6 = output.file_name().is_some_and(|name| name == "ipv6.iptables-save");
    if is_ipv6 { IpFamily::Ipv6 } else { IpFamily::Ipv4 }
}

fn program(family: IpFamily) -> &'static str {
    match family {
        IpFamily::Ipv4 => "iptables",
        IpFamily::Ipv6 => "ip6tables",
    }
}

/// The lines in order, without comments and counters.
fn uncounted(saved: &str) -> Vec<&str> {
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or_default()).collect()
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
