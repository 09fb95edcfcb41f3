//! The cost of one very large object: the whole table, and one more endpoint.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use rulegen_compiler::nftables::{LiveTable, ServiceUpdate};
use rulegen_compiler::{Plan, ServicePlan, plan};
use rulegen_kernel::nftables::{Dataplane, DynamicSets, NfTables, commit_in_stages, reconcile};
use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{
    self as nft, Element, Key, Name, Operation, Set, Table, Transaction, numbers_looked_up,
};
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::nftables::{config, read};
use crate::{median, percentile};

/// Number of changes, alternately made and undone.
const ROUNDS: usize = 10;

/// Objects in which the changing Service has this many endpoints.
type Objects = fn(endpoints: usize) -> Vec<Value>;

/// Name, objects, and endpoints of the changing Service.
const CASES: [(&str, Objects, usize); 7] = [
    ("3,000 Services of the same 5 pods", shared_pods, 5),
    ("1,000 ports x 100 endpoints", ports_and_endpoints, 100),
    ("a slice with all 10,000 pods", all_pods, 5),
    ("1,000 external IPs x 1,000", |endpoints| external_ips(1_000, endpoints), 1_000),
    ("10,000 external IPs x 1,000", |endpoints| external_ips(10_000, endpoints), 1_000),
    ("100 ports x 5,000 source ranges", source_ranges, 2),
    ("a full set of session affinity", affinity, 5),
];

pub(crate) fn measure() -> Value {
    let row = |(name, objects, endpoints): &(&str, Objects, usize)| {
        let plans = [*endpoints, endpoints - 1].map(|count| plan_of(objects(count)));
        Namespace::new().inside(|| case(name, &plans))
    };
    CASES.iter().map(row).collect()
}

fn case(name: &str, [before, after]: &[Plan; 2]) -> Value {
    let lap = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let mut live = LiveTable::new(before.clone(), &Name::from("rulegen"));
    let all_compile = lap(begun);
    let mut kernel = NfTables::open().unwrap();
    let begun = Instant::now();
    reconcile(&mut kernel, std::slice::from_ref(live.table()), |_| ()).unwrap();
    let all_written = lap(begun);
    let clients = Clients::fill(&mut kernel, live.table());
    let elements: usize = live.table().sets.values().map(|set| set.elements.len()).sum();
    let (mut compile, mut commit, mut changed) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let (from, to) = if round % 2 == 0 { (before, after) } else { (after, before) };
        let updates = updates(from, to);
        let begun = Instant::now();
        let patch = live.update(updates, |name| find(to, name));
        compile.push(lap(begun));
        let transaction: Transaction<'_> = patch.transaction();
        changed = transaction.elements();
        let begun = Instant::now();
        commit_in_stages(&mut kernel, None, std::slice::from_ref(&transaction)).unwrap();
        commit.push(lap(begun));
    }
    json!({
        "case": name, "elements": elements, "all_compile_ms": all_compile,
        "all_written_ms": all_written, "changed_elements": changed,
        "compile_ms": median(&compile), "compile_max_ms": percentile(&compile, 100),
        "commit_ms": median(&commit), "commit_max_ms": percentile(&commit, 100),
        "stale_clients": clients.map(|clients| clients.delete_some(&mut kernel, live.table())),
    })
}

/// The kernel's default size of a set filled by packets.
const ROOM: usize = 65_535;

/// Clients that the agent deletes per commit.
const BATCH: usize = 1024;

/// A full set of session affinity.
struct Clients {
    name: Name,
    shape: Set,
    numbers: Vec<u32>,
}

impl Clients {
    /// Fills the set of session affinity, if there is one.
    fn fill(kernel: &mut NfTables, table: &Table) -> Option<Self> {
        let (name, shape) = table.sets.iter().find(|(_, set)| set.dynamic)?;
        let asked = numbers_looked_up(table).into_iter().filter(|(set, _)| *set == name);
        let numbers: Vec<u32> = asked.map(|(_, number)| number).collect();
        let key = |n: usize| {
            let address = ip([172, 16, 0, 0], n).parse().unwrap();
            Key::from([
                nft::Value::Address(address),
                nft::Value::Number(numbers[n % numbers.len()]),
            ])
        };
        let keys: Vec<Key> = (0..ROOM).map(key).collect();
        let element = Element { data: None, comment: None };
        let elements = keys.iter().map(|key| (key, &element)).collect();
        let operations = vec![Operation::AddElements(name, shape, elements)];
        let all = Transaction { family: table.family, table: &table.name, operations };
        kernel.commit(None, &[all]).unwrap();
        Some(Self { name: name.clone(), shape: shape.clone(), numbers })
    }

