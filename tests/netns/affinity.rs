//! Session affinity in nftables mode with a full set of clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rulegen_kernel::nftables::{Dataplane, DynamicSets, NfTables, SetFill};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Element, Field, Key, Name, Operation, Set, Transaction, Value};

use crate::common::stdout;
use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, cluster_ip, eventually, service_with, within};
use crate::topology::{ELSEWHERE_IPS, POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Proto, ask};

const FIRST: &str = POD_IPS[0][0];
const ENDPOINTS: [&str; 3] = [FIRST, POD_IPS[1][0], ELSEWHERE_IPS[0]];

/// The kernel's default size of a set that packets fill.
const SET_SIZE: usize = 65_535;

/// The agent counts the elements of sets every 10 s.
const COUNT_DEADLINE: Duration = Duration::from_secs(40);

fn table() -> Name {
    Name::from("rulegen")
}

fn set_name() -> Name {
    Name::from("affinity/default/s1/tcp/")
}

fn shape() -> Set {
    Set { dynamic: true, ..Set::new(&[Field::Address, Field::Number], "") }
}

fn read(node: &Namespace) -> BTreeSet<Key> {
    node.inside(|| {
        let mut keys = BTreeSet::new();
        let each = |key| keys.extend([key]);
        let mut kernel = NfTables::open().unwrap();
        kernel.read_keys(IpFamily::Ipv4, &table(), &set_name(), &shape(), each).unwrap();
        keys
    })
}

fn add(node: &Namespace, keys: &[Key]) {
    let (table, name, set) = (table(), set_name(), shape());
    let element = Element { data: None, comment: None };
    let elements = keys.iter().map(|key| (key, &element)).collect();
    let operations = vec![Operation::AddElements(&name, &set, elements)];
    let transaction = Transaction { family: IpFamily::Ipv4, table: &table, operations };
    node.inside(|| NfTables::open().unwrap().commit(None, &[transaction]).unwrap());
}

fn number(key: &Key) -> u32 {
    let number = key.values().find_map(|value| match value {
        Value::Number(number) => Some(number),
        _ => None,
    });
    number.unwrap()
}

fn client(key: &Key) -> IpAddr {
    match key.values().next() {
        Some(Value::Address(address)) => address,
        other => panic!("{other:?}"),
    }
}

fn connect(lab: &Topology, from: IpAddr) -> SocketAddr {
    match ask(&lab.client, Proto::Tcp, from, cluster_ip(1)) {
        Answer::From { endpoint, .. } => endpoint,
        other => panic!("{from}: {other:?}"),
    }
}

fn address(net: u8, host: usize) -> IpAddr {
    IpAddr::from([198, 18, net, u8::try_from(host).unwrap()])
}

