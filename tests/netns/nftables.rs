//! The nftables table in the kernel: listed by `nft`, read back, repaired, and written by a process
//! that is killed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rulegen_kernel::nftables::{Commit, Dataplane, Event, Generation, NfTables, Watcher};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Actual, Name};

use crate::common::{root, rounds, stderr, stdout};
use crate::namespace::{Namespace, StopOnDrop};
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

const MODE: &str = "--proxy-mode nftables";

/// Folder and arguments of each golden case that has an nftables table.
fn golden_cases() -> Vec<(PathBuf, String)> {
    let folders = fs::read_dir(root().join("tests/golden")).unwrap();
    let mut cases: Vec<(PathBuf, String)> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|folder| ["ipv4.nft", "ipv6.nft"].iter().any(|name| folder.join(name).exists()))
        .map(|folder| {
            let flags = fs::read_to_string(folder.join("flags")).unwrap_or_default();
            let arguments = format!("{MODE} -f cluster.yaml {}", flags.replace('\n', " "));
            (folder, arguments)
        })
        .collect();
    cases.sort();
    assert!(cases.len() >= 12, "only {} cases were found", cases.len());
    cases
}

/// Runs the program in a folder of a namespace. Panics if it fails.
fn rulegen_in(namespace: &Namespace, folder: &std::path::Path, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_rulegen");
    let output = namespace.shell(&format!("cd {} && {program} {arguments}", folder.display()));
    assert!(output.status.success(), "{}: {}", folder.display(), stderr(&output));
    stdout(&output) + &stderr(&output)
}

