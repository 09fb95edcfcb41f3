//! The kernel's tables compared with wanted ones: whatever another program changes is found, and the
//! cost is that of the elements, not their square.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rulegen_kernel::nftables::{Dataplane, DataplaneError, NfTables, ReadCost, reconcile};
use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::nftables::{
    Chain, Comment, ComparedTable, Data, DataType, Element, Field, Key, Name, Operation, Set,
    Table, Transaction, Value, Verdict,
};

use crate::namespace::{Namespace, StopOnDrop};

/// More than are dumped, and not a multiple of the elements per request.
const ELEMENTS: u16 = 3001;

fn table() -> Table {
    let element =
        |data: Option<Data>, n: u16| (data, Some(Comment::from(format!("default/s{n}").as_str())));
    let all = |key: fn(u16) -> Key, data: fn(u16) -> Option<Data>| -> BTreeMap<Key, Element> {
        let one = |n: u16| {
            let (data, comment) = element(data(n), n);
            (key(n), Element { data, comment })
        };
        (0..ELEMENTS).map(one).collect()
    };
    let goto = |_| Some(Data::Verdict(Verdict::Goto(Name::from("to"))));
    let endpoint = |n: u16| Some(Data::AddrPort((address(10, n), 8080).into()));
    let frontend = [Field::Address, Field::Protocol, Field::Port];
    let numbered = [Field::Address, Field::Protocol, Field::Port, Field::Number];
    let services = Set {
        elements: all(frontend_key, goto),
        ..Set::map(&frontend, DataType::Verdict, "frontends")
    };
    let endpoints = Set {
        elements: all(|n| frontend_key(n).with(Value::Number(u32::from(n % 5))), endpoint),
        ..Set::map(&numbered, DataType::AddrPort, "endpoints")
    };
    let pair = |n: u16| Key::from([Value::Address(address(10, n)); 2]);
    let hairpins = Set {
        elements: all(pair, |_| None),
        ..Set::new(&[Field::Address, Field::Address], "pairs")
    };
    let counted = Set { counter: true, ..endpoints.clone() };
    let sets = [
        ("services", services),
        ("endpoints", endpoints),
        ("hairpins", hairpins),
        ("counted", counted),
    ];
    Table {
        family: IpFamily::Ipv4,
        name: Name::from("rulegen"),
        comment: "a large table".into(),
        sets: sets.into_iter().map(|(name, set)| (name.into(), set)).collect(),
        chains: BTreeMap::from([(Name::from("to"), Chain::default())]),
    }
}

fn address(first: u8, n: u16) -> std::net::IpAddr {
    let [high, low] = n.to_be_bytes();
    [first, 1, high, low].into()
}

fn frontend_key(n: u16) -> Key {
    Key::from([Value::Address(address(9, n)), Value::Protocol(Protocol::Tcp), Value::Port(80)])
}

fn compare(kernel: &mut NfTables, wanted: &Table) -> ComparedTable {
    kernel.compare(&[wanted]).unwrap().1.remove(0).unwrap()
}

fn is_equal(compared: &ComparedTable, wanted: &Table) -> bool {
    rulegen_ruleset::nftables::diff_compared(Some(compared), wanted).is_empty()
}