    /// Repeats what the agent does after a change: a thread reads the clients of one endpoint, and
    /// the reconciler deletes them.
    fn delete_some(&self, kernel: &mut NfTables, table: &Table) -> Value {
        let Self { name, shape, numbers } = self;
        let mut stale = Vec::new();
        let begun = Instant::now();
        let each = |key: Key| {
            if key.values().any(|value| value == nft::Value::Number(numbers[0])) {
                stale.push(key);
            }
        };
        kernel.read_keys(table.family, &table.name, name, shape, each).unwrap();
        let read = begun.elapsed().as_secs_f64() * 1e3;
        let delete = |keys: &[Key]| {
            let begun = Instant::now();
            kernel.delete_if_present(table.family, &table.name, name, shape, keys).unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        };
        let deletions: Vec<f64> = stale.chunks(BATCH).map(delete).collect();
        json!({
            "clients": stale.len(), "read_ms": read, "batches": deletions.len(),
            "batch_max_ms": percentile(&deletions, 100),
        })
    }
}

fn find(plan: &Plan, name: &ServicePortName) -> Option<ServicePlan> {
    let at = plan.services.binary_search_by(|service| service.name.cmp(name)).ok()?;
    plan.services.get(at).cloned()
}

fn updates(from: &Plan, to: &Plan) -> Vec<ServiceUpdate> {
    let pairs = from.services.iter().zip(&to.services).filter(|(old, new)| old != new);
    pairs
        .map(|(old, new)| ServiceUpdate {
            name: old.name.clone(),
            before: Some(old.clone()),
            after: Some(new.clone()),
        })
        .collect()
}

fn plan_of(objects: Vec<Value>) -> Plan {
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    plan(&read(&text), &config(), IpFamily::Ipv4)
}

fn ip(start: [u8; 4], n: usize) -> String {
    let first = u32::from(Ipv4Addr::from(start));
    IpAddr::from(Ipv4Addr::from(first + n as u32)).to_string()
}

fn ports(count: usize) -> Vec<Value> {
    (0..count)
        .map(|n| json!({"name": format!("p{n}"), "port": 1000 + n, "protocol": "TCP"}))
        .collect()
}

fn service(name: &str, cluster_ip: &str, ports: usize, more: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ports": self::ports(ports),
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

fn slice(service: &str, ports: usize, endpoints: usize) -> Value {
    let endpoints: Vec<Value> =
        (0..endpoints).map(|n| json!({"addresses": [ip([10, 244, 0, 1], n)]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": self::ports(ports), "endpoints": endpoints,
    })
}

fn cluster_ip_service(name: &str, n: usize) -> Value {
    let mut service = service(name, &ip([10, 96, 0, 10], n), 1, &json!({"type": "ClusterIP"}));
    service["status"] = json!({});
    service
}

fn shared_pods(endpoints: usize) -> Vec<Value> {
    let one = |n: usize| {
        let name = format!("s{n:05}");
        let left = if n == 7 { endpoints } else { 5 };
        [cluster_ip_service(&name, n), slice(&name, 1, left)]
    };
    (0..3_000).flat_map(one).collect()
}

fn ports_and_endpoints(endpoints: usize) -> Vec<Value> {
    let mut service = service("many", "10.96.0.10", 1_000, &json!({"type": "ClusterIP"}));
    service["status"] = json!({});
    vec![service, slice("many", 1_000, endpoints)]
}

fn all_pods(endpoints: usize) -> Vec<Value> {
    vec![
        cluster_ip_service("all", 0),
        slice("all", 1, 10_000),
        cluster_ip_service("one", 1),
        slice("one", 1, endpoints),
    ]
}

fn external_ips(count: usize, endpoints: usize) -> Vec<Value> {
    let ips: Vec<String> = (0..count).map(|n| ip([198, 18, 0, 1], n)).collect();
    vec![
        service("many", "10.96.0.10", 1, &json!({"externalIPs": ips})),
        slice("many", 1, endpoints),
    ]
}

fn source_ranges(endpoints: usize) -> Vec<Value> {
    let ranges: Vec<String> =
        (0..5_000).map(|n| format!("{}/32", ip([100, 64, 0, 0], 2 * n))).collect();
    vec![
        service("many", "10.96.0.10", 100, &json!({"loadBalancerSourceRanges": ranges})),
        slice("many", 100, endpoints),
    ]
}

fn affinity(endpoints: usize) -> Vec<Value> {
    let mut service = cluster_ip_service("sticky", 0);
    service["spec"]["sessionAffinity"] = json!("ClientIP");
    vec![service, slice("sticky", 1, endpoints)]
}

pub(crate) fn print(rows: &Value) {
    println!(
        "\none object, milliseconds           elements    whole  written │ changed  compile  (max)  commit"
    );
    for row in rows.as_array().into_iter().flatten() {
        let of = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:<34} {:>8} {:>8.1} {:>8.1} │ {:>7} {:>8.2} {:>6.1} {:>7.1}",
            row["case"].as_str().unwrap_or_default(),
            row["elements"],
            of("all_compile_ms"),
            of("all_written_ms"),
            row["changed_elements"],
            of("compile_ms"),
            of("compile_max_ms"),
            of("commit_ms"),
        );
        if let Some(stale) = row["stale_clients"].as_object() {
            let of = |name: &str| stale[name].as_f64().unwrap_or(f64::NAN);
            println!(
                "  afterwards {} stale clients: read by a thread in {:.0} ms, deleted in {} batches \
                 of at most {:.1} ms",
                stale["clients"],
                of("read_ms"),
                stale["batches"],
                of("batch_max_ms"),
            );
        }
    }
}