/// The kernel chooses the order in which elements of a set are listed.
fn sorted_list(namespace: &Namespace) -> Vec<String> {
    let listed = namespace.run("nft list ruleset");
    let mut lines: Vec<String> = listed
        .lines()
        .map(|line| line.trim().trim_start_matches("elements = { ").trim_end_matches([',', '}']))
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

pub(crate) fn generation(namespace: &Namespace) -> Generation {
    namespace.inside(|| NfTables::open().unwrap().generation().unwrap())
}

#[test]
fn nftables_printed_table_is_fixed_point_of_nft_list() {
    let (first, second) = (Namespace::new("listed"), Namespace::new("listed-again"));
    for (folder, arguments) in golden_cases() {
        let printed = rulegen_in(&first, &folder, &format!("--dry-run {arguments} 2>/dev/null"));
        let file = first.file("printed.nft", &printed);
        first.run(&format!("nft -c -f {file} && nft -f {file}"));
        let listed = first.run("nft list ruleset");
        let file = second.file("listed.nft", &listed);
        second.run(&format!("nft -f {file}"));
        assert_eq!(second.run("nft list ruleset"), listed, "{}", folder.display());
        for namespace in [&first, &second] {
            namespace.run("nft flush ruleset");
        }
    }
}

#[test]
fn nftables_applied_table_equals_dry_run_and_is_written_once() {
    let (applied, printed) = (Namespace::new("applied"), Namespace::new("printed"));
    for (folder, arguments) in golden_cases() {
        rulegen_in(&applied, &folder, &arguments);
        let text = rulegen_in(&printed, &folder, &format!("--dry-run {arguments} 2>/dev/null"));
        let file = printed.file("printed.nft", &text);
        printed.run(&format!("nft -f {file}"));
        let list = sorted_list(&printed);
        assert_eq!(sorted_list(&applied), list, "{}", folder.display());
        let before = generation(&applied);
        let messages = rulegen_in(&applied, &folder, &arguments);
        assert_eq!(
            messages.matches("nothing to do").count(),
            2,
            "{}: {messages}",
            folder.display()
        );
        assert_eq!(rulegen_in(&applied, &folder, &format!("diff {arguments} 2>/dev/null")), "");
        assert_eq!(generation(&applied), before, "{}: something was written", folder.display());
        // Applying over a table that nft made from the printed text changes nothing.
        rulegen_in(&printed, &folder, &arguments);
        assert_eq!(sorted_list(&printed), list, "{}", folder.display());
        for namespace in [&applied, &printed] {
            namespace.run("nft flush ruleset");
        }
    }
}

/// Changes by another program, and part of the description of each.
const DRIFT: &[(&str, &str)] = &[
    ("nft flush ruleset", "deleted table ip rulegen"),
    ("nft delete table ip6 rulegen", "deleted table ip6 rulegen"),
    ("nft add rule ip rulegen services accept", "added rule of ip rulegen services"),
    ("nft insert rule ip rulegen nat-output return", "added rule of ip rulegen nat-output"),
    ("nft flush chain ip rulegen services", "deleted rule of ip rulegen services"),
    ("nft add chain ip rulegen mine", "added chain ip rulegen mine"),
    ("nft add set ip rulegen mine '{ type ipv4_addr; }'", "added set ip rulegen mine"),
    (
        "nft add element ip rulegen cluster-ips '{ 9.9.9.9 }'",
        "added element of ip rulegen cluster-ips",
    ),
    (
        "nft 'delete element ip rulegen cluster-ips { 10.96.0.10 };
         add element ip rulegen cluster-ips { 10.96.0.10 comment \"other\" }'",
        "deleted element of ip rulegen cluster-ips",
    ),
    (
        "nft delete element ip rulegen services '{ 10.96.0.10 . tcp . 80 }'",
        "deleted element of ip rulegen services",
    ),
    (
        "nft 'delete element ip rulegen services { 10.96.0.10 . tcp . 80 };
         add element ip rulegen services { 10.96.0.10 . tcp . 80 : goto reject-chain }'",
        "added element of ip rulegen services",
    ),
    (
        "nft add element ip rulegen services '{ 9.9.9.9 . icmp . 1 : drop }'",
        "element of ip rulegen services",
    ),
    ("nft insert rule ip rulegen services ip daddr '{ 1.1.1.1, 2.2.2.2 }' drop", "rule of ip rulegen services"),
    (
        "nft insert rule ip rulegen services ip daddr vmap '{ 1.1.1.1 : drop, 2.2.2.2 : accept }'",
        "rule of ip rulegen services",
    ),
    ("nft insert rule ip rulegen services jump '{ ip daddr 1.1.1.1 drop; }'", "rule of ip rulegen services"),
    (
        "nft 'add set ip rulegen mine { type ipv4_addr; flags constant; elements = { 1.1.1.1 } };
         add rule ip rulegen services ip daddr @mine drop'",
        "mine",
    ),
    (
        "nft 'add map ip rulegen mine { type ipv4_addr : verdict; elements = { 1.1.1.1 : goto reject-chain } };
         add rule ip rulegen services ip daddr vmap @mine'",
        "mine",
    ),
    ("nft add counter ip rulegen mine", "object ip rulegen mine"),
    ("nft add chain ip rulegen nat-output '{ policy drop; }'", "chain ip rulegen nat-output"),
    ("nft 'add table ip rulegen { flags dormant; }'", "table ip rulegen"),
    (
        "nft 'add chain ip rulegen mine; add rule ip rulegen services ip daddr 9.9.9.9 jump mine'",
        "mine",
    ),
    (
        "nft 'add set ip rulegen mine { type ipv4_addr; }; add rule ip rulegen services ip daddr @mine drop'",
        "mine",
    ),
    ("nft add chain ip rulegen mine '{ type filter hook input priority 5; policy drop; }'", "mine"),
];

#[test]
fn drift_is_reported_and_repaired_within_a_second() {
    let namespace = Namespace::new("drift");
    namespace.run("nft add table ip others; nft add chain ip others theirs");
    let arguments = format!("-f {} --hostname-override node-1 {MODE}", example("loadbalancer"));
    assert!(namespace.rulegen(&arguments).status.success());
    let wanted = sorted_list(&namespace);
    let tables = [IpFamily::Ipv4, IpFamily::Ipv6].map(|family| (family, Name::from("rulegen")));
    let mut watcher = namespace.inside(|| Watcher::open(&tables, Watcher::ROOM).unwrap());
    for (change, named) in DRIFT {
        let start = Instant::now();
        namespace.run(&change.replace('\n', " "));
        let commit = next_change(&mut watcher);
        assert_eq!(commit.writer.program, "nft", "{change}");
        assert!(commit.writer.pid > 0, "{change}");
        let is_reported = commit.changes.iter().any(|found| found.to_string().contains(named));
        assert!(is_reported, "{change}: {:?}", commit.changes);
        let diff = namespace.rulegen(&format!("diff {arguments}"));
        assert_eq!(diff.status.code(), Some(1), "{change}: {}", stderr(&diff));
        let repaired = namespace.rulegen(&arguments);
        assert!(repaired.status.success(), "{change}: {}", stderr(&repaired));
        assert!(start.elapsed() < Duration::from_secs(1), "{change}: the repair took too long");
        // `nft flush ruleset` also deleted the foreign table, which rulegen does not restore.
        namespace.run("nft add table ip others; nft add chain ip others theirs");
        assert_eq!(sorted_list(&namespace), wanted, "{change}");
        while !watcher.next(Some(Duration::from_millis(50))).unwrap().is_empty() {}
    }
}

/// Deleting the rule deletes its anonymous set, map or chain. Recreating the table would lose the
/// clients of session affinity.
#[test]
fn drift_repair_removes_only_the_foreign_rule() {
    let namespace = Namespace::new("alone");
    let arguments = format!("-f {} --hostname-override node-1 {MODE}", example("nodeport"));
    assert!(namespace.rulegen(&arguments).status.success());
    for rule in [
        "ip daddr '{ 1.1.1.1, 2.2.2.2 }' drop",
        "ip daddr vmap '{ 1.1.1.1 : drop, 2.2.2.2 : accept }'",
        "jump '{ ip daddr 1.1.1.1 drop; }'",
    ] {
        namespace.run(&format!("nft add rule ip rulegen services {rule}"));
        let messages = stderr(&namespace.rulegen(&arguments));
        assert!(messages.contains("ip rulegen: 1 rule deleted\n"), "{rule}: {messages}");
    }
}

#[test]
fn watcher_receives_no_changes_of_a_port_that_it_ignores() {
    let namespace = Namespace::new("ports");
    let tables = [(IpFamily::Ipv4, Name::from("rulegen"))];
    let mut own = namespace.inside(|| NfTables::open().unwrap());
    let open = || namespace.inside(|| Watcher::open(&tables, Watcher::ROOM).unwrap());
    let (mut all, mut ignoring, mut of_others) =
        (open(), open().ignoring(own.port()), open().of_others(own.port()));
    namespace.run("nft add table ip rulegen");
    assert_eq!(own.delete(&tables).unwrap().len(), 1);
    namespace.run("nft add table ip rulegen");
    // Whether each commit is an own one, and its number of changes.
    let commits = |watcher: &mut Watcher| {
        let mut commits = Vec::new();
        loop {
            let events = watcher.next(Some(Duration::from_millis(10))).unwrap();
            if events.is_empty() {
                return commits;
            }
            commits.extend(events.into_iter().map(|event| match event {
                Event::Commit(commit) => (commit.writer.port == own.port(), commit.changes.len()),
                Event::Lost => panic!("events were lost"),
            }));
        }
    };
    assert_eq!(commits(&mut all), [(false, 1), (true, 1), (false, 1)]);
    assert_eq!(commits(&mut ignoring), [(false, 1), (true, 0), (false, 1)]);
    assert_eq!(commits(&mut of_others), [(false, 1), (false, 1)]);
}

/// The next commit that changed our tables.
fn next_change(watcher: &mut Watcher) -> Commit {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        for event in watcher.next(Some(Duration::from_secs(1))).unwrap() {
            match event {
                Event::Commit(commit) if commit.changes.is_empty() => {}
                Event::Commit(commit) => return commit,
                Event::Lost => panic!("events were lost"),
            }
        }
    }
    panic!("no event");
}

#[test]
fn drift_of_a_thread_names_its_process() {
    let namespace = Namespace::new("thread");
    let tables = [(IpFamily::Ipv4, Name::from("rulegen"))];
    namespace.inside(|| {
        namespace.run("nft add table ip rulegen");
        let mut watcher = Watcher::open(&tables, Watcher::ROOM).unwrap();
        // Each test has a thread that is named after it.
        NfTables::open().unwrap().delete(&tables).unwrap();
        let writer = next_change(&mut watcher).writer;
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            (writer.pid, writer.program.as_str(), writer.is_thread),
            (std::process::id(), name.trim_end(), false)
        );
        // The process has ended, so only the name from the kernel's event is known.
        namespace.run("nft add table ip rulegen");
        let writer = next_change(&mut watcher).writer;
        assert_eq!((writer.program.as_str(), writer.is_thread), ("nft", true));
    });
}