/// Each as a command of `nft`, with the sets that then have a difference.
const DAMAGE: [(&str, &[&str]); 17] = [
    ("delete element ip rulegen endpoints { 9.1.0.7 . tcp . 80 . 2 }", &["endpoints"]),
    (
        "delete element ip rulegen services { 9.1.0.0 . tcp . 80, 9.1.11.184 . tcp . 80 }",
        &["services"],
    ),
    ("add element ip rulegen hairpins { 10.2.0.1 . 10.2.0.2 }", &["hairpins"]),
    // As after a frontend lost endpoints: what is not wanted follows from what differs elsewhere.
    (
        "delete element ip rulegen services { 9.1.0.5 . tcp . 80 }; \
         add element ip rulegen services { 9.1.0.5 . tcp . 80 : drop }; \
         add element ip rulegen endpoints { 9.1.0.5 . tcp . 80 . 1 : 10.3.0.1 . 80 }; \
         add element ip rulegen hairpins { 10.3.0.1 . 10.3.0.1 }",
        &["endpoints", "hairpins", "services"],
    ),
    // Some of it does not follow.
    (
        "delete element ip rulegen services { 9.1.0.5 . tcp . 80 }; \
         add element ip rulegen services { 9.1.0.5 . tcp . 80 : drop }; \
         add element ip rulegen endpoints { 9.1.0.5 . tcp . 80 . 1 : 10.3.0.1 . 80 }; \
         add element ip rulegen endpoints { 9.1.0.5 . tcp . 80 . 9 : 10.3.0.2 . 80 }; \
         add element ip rulegen hairpins { 10.3.0.1 . 10.3.0.1, 10.3.0.9 . 10.3.0.9 }",
        &["endpoints", "hairpins", "services"],
    ),
    // One is added and another deleted.
    (
        "delete element ip rulegen endpoints { 9.1.0.5 . tcp . 80 . 0 }; \
         add element ip rulegen endpoints { 9.1.0.5 . tcp . 80 . 1 : 10.3.0.1 . 80 }",
        &["endpoints"],
    ),
    // The number stays.
    (
        "delete element ip rulegen hairpins { 10.1.0.9 . 10.1.0.9 }; \
         add element ip rulegen hairpins { 10.1.0.9 . 10.1.0.8 }",
        &["hairpins"],
    ),
    // The key stays: other data, and another comment.
    (
        "delete element ip rulegen endpoints { 9.1.0.6 . tcp . 80 . 1 }; \
         add element ip rulegen endpoints { 9.1.0.6 . tcp . 80 . 1 comment \"default/s6\" : 10.1.0.7 . 8080 }",
        &["endpoints"],
    ),
    (
        "delete element ip rulegen services { 9.1.1.0 . tcp . 80 }; \
         add element ip rulegen services { 9.1.1.0 . tcp . 80 comment \"other/s\" : goto to }",
        &["services"],
    ),
    (
        "delete element ip rulegen services { 9.1.1.0 . tcp . 80 }; \
         add element ip rulegen services { 9.1.1.0 . tcp . 80 comment \"default/s256\" : drop }",
        &["services"],
    ),
    ("delete element ip rulegen counted { 9.1.0.5 . tcp . 80 . 0 }", &["counted"]),
    ("flush set ip rulegen hairpins", &["hairpins"]),
    // Neither counted nor found by a key.
    ("add element ip rulegen hairpins { * }", &["hairpins"]),
    // Several sets.
    (
        "delete element ip rulegen endpoints { 9.1.0.6 . tcp . 80 . 1 }; flush map ip rulegen services",
        &["endpoints", "services"],
    ),
    ("delete set ip rulegen hairpins", &[]),
    (
        "delete set ip rulegen hairpins; \
         add set ip rulegen hairpins { type ipv4_addr . ipv4_addr; size 100000; }",
        &[],
    ),
    ("flush table ip rulegen; delete table ip rulegen; add table ip rulegen", &[]),
];

#[test]
fn comparison_by_key_finds_every_change_that_a_dump_finds() {
    let namespace = Namespace::new("comparison");
    let wanted = table();
    let write = || {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, std::slice::from_ref(&wanted), |_| ()).unwrap();
        let compared = compare(&mut kernel, &wanted);
        assert!(is_equal(&compared, &wanted), "not as wanted after writing");
    };
    namespace.inside(write);
    for (damage, sets) in DAMAGE {
        namespace.run(&format!("nft '{damage}'"));
        namespace.inside(|| {
            let by_key = compare(&mut NfTables::open().unwrap(), &wanted);
            let dumped = compare(&mut NfTables::open().unwrap().as_in_old_kernels(), &wanted);
            assert!(by_key == dumped, "{damage}: a dump finds something else");
            assert!(!is_equal(&by_key, &wanted), "{damage}: overlooked");
            let damaged = |(name, set): (&Name, &Option<Set>)| match by_key.differences.get(name) {
                Some(differences) => !differences.is_empty(),
                // Replaced as a whole.
                None => set.is_none(),
            };
            let found: Vec<&str> = by_key
                .actual
                .sets
                .iter()
                .filter(|set| damaged(*set))
                .map(|(name, _)| name.as_str())
                .collect();
            assert!(sets.is_empty() || found == *sets, "{damage}: found in {found:?}");
        });
        namespace.inside(write);
    }
}

