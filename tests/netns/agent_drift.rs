//! What other programs change in the agent's table is repaired, and only that is read.

use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, SOON, eventually, service, within};

/// The rules as nft lists them, without handles and in a fixed order.
fn listed(namespace: &Namespace) -> Vec<String> {
    let listed = namespace.run("nft list ruleset");
    let lines = listed.lines().map(|line| {
        line.trim()
            .trim_start_matches("elements = { ")
            .trim_end_matches([',', '}'])
            .trim()
            .to_owned()
    });
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}

/// An agent with many Services.
fn started<'a>(namespace: &'a Namespace, manifests: &Manifests) -> Agent<'a> {
    let all: String = (1..200).map(|n| service(n, &[&format!("10.1.0.{n}"), "10.2.0.1"])).collect();
    manifests.put("all.yaml", &all);
    let agent = Agent::start(namespace, manifests, "");
    agent.wait_until_in_sync();
    agent
}

/// Commands of nft, each with whether the whole table has to be read.
const DRIFTS: [(&str, bool); 12] = [
    ("delete element ip rulegen services { 10.96.1.7 . tcp . 80 }", false),
    ("add element ip rulegen hairpins { 10.9.9.9 . 10.9.9.9 }", false),
    (
        "delete element ip rulegen hairpins { 10.1.0.9 . 10.1.0.9 }; \
         add element ip rulegen hairpins { 10.9.9.9 . 10.9.9.9 }",
        false,
    ),
    (
        "delete element ip rulegen endpoints { 10.96.1.7 . tcp . 80 . 0 }; \
         add element ip rulegen endpoints { 10.96.1.7 . tcp . 80 . 0 : 10.9.9.9 . 1 }",
        false,
    ),
    ("insert rule ip rulegen services drop", false),
    ("add rule ip rulegen endpoints-2 drop", false),
    ("flush chain ip rulegen services", false),
    ("add chain ip rulegen mine; add rule ip rulegen services jump mine", false),
    ("flush set ip rulegen hairpins", false),
    ("add element ip rulegen hairpins { * }", true),
    ("add set ip rulegen mine { type ipv4_addr; }", true),
    ("flush ruleset", true),
];

#[test]
fn drift_of_elements_and_rules_is_repaired_without_a_full_resync() {
    let namespace = Namespace::new("drift");
    let manifests = Manifests::new(&namespace);
    let agent = started(&namespace, &manifests);
    let wanted = listed(&namespace);
    let is_full = |log: &str| log.matches("full=true").count();
    for (drift, reads_everything) in DRIFTS {
        let (full, repairs) = (is_full(&agent.log()), agent.metric("rulegen_drift_repairs_total"));
        namespace.run(&format!("nft '{drift}'"));
        let is_repaired = || {
            agent.metric("rulegen_drift_repairs_total") > repairs && listed(&namespace) == wanted
        };
        within(SOON, &format!("{drift}: repaired"), is_repaired);
        let now = is_full(&agent.log());
        assert_eq!(now > full, reads_everything, "{drift}: {}", agent.log());
    }
}

/// A terminated agent leaves a record of its tables, and the next one reads nothing.
#[test]
fn restart_of_an_agent_reads_the_tables_only_if_they_may_have_changed() {
    let namespace = Namespace::new("record");
    let manifests = Manifests::new(&namespace);
    let all: String = (1..50).map(|n| service(n, &[&format!("10.1.0.{n}")])).collect();
    manifests.put("all.yaml", &all);
    let restart = |damage: &dyn Fn()| -> (bool, Vec<String>) {
        damage();
        let mut agent = Agent::start(&namespace, &manifests, "-v4");
        agent.wait_for_log("full=true");
        let is_read = !agent.log().contains("the kernel has the recorded tables");
        let listed = listed(&namespace);
        namespace.run(&format!("kill {}", agent.process().file_name().unwrap().to_str().unwrap()));
        eventually("exits", || agent.exit_status().is_some());
        (is_read, listed)
    };
    let (is_read, wanted) = restart(&|| ());
    assert!(is_read);
    let nft = |command: &'static str| -> Box<dyn Fn() + '_> {
        let namespace = &namespace;
        Box::new(move || drop(namespace.run(&format!("nft '{command}'"))))
    };
    let record = manifests.path.with_file_name("state").join("nftables");
    let edit = |from: &'static str, to: &'static str| -> Box<dyn Fn()> {
        let record = record.clone();
        Box::new(move || {
            let text = std::fs::read_to_string(&record).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(&record, text.replacen(from, to, 1)).unwrap();
        })
    };
    type Damage<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let damages: [Damage<'_>; 12] = [
        ("another table is added", nft("add table ip other")),
        (
            "an element is missing",
            nft("delete element ip rulegen services { 10.96.1.7 . tcp . 80 }"),
        ),
        ("an element is added", nft("add element ip rulegen hairpins { 10.9.9.9 . 10.9.9.9 }")),
        (
            "an element is replaced",
            nft("delete element ip rulegen hairpins { 10.1.0.9 . 10.1.0.9 }; \
                 add element ip rulegen hairpins { 10.9.9.9 . 10.9.9.9 }"),
        ),
        ("a rule is changed", nft("insert rule ip rulegen services drop")),
        ("a chain is added", nft("add chain ip rulegen mine")),
        (
            "the table is created again",
            nft(
                "delete table ip rulegen; add table ip rulegen { comment \"made by rulegen from Kubernetes Services\"; }",
            ),
        ),
        ("the record is of another boot", edit("boot ", "boot 0")),
        ("the record is of another namespace", edit("namespace ", "namespace 1")),
        ("the record is of another generation", edit("generation ", "generation 1")),
        ("the record has another hash", edit("sha256 ", "sha256 0")),
        ("the record is gone", {
            let record = record.clone();
            Box::new(move || std::fs::remove_file(&record).unwrap())
        }),
    ];
    for (label, damage) in &damages {
        let (is_read, _) = restart(&|| ());
        assert!(!is_read, "before {label}");
        let (is_read, mut listed) = restart(damage);
        assert!(is_read, "{label}");
        listed.retain(|line| line != "table ip other {");
        assert!(listed == wanted, "{label}: not repaired");
    }
}