#[test]
fn drift_ignores_own_commits_and_other_tables() {
    let namespace = Namespace::new("own");
    let name = Name::from("rulegen");
    let tables = [(IpFamily::Ipv4, name.clone())];
    namespace.inside(|| {
        let mut watcher = Watcher::open(&tables, Watcher::ROOM).unwrap();
        let mut kernel = NfTables::open().unwrap();
        namespace.run("nft add table ip other; nft add table ip6 rulegen");
        namespace.run("nft add table ip rulegen");
        assert_eq!(kernel.delete(&tables).unwrap().len(), 1);
        let mut commits = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while commits.len() < 4 {
            assert!(Instant::now() < deadline, "{commits:?}");
            for event in watcher.next(Some(Duration::from_secs(1))).unwrap() {
                let Event::Commit(commit) = event else { panic!("events were lost") };
                let changes = commit.changes.iter().map(ToString::to_string);
                commits
                    .push((commit.writer.port == kernel.port(), changes.collect::<Vec<String>>()));
            }
        }
        let none = Vec::<String>::new();
        let wanted = [
            (false, none.clone()),
            (false, none),
            (false, vec!["added table ip rulegen".to_owned()]),
            (true, vec!["deleted table ip rulegen".to_owned()]),
        ];
        assert_eq!(commits, wanted);
    });
}