/// The work of comparing an unchanged table grows with its elements. A dump is the same work for
/// rulegen, but the kernel walks a set from its start for each piece.
#[test]
fn comparison_requests_elements_by_key_and_dumps_no_large_set() {
    let namespace = Namespace::new("comparison-cost");
    let wanted = table();
    let elements = 4 * usize::from(ELEMENTS);
    namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, std::slice::from_ref(&wanted), |_| ()).unwrap();
        let cost = |kernel: &mut NfTables| {
            let before = kernel.read_cost();
            compare(kernel, &wanted);
            let after = kernel.read_cost();
            ReadCost {
                requests: after.requests - before.requests,
                found: after.found - before.found,
                dumped: after.dumped - before.dumped,
                bytes: after.bytes - before.bytes,
            }
        };
        let by_key = cost(&mut kernel);
        assert!(by_key.dumped < 10, "{by_key:?}");
        assert!(by_key.requests < 4 * (usize::from(ELEMENTS) / 256 + 2) + 10, "{by_key:?}");
        assert!((elements..elements + 10).contains(&by_key.found), "{by_key:?}");
        // An older kernel does not report the number of elements.
        let dumped = cost(&mut NfTables::open().unwrap().as_in_old_kernels());
        assert!(dumped.found < 10 && dumped.dumped > 20, "{dumped:?}");
        // One missing element costs two more requests, and few smaller ones until they grow again.
        let key = "9.1.0.7 . tcp . 80 . 2";
        namespace.run(&format!("nft 'delete element ip rulegen endpoints {{ {key} }}'"));
        let missing = cost(&mut kernel);
        assert!(missing.dumped < 10 && missing.requests < by_key.requests + 12, "{missing:?}");
        // Where all are missing, each costs one.
        namespace.run("nft flush map ip rulegen endpoints");
        let flushed = cost(&mut kernel);
        assert!(flushed.requests < by_key.requests + usize::from(ELEMENTS) + 12, "{flushed:?}");
    });
}

/// While no agent ran, frontends lost endpoints or were deleted.
#[test]
fn comparison_after_services_changed_dumps_no_large_set() {
    let namespace = Namespace::new("comparison-later");
    let key = |n: u16, number: u32| frontend_key(n).with(Value::Number(number));
    let to = |n: u16| {
        let data = Some(Data::AddrPort((address(10, n), 8080).into()));
        Element { data, comment: None }
    };
    let mut wanted = table();
    wanted.sets.remove(&Name::from("counted"));
    let set = |table: &mut Table, name: &str, elements: Vec<(Key, Element)>| {
        table.sets.get_mut(&Name::from(name)).unwrap().elements.extend(elements);
    };
    let endpoints = wanted.sets.get_mut(&Name::from("endpoints")).unwrap();
    endpoints.elements = (0..ELEMENTS).map(|n| (key(n, 0), to(n))).collect();
    let mut before = wanted.clone();
    // Of some frontends 40 endpoints more: more than one request has.
    let more = (0..5).flat_map(|n| (1..41).map(move |number| (n, number)));
    let gone = (ELEMENTS..ELEMENTS + 5).map(|n| (n, 0));
    let drop = Element { data: Some(Data::Verdict(Verdict::Drop)), comment: None };
    let frontends = (0..5).chain(ELEMENTS..ELEMENTS + 5);
    set(&mut before, "services", frontends.map(|n| (frontend_key(n), drop.clone())).collect());
    for (n, number) in more.chain(gone) {
        let ip = 20_000 + n % 100 * 50 + number as u16;
        set(&mut before, "endpoints", vec![(key(n, number), to(ip))]);
        let pair = Key::from([Value::Address(address(10, ip)); 2]);
        set(&mut before, "hairpins", vec![(pair, Element::default())]);
    }
    namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, std::slice::from_ref(&before), |_| ()).unwrap();
        let compare_and_count = |mut kernel: NfTables| {
            let compared = compare(&mut kernel, &wanted);
            (compared, kernel.read_cost())
        };
        let (guessed, cost) = compare_and_count(kernel);
        let old = NfTables::open().unwrap().as_in_old_kernels();
        let (dumped, cost_of_dump) = compare_and_count(old);
        assert!(guessed == dumped, "a dump finds something else");
        assert!(guessed.differences[&Name::from("endpoints")].len() == 205, "{guessed:?}");
        // Only the frontends are dumped.
        let by_key = 2 * (usize::from(ELEMENTS) + 205);
        assert!((by_key..by_key + 15).contains(&cost.found), "{cost:?}");
        assert!(cost.dumped + 8 < cost_of_dump.dumped, "{cost:?}, {cost_of_dump:?}");
    });
}