/// No connection fails when the set is full: new clients are balanced without affinity. A change
/// does not read the set. The clients of a removed endpoint are deleted afterwards, all others
/// stay.
#[test]
fn affinity_set_full_drops_no_packets_and_delays_no_change() {
    let lab = Topology::new("affinity-full");
    lab.client.run("ip route add local 198.18.0.0/15 dev lo");
    let manifests = Manifests::new(&lab.node);
    let state = |endpoints: &[&str]| service_with(1, "sessionAffinity: ClientIP,", endpoints);
    manifests.put("one.yaml", &state(&ENDPOINTS));
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    let chosen: BTreeMap<IpAddr, SocketAddr> =
        (1..=60).map(|n| address(0, n)).map(|from| (from, connect(&lab, from))).collect();
    let keys = read(&lab.node);
    let numbers: BTreeMap<u32, SocketAddr> =
        keys.iter().map(|key| (number(key), chosen[&client(key)])).collect();
    assert_eq!((keys.len(), numbers.len()), (60, 3));
    assert_eq!(agent.metric("rulegen_affinity_full_sets"), 0.0);

    fill(&lab.node, keys.len(), &numbers.keys().copied().collect::<Vec<_>>());
    let is_full = || agent.metric("rulegen_affinity_full_sets") == 1.0;
    within(COUNT_DEADLINE, "the metric shows the full set", is_full);
    agent.wait_for_log("session affinity set full");
    let doctor = "doctor --check affinity-sets -o json --proxy-mode nftables";
    let report = stdout(&lab.node.rulegen(doctor));
    assert!(
        report.contains("default/s1 (TCP, IPv4) is nearly full: 65535 of 65535 clients"),
        "{report}"
    );

    let new: Vec<IpAddr> = (1..=60).map(|n| address(1, n)).collect();
    let first: Vec<SocketAddr> = new.iter().map(|from| connect(&lab, *from)).collect();
    let second: Vec<SocketAddr> = new.iter().map(|from| connect(&lab, *from)).collect();
    assert_ne!(first, second, "the set is not full");
    for (from, endpoint) in &chosen {
        assert_eq!(connect(&lab, *from), *endpoint, "{from} has session affinity");
    }
    agent.wait_until_in_sync();

    let full_resyncs = || agent.log().matches("full=true").count();
    let (before, syncs, read_before) = (full_resyncs(), agent.syncs(), read(&lab.node));
    manifests.put("one.yaml", &state(&ENDPOINTS[1..]));
    let removed = SocketAddr::new(FIRST.parse().unwrap(), POD_PORT);
    let is_stale = |key: &Key| numbers[&number(key)] == removed;
    eventually("stale clients are deleted", || !read(&lab.node).iter().any(is_stale));
    let kept: BTreeSet<Key> = read_before.into_iter().filter(|key| !is_stale(key)).collect();
    assert_eq!(read(&lab.node), kept, "other clients stay");
    assert!(agent.is_in_sync());
    assert_eq!((full_resyncs(), agent.syncs()), (before, syncs + 1.0), "{}", agent.log());
    within(COUNT_DEADLINE, "the metric shows no full set", || !is_full());
    // The remedy of the doctor.
    lab.node.run("nft flush set ip rulegen affinity/default/s1/tcp/");
    assert_eq!(read(&lab.node), BTreeSet::new());
    assert!(agent.is_in_sync());
}

/// Fills the set with clients that do not expire.
fn fill(node: &Namespace, present: usize, numbers: &[u32]) {
    let address = |n: usize| {
        let first = u32::from(Ipv4Addr::new(172, 16, 0, 0));
        Value::Address(Ipv4Addr::from(first + u32::try_from(n).unwrap()).into())
    };
    let key = |n: usize| Key::from([address(n), Value::Number(numbers[n % numbers.len()])]);
    let keys: Vec<Key> = (present..SET_SIZE).map(key).collect();
    add(node, &keys);
}

/// Before Linux 6.3 the kernel refuses to delete a missing element. Only later kernels report the
/// number of elements.
#[test]
fn affinity_clients_are_counted_and_deleted_on_old_and_new_kernels() {
    let node = Namespace::new("affinity-expired");
    let key = |n: u32| Key::from([Value::Address([192, 0, 2, 7].into()), Value::Number(n)]);
    let keys: Vec<Key> = (0..40).map(key).collect();
    for is_old in [false, true] {
        node.run(
            "nft 'add table ip rulegen; add set ip rulegen affinity/default/s1/tcp/ \
             { type ipv4_addr . mark; size 65535; flags dynamic,timeout; }'",
        );
        add(&node, &keys[..30]);
        let delete = |set: &Name, keys: &[Key]| {
            node.inside(|| {
                let kernel = NfTables::open().unwrap();
                let mut kernel = if is_old { kernel.as_in_old_kernels() } else { kernel };
                kernel.delete_if_present(IpFamily::Ipv4, &table(), set, &shape(), keys)
            })
        };
        let fills = node.inside(|| {
            let kernel = NfTables::open().unwrap();
            let mut kernel = if is_old { kernel.as_in_old_kernels() } else { kernel };
            kernel.fills(IpFamily::Ipv4, &table()).unwrap()
        });
        assert_eq!(fills, [SetFill { name: set_name(), count: 30, size: 65_535 }]);
        delete(&set_name(), &keys[20..]).unwrap();
        assert_eq!(read(&node), keys[..20].iter().cloned().collect());
        delete(&set_name(), &keys[20..]).unwrap();
        delete(&set_name(), &keys).unwrap();
        assert_eq!(read(&node), BTreeSet::new());
        let other = Name::from("affinity/default/s2/tcp/");
        assert!(is_old || delete(&other, &keys).is_err(), "the set does not exist");
        node.run("nft delete table ip rulegen");
    }
}