/// iptables-nft keeps its rules in tables of nf_tables. The kernel sends no events for
/// iptables-legacy, so the watcher polls every second.
#[test]
fn drift_of_iptables_is_noticed() {
    use rulegen_kernel::iptables::{Variant, Watcher};
    let namespace = Namespace::new("watch-iptables");
    let arguments = format!("-f {} --hostname-override node-1", example("clusterip"));
    for (variant, name) in [(Variant::Nft, "nft"), (Variant::Legacy, "legacy")] {
        let arguments = format!("{arguments} --iptables-variant {name}");
        assert!(namespace.rulegen(&arguments).status.success());
        let mut watcher = namespace.inside(|| Watcher::open(variant, |_| true).unwrap());
        namespace.run(&format!("iptables-{name} -t nat -D KUBE-SERVICES 1"));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut events = Vec::new();
        while events.is_empty() {
            assert!(Instant::now() < deadline, "{name}: no event");
            events = watcher.next(Duration::from_secs(1)).unwrap();
        }
        match &events[0] {
            Event::Commit(commit) => {
                assert_eq!(variant, Variant::Nft);
                assert!(commit.writer.program.starts_with("iptables"), "{commit:?}");
                let changes =
                    commit.changes.iter().map(ToString::to_string).collect::<Vec<String>>();
                assert_eq!(changes, ["deleted rule of ip nat KUBE-SERVICES"]);
            }
            Event::Lost => assert_eq!(variant, Variant::Legacy),
        }
        assert_eq!(namespace.rulegen(&format!("diff {arguments}")).status.code(), Some(1));
        assert!(namespace.rulegen(&arguments).status.success());
        assert_eq!(namespace.rulegen(&format!("diff {arguments}")).status.code(), Some(0));
    }
}

/// A transaction larger than the default socket buffer, and a dump of several messages.
#[test]
fn nftables_fifty_thousand_elements_are_written_once() {
    const SERVICES: usize = 4_200;
    let namespace = Namespace::new("many");
    let items: Vec<String> = (0..SERVICES).map(|n| json_service(n, 5)).collect();
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#, items.join(","));
    let arguments = format!("-f {} {MODE}", namespace.file("many.json", &list));
    let tables = [(IpFamily::Ipv4, Name::from("rulegen"))];
    let [mut large_buffer, mut small_buffer] =
        namespace.inside(|| [Watcher::ROOM, 1].map(|room| Watcher::open(&tables, room).unwrap()));
    let first = namespace.rulegen(&arguments);
    assert!(first.status.success(), "{}", stderr(&first));
    let commit = next_change(&mut large_buffer);
    assert_eq!(commit.writer.program, "rulegen");
    let lost = small_buffer.next(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(lost, [Event::Lost]);
    let messages = stderr(&first);
    assert!(messages.contains("50400 elements added"), "{messages}");
    let before = generation(&namespace);
    let again = namespace.rulegen(&arguments);
    assert_eq!(stderr(&again).matches("nothing to do").count(), 2, "{}", stderr(&again));
    assert_eq!(generation(&namespace), before);
    let elsewhere = list.replacen("10.240.0.1", "10.239.0.1", 1);
    let changed = format!("-f {} {MODE}", namespace.file("changed.json", &elsewhere));
    let messages = stderr(&namespace.rulegen(&changed));
    assert!(messages.contains("ip rulegen: 2 elements added, 2 elements deleted"), "{messages}");
}

pub(crate) fn json_service(n: usize, endpoints: usize) -> String {
    let (high, low) = (n / 40, n % 40);
    let ip = format!("10.97.{high}.{low}");
    let addresses: Vec<String> = (0..endpoints)
        .map(|e| format!(r#"{{"addresses": ["10.240.{high}.{}"]}}"#, low * endpoints + e + 1))
        .collect();
    format!(
        r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "many-{n}"}},
            "spec": {{"clusterIP": "{ip}", "clusterIPs": ["{ip}"], "ports": [{{"port": 80}}]}}}},
           {{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {{"name": "many-{n}", "labels": {{"kubernetes.io/service-name": "many-{n}"}}}},
            "ports": [{{"port": 80}}], "endpoints": [{}]}}"#,
        addresses.join(",")
    )
}