/// Other programs commit to other tables all the time. That must not make a long comparison start
/// again, but a commit to our table must.
#[test]
fn comparison_goes_on_during_commits_to_other_tables() {
    let namespace = Namespace::new("comparison-busy");
    let wanted = table();
    let elements = 4 * usize::from(ELEMENTS);
    namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, std::slice::from_ref(&wanted), |_| ()).unwrap();
    });
    let other = Name::from("other");
    let of_others = Table { name: other.clone(), ..wanted.without_content() };
    let commit_to_others = || {
        let mut kernel = NfTables::open().unwrap();
        for operation in [Operation::AddTable(&of_others), Operation::DeleteTable] {
            let operations = vec![operation];
            let transaction = Transaction { family: IpFamily::Ipv4, table: &other, operations };
            kernel.commit(None, std::slice::from_ref(&transaction)).unwrap();
        }
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            namespace.inside(|| {
                while !stop.load(Ordering::Relaxed) {
                    commit_to_others();
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        let _stop = StopOnDrop(&stop);
        namespace.inside(|| {
            let mut kernel = NfTables::open().unwrap();
            let (before, mut requested) = (kernel.generation().unwrap(), Vec::new());
            for _ in 0..5 {
                let cost = kernel.read_cost().found;
                assert!(is_equal(&compare(&mut kernel, &wanted), &wanted));
                requested.push(kernel.read_cost().found - cost);
            }
            let commits = kernel.generation().unwrap().0 - before.0;
            assert!(commits >= 10, "only {commits} commits: nothing was tested");
            // A short dump may be hit, and then all starts again.
            let once = requested.iter().filter(|requested| **requested < 2 * elements).count();
            assert!(once >= 3, "elements requested: {requested:?}");
        });
    });
}

/// The element that is requested first is deleted and added again, by one commit each. So the
/// generation tells whether a comparison has to find it.
#[test]
fn comparison_starts_again_after_a_commit_to_its_table() {
    let namespace = Namespace::new("comparison-changed");
    let wanted = table();
    let (name, set) = wanted.sets.first_key_value().unwrap();
    let element = set.elements.first_key_value().unwrap();
    namespace.inside(|| {
        let mut kernel = NfTables::open().unwrap();
        reconcile(&mut kernel, std::slice::from_ref(&wanted), |_| ()).unwrap();
    });
    let before = namespace.inside(|| NfTables::open().unwrap().generation().unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            namespace.inside(|| {
                let mut kernel = NfTables::open().unwrap();
                let table = &wanted.name;
                let delete = Operation::DeleteElements(name, set, vec![element]);
                let add = Operation::AddElements(name, set, vec![element]);
                for (round, operation) in (0..).zip([delete, add].into_iter().cycle()) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let operations = vec![operation];
                    let transaction = Transaction { family: IpFamily::Ipv4, table, operations };
                    kernel.commit(None, std::slice::from_ref(&transaction)).unwrap();
                    // A comparison takes longer if other tests run.
                    std::thread::sleep(Duration::from_millis(150 + 50 * round));
                }
            });
        });
        let _stop = StopOnDrop(&stop);
        namespace.inside(|| {
            let mut kernel = NfTables::open().unwrap();
            let mut compared_rounds = 0;
            while compared_rounds < 20 {
                let (generation, compared) = match kernel.compare(&[&wanted]) {
                    Err(DataplaneError::Busy { .. }) => continue,
                    compared => compared.unwrap(),
                };
                compared_rounds += 1;
                let compared = compared[0].as_ref().unwrap();
                let has_element = (generation.0 - before.0).is_multiple_of(2);
                assert_eq!(is_equal(compared, &wanted), has_element, "in round {compared_rounds}");
            }
        });
    });
}