/// Another program commits all the time, repeatedly between our read and our write.
#[test]
fn nftables_busy_ruleset_is_written_or_reported_busy() {
    const RUNS: usize = 20;
    let namespace = Namespace::new("busy");
    let states = [1, 2].map(|endpoints| {
        let items: Vec<String> = (0..100).map(|n| json_service(n, endpoints)).collect();
        let list =
            format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#, items.join(","));
        namespace.file(&format!("state-{endpoints}.json"), &list)
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                namespace.run("nft add table ip other; nft delete table ip other");
            }
        });
        let _stop = StopOnDrop(&stop);
        for run in 0..RUNS {
            let state = &states[run % 2];
            let output = namespace.rulegen(&format!("-f {state} {MODE}"));
            let error = stderr(&output);
            let is_busy = error.contains("other programs changed the ruleset during each of");
            assert!(output.status.success() || is_busy, "{error}");
        }
    });
    let last = format!("-f {} {MODE}", states[0]);
    assert!(namespace.rulegen(&last).status.success());
    assert_eq!(namespace.rulegen(&format!("diff {last}")).status.code(), Some(0));
}

#[test]
fn nftables_refused_operation_is_named() {
    use rulegen_kernel::nftables::DataplaneError;
    use rulegen_ruleset::nftables::{Operation, Transaction};
    let namespace = Namespace::new("refused");
    let table = Name::from("rulegen");
    let gone = Name::from("gone");
    let operations = vec![Operation::DeleteTable, Operation::DeleteChain(&gone)];
    let transaction = Transaction { family: IpFamily::Ipv6, table: &table, operations };
    let refused = namespace
        .inside(|| NfTables::open().unwrap().commit(None, std::slice::from_ref(&transaction)));
    let error = refused.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DataplaneError::Refused(ref all) if all.len() == 2), "{text}");
    for part in ["delete table ip6 rulegen: ENOENT", "delete chain ip6 rulegen gone: ENOENT"] {
        assert!(text.contains(part), "{text}");
    }
}

/// Two of many chains have a jump to a missing chain. The kernel refuses these two, and the search
/// for them changes nothing.
#[test]
fn nftables_isolate_finds_refused_services_and_writes_nothing() {
    use rulegen_kernel::nftables::{isolate, reconcile};
    use rulegen_ruleset::nftables::{Chain, Rule, Statement, Table, Verdict};
    let namespace = Namespace::new("isolate");
    let table = |parts: &[usize]| {
        let chain = |n: &usize| {
            let verdict = match n {
                5 | 11 => Verdict::Goto(Name::from("missing")),
                _ => Verdict::Drop,
            };
            let rules = vec![Rule::new([Statement::Verdict(verdict)])];
            (Name::from(format!("c{n}")), Chain { base: None, rules })
        };
        vec![Table {
            family: IpFamily::Ipv4,
            name: Name::from("rulegen"),
            comment: "some are refused".into(),
            sets: Default::default(),
            chains: parts.iter().map(chain).collect(),
        }]
    };
    namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, &table(&[0, 1, 2]), |_| ()).unwrap();
        let all: Vec<usize> = (0..16).collect();
        let refused = reconcile(&mut kernel, &table(&all), |_| ()).unwrap_err();
        assert!(refused.is_about_content(), "{refused}");
        let before = kernel.generation().unwrap();
        let (settled, suspects) = all.split_at(3);
        let found = isolate(&mut kernel, settled, suspects, 100, table).unwrap();
        assert_eq!(found.refused, [5, 11]);
        assert_eq!(kernel.generation().unwrap(), before, "the search changed the kernel");
        let rest: Vec<usize> = all.into_iter().filter(|n| !found.refused.contains(n)).collect();
        reconcile(&mut kernel, &table(&rest), |_| ()).unwrap();
    });
    assert_eq!(namespace.run("nft list table ip rulegen").matches("chain c").count(), 14);
}

/// The kernel checks probes and rolls them back. An unsupported feature is named.
#[test]
fn nftables_missing_kernel_features_are_found() {
    use rulegen_ruleset::nftables::{
        BaseChain, Chain, ChainKind, Condition, Hook, Number, NumgenMode, Rule, Statement, Table,
    };
    let namespace = Namespace::new("features");
    let draw = |draw| Statement::Match(Condition::Is(Number::Modulo(draw, 2), 0));
    let statements = [draw(NumgenMode::Random), draw(NumgenMode::BySource), Statement::Reject];
    let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Input, priority: 0 };
    let chain = Chain { base: Some(base), rules: vec![Rule::new(statements)] };
    let table = |family| Table {
        family,
        name: Name::from("rulegen"),
        comment: "needs something".into(),
        sets: Default::default(),
        chains: [(Name::from("input"), chain.clone())].into(),
    };
    let before = generation(&namespace);
    let tables = [table(IpFamily::Ipv4), table(IpFamily::Ipv6)];
    let missing = namespace.inside(|| NfTables::open().unwrap().missing(&tables).unwrap());
    assert_eq!(missing, [], "this kernel supports all of them");
    assert_eq!(generation(&namespace), before);
    assert_eq!(namespace.run("nft list ruleset"), "");
}

/// A table on which `nft list` aborts: the data of a map are the key of another lookup. The kernel
/// accepts it. It must not affect rulegen.
#[test]
fn nftables_undecodable_foreign_table_is_ignored() {
    use rulegen_ruleset::nftables::{
        BaseChain, Chain, ChainKind, DataType, Field, Hook, Rule, Selector, Set, Statement, Table,
        diff,
    };
    let namespace = Namespace::new("odd");
    let (sockets, verdicts) = (Name::from("sockets"), Name::from("verdicts"));
    let rule = Rule::new([
        Statement::DnatMap { key: vec![Selector::DestinationAddress], map: sockets.clone() },
        Statement::VerdictMap { key: Vec::new(), map: verdicts.clone() },
    ]);
    let base = BaseChain { kind: ChainKind::Nat, hook: Hook::Prerouting, priority: -100 };
    let odd = Table {
        family: IpFamily::Ipv4,
        name: Name::from("odd"),
        comment: "cannot be listed".into(),
        sets: [
            (sockets, Set::map(&[Field::Address], DataType::AddrPort, "")),
            (verdicts, Set::map(&[Field::Address, Field::Port], DataType::Verdict, "")),
        ]
        .into(),
        chains: [(Name::from("odd"), Chain { base: Some(base), rules: vec![rule] })].into(),
    };
    let commit = || NfTables::open().unwrap().commit(None, &[diff(None, &odd)]);
    namespace.inside(commit).unwrap();
    assert!(!namespace.shell("nft list ruleset").status.success(), "nft can list this table");
    let arguments = format!("-f {} --hostname-override node-1 {MODE}", example("nodeport"));
    for _ in 0..2 {
        assert!(namespace.rulegen(&arguments).status.success());
    }
    assert_eq!(namespace.rulegen(&format!("diff {arguments}")).status.code(), Some(0));
    assert!(namespace.run("nft list table ip rulegen").contains("default/web-service"));
    assert!(namespace.rulegen("cleanup").status.success());
}

/// Rollback: kube-proxy runs again, and rulegen's table is no longer needed.
#[test]
fn cleanup_keeps_kube_proxy_rules_if_asked() {
    let namespace = Namespace::new("way-back");
    let arguments = format!("-f {} --hostname-override node-1", example("nodeport"));
    assert!(namespace.rulegen(&format!("{arguments} {MODE}")).status.success());
    // The chains that kube-proxy makes as well, and kube-proxy's table.
    assert!(namespace.rulegen(&arguments).status.success());
    namespace.run("nft add table ip kube-proxy");
    let chains = namespace.run("iptables-save -t nat");
    for _ in 0..2 {
        let output = namespace.rulegen("cleanup --keep-kube-proxy");
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let left = namespace.run("nft list tables");
    assert!(!left.contains("rulegen") && left.contains("table ip kube-proxy"), "{left}");
    assert_eq!(without_comments(&namespace.run("iptables-save -t nat")), without_comments(&chains));
}

/// The output of iptables-save without comments, which contain the time.
fn without_comments(saved: &str) -> Vec<&str> {
    saved.lines().filter(|line| !line.starts_with('#')).collect()
}

/// A foreign commit between read and write makes the kernel refuse the write.
#[test]
fn nftables_transaction_on_stale_generation_is_refused() {
    use rulegen_kernel::nftables::DataplaneError;
    use rulegen_ruleset::nftables::{Operation, Transaction};
    let namespace = Namespace::new("stale");
    let table = Name::from("rulegen");
    namespace.run("nft add table ip rulegen");
    let operations = vec![Operation::DeleteTable];
    let transaction = Transaction { family: IpFamily::Ipv4, table: &table, operations };
    let refused = namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        let (generation, _) = kernel.read(&[(IpFamily::Ipv4, &table)]).unwrap();
        namespace.run("nft add table ip other");
        kernel.commit(Some(generation), std::slice::from_ref(&transaction))
    });
    assert!(matches!(refused, Err(DataplaneError::Stale)), "{refused:?}");
    assert!(namespace.run("nft list ruleset").contains("table ip rulegen"));
}

fn example(name: &str) -> String {
    root().join("examples").join(format!("{name}.yaml")).display().to_string()
}

/// Number of additional Services, so that there is time for a kill.
const MORE_SERVICES: usize = 60;

/// Two states of the lab's cluster. They differ in the endpoints of all Services except the
/// requested one.
fn two_states(namespace: &Namespace) -> [String; 2] {
    let lab = fs::read_to_string(root().join("tests/netns/cluster.yaml")).unwrap();
    [1, 2].map(|endpoints| {
        let more: String = (0..MORE_SERVICES).map(|n| service(n, endpoints)).collect();
        namespace.file(&format!("state-{endpoints}.yaml"), format!("{lab}\n{more}").as_str())
    })
}

fn service(n: usize, endpoints: usize) -> String {
    let (high, low) = (n / 200, n % 200 + 1);
    let addresses: String = (0..endpoints)
        .map(|e| {
            format!("- {{addresses: [10.250.{high}.{}], conditions: {{ready: true}}}}\n", low + e)
        })
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: more-{n}, namespace: more}}\n\
         spec: {{clusterIP: 10.97.{high}.{low}, clusterIPs: [10.97.{high}.{low}], ports: [{{port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: more-{n}, namespace: more, labels: {{kubernetes.io/service-name: more-{n}}}}}\n\
         ports: [{{port: 80}}]\nendpoints:\n{addresses}"
    )
}

/// The tables without rule handles, which change with each write.
pub(crate) fn actual_tables(namespace: &Namespace) -> Vec<Option<Actual>> {
    let name = Name::from("rulegen");
    let read =
        || NfTables::open().unwrap().read(&[(IpFamily::Ipv4, &name), (IpFamily::Ipv6, &name)]);
    let (_, mut actual_tables) = namespace.inside(read).unwrap();
    let rules = actual_tables
        .iter_mut()
        .flatten()
        .flat_map(|table| table.chains.values_mut().flatten())
        .flat_map(|chain| &mut chain.rules);
    rules.for_each(|rule| rule.handle = None);
    actual_tables
}

#[test]
fn apply_killed_at_any_point_leaves_old_or_new_rules() {
    let runs = rounds(200) as u32;
    let lab = Topology::new("kill");
    let states = two_states(&lab.node);
    let arguments = |state: &str| format!("-f {state} --hostname-override node-1 {MODE}");
    let mut complete_states = Vec::new();
    let mut longest = Duration::ZERO;
    for state in states.iter().chain(&states) {
        let start = Instant::now();
        assert!(lab.node.rulegen(&arguments(state)).status.success());
        longest = longest.max(start.elapsed());
        complete_states.push(actual_tables(&lab.node));
    }
    assert_ne!(complete_states[0], complete_states[1]);
    assert_eq!(complete_states[0], complete_states[2]);

    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let to = "10.96.0.10:80".parse().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let answer = lab.ask_with_long_timeout(From::BridgedPod, Proto::Tcp, to);
                assert!(matches!(answer, Answer::From { .. }), "{answer:?}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stop = StopOnDrop(&stop);
        let mut found = [0_u32; 2];
        for run in 0..runs {
            // Apply the other state, and kill at some point of the run.
            let index = usize::from(actual_tables(&lab.node) == complete_states[0]);
            kill_after(&lab.node, &arguments(&states[index]), longest * 2 * run / runs);
            let now = actual_tables(&lab.node);
            let state = complete_states.iter().take(2).position(|complete| *complete == now);
            found[state.expect("a mixture of two states")] += 1;
            assert!(!traffic.is_finished(), "a connection failed");
        }
        drop(stop);
        assert!(found.iter().all(|count| *count > 0), "{found:?}");
        assert!(asked.load(Ordering::Relaxed) > rounds(200) / 2, "too few requests");
    });
}

fn kill_after(namespace: &Namespace, arguments: &str, time: Duration) {
    let program = env!("CARGO_BIN_EXE_rulegen");
    let mut child = Command::new("ip")
        .args(["netns", "exec", &namespace.name, program])
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Not a wait: this varies the moment of the kill.
    thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Session affinity: a client whose endpoint was removed gets another endpoint at once, and keeps
/// it when the first endpoint comes back.
#[test]
fn session_affinity_client_of_removed_endpoint_moves_and_does_not_return() {
    let lab = Topology::new("loses");
    // The entry must not expire by itself during the test.
    let cluster = fs::read_to_string(root().join("tests/netns/cluster.yaml"))
        .unwrap()
        .replace("timeoutSeconds: 2}", "timeoutSeconds: 600}");
    let apply = |cluster: &str| {
        let file = lab.node.file("cluster.yaml", cluster);
        let output = lab.node.rulegen(&format!("-f {file} --hostname-override node-1 {MODE}"));
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let clients = || lab.node.run("nft list table ip rulegen").matches("expires").count();
    let to = "10.96.0.70:80".parse().unwrap();
    let endpoint = || match lab.ask(From::BridgedPod, Proto::Tcp, to) {
        Answer::From { endpoint, .. } => endpoint,
        other => panic!("{other:?}"),
    };

    apply(&cluster);
    let first = endpoint();
    assert_eq!(clients(), 1, "the client was not recorded");
    assert_eq!(endpoint(), first);

    let address = format!("- {{addresses: [{}], ", first.ip());
    let (before, sticky) = cluster.split_once("name: sticky-ipv4").unwrap();
    let line = sticky.lines().find(|line| line.contains(&address)).unwrap();
    let without = format!("{before}name: sticky-ipv4{}", sticky.replacen(line, "", 1));
    apply(&without);
    assert_eq!(clients(), 0, "the client of the removed endpoint was kept");
    let second = endpoint();
    assert_ne!(second, first);

    apply(&cluster);
    for _ in 0..5 {
        assert_eq!(endpoint(), second, "the client went back to its first endpoint");
    }
}

/// The kernel cannot change the timeout of an existing set, so the timeout is in the rules.
#[test]
fn session_affinity_clients_are_kept_when_timeout_changes() {
    let lab = Topology::new("keeps");
    let lab_cluster = fs::read_to_string(root().join("tests/netns/cluster.yaml")).unwrap();
    let apply = |seconds: u32| {
        let manifest =
            lab_cluster.replace("timeoutSeconds: 2}", &format!("timeoutSeconds: {seconds}}}"));
        let file = lab.node.file("cluster.yaml", &manifest);
        let arguments = format!("-f {file} --hostname-override node-1 {MODE}");
        assert!(lab.node.rulegen(&arguments).status.success());
        lab.node.run("nft list table ip rulegen")
    };
    apply(600);
    let to = "10.96.0.70:80".parse().unwrap();
    assert!(matches!(lab.ask(From::BridgedPod, Proto::Tcp, to), Answer::From { .. }));
    let table = apply(7777);
    assert!(table.contains("timeout 2h9m37s"), "the timeout did not change:\n{table}");
    assert_eq!(table.matches("expires").count(), 1, "the client was lost:\n{table}");
}
