//! nftables mode: a whole table compared with `nft -f`, and changes to it, by phase.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Instant;

use rulegen_compiler::nftables::{LiveTable, ServiceUpdate};
use rulegen_compiler::{plan, plan_service};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_kernel::nftables::{CommitCost, Dataplane, NfTables, reconcile};
use rulegen_model::{Host, Objects, ServicePort, Snapshot, read_manifest, snapshot};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Name, Transaction};
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::{ROUNDS, median, percentile, rulegen, scratch};

const FLAGS: &str = "--proxy-mode nftables --hostname-override node-1 --ip-family ipv4";

pub(crate) fn measure(text: &str, file: &Path) -> Value {
    let snapshot = read(text);
    json!({"whole": whole(file), "changes": Namespace::new().inside(|| changes(&snapshot))})
}

pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        mode: ProxyMode::Nftables,
        hostname_override: Some("node-1".into()),
        ..ProxyConfig::default()
    }
}

pub(crate) fn read(text: &str) -> Snapshot {
    let mut objects = Objects::default();
    assert_eq!(read_manifest("bench", text.as_bytes(), &mut objects), []);
    snapshot(&objects, &config().snapshot_options(), &Host::default()).0
}

/// The whole program into an empty namespace, including reading and compiling, alternating with
/// `nft -f` of the same table; then a second run with nothing to do.
fn whole(file: &Path) -> Value {
    let table = scratch().join("table.nft");
    let apply = format!("{} -f {} {FLAGS}", rulegen().display(), file.display());
    Namespace::new().run(&format!("{apply} --dry-run > {}", table.display()));
    let load = format!("nft -f {}", table.display());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(Namespace::new().time(&load));
        let namespace = Namespace::new();
        times[1].push(namespace.time(&apply));
        times[2].push(namespace.time(&apply));
    }
    let [load_time, apply_time, again] = times.map(|times| median(&times));
    let [peak, nft_peak] = [&apply, &load].map(|command| Namespace::new().peak_megabytes(command));
    json!({
        "nft_seconds": load_time, "apply_seconds": apply_time, "ratio": apply_time / load_time,
        "again_seconds": again, "peak_memory_megabytes": peak,
        "nft_peak_memory_megabytes": nft_peak,
    })
}

/// One kind of change, alternately made and undone, measured from the changed Service to the end of
/// the commit.
struct Change {
    name: &'static str,
    rounds: usize,
    /// The Services in every second round.
    services: Vec<(ServicePort, bool)>,
}

fn changes(snapshot: &Snapshot) -> Value {
    let ports = snapshot.service_ports(IpFamily::Ipv4);
    let mut kernel = NfTables::open().unwrap();
    let begun = Instant::now();
    let mut live =
        LiveTable::new(plan(snapshot, &config(), IpFamily::Ipv4), &Name::from("rulegen"));
    let compile = begun.elapsed().as_secs_f64() * 1e3;
    let elements: usize = live.table().sets.values().map(|set| set.elements.len()).sum();
    let begun = Instant::now();
    reconcile(&mut kernel, std::slice::from_ref(live.table()), |_| ()).unwrap();
    let all = begun.elapsed().as_secs_f64() * 1e3;
    let CommitCost { bytes, encoding, kernel: committing } = kernel.last_written();
    let (encode, commit) = (encoding.as_secs_f64() * 1e3, committing.as_secs_f64() * 1e3);
    let mut rows = vec![json!({
        "change": "everything", "elements": elements, "bytes": bytes, "compile_ms": compile,
        "diff_ms": all - encode - commit, "encode_ms": encode, "kernel_ms": commit,
        "total_ms": compile + all, "p99_ms": compile + all,
    })];
    let nth = |n: usize| ports[n % ports.len()].clone();
    let other = |n: usize| {
        let mut port = nth(n);
        if let Some(endpoint) = port.endpoints.first_mut() {
            endpoint.address.set_ip(IpAddr::from(Ipv4Addr::new(10, 200, (n >> 8) as u8, n as u8)));
        }
        port
    };
    let kinds = [
        Change { name: "one endpoint", rounds: 200, services: vec![(other(7), true)] },
        Change { name: "one service", rounds: 100, services: vec![(nth(11), false)] },
        Change {
            name: "500 services",
            rounds: 20,
            services: (0..500).map(|n| (other(n), true)).collect(),
        },
    ];
    rows.extend(kinds.iter().map(|change| change.measure(snapshot, &mut live, &mut kernel)));
    let is_empty =
        reconcile(&mut kernel, std::slice::from_ref(live.table()), |all| all[0].is_empty());
    assert!(is_empty.unwrap(), "the kernel does not have the written rules");
    Value::Array(rows)
}

impl Change {
    fn measure(&self, snapshot: &Snapshot, live: &mut LiveTable, kernel: &mut NfTables) -> Value {
        let ports = snapshot.service_ports(IpFamily::Ipv4);
        let config = config();
        let find = |name| ports.iter().find(|port| port.name == name).unwrap().clone();
        let before: Vec<ServicePort> =
            self.services.iter().map(|(port, _)| find(port.name.clone())).collect();
        let mut times: [Vec<f64>; 5] = Default::default();
        let (mut elements, mut bytes) = (0, 0);
        for round in 0..self.rounds {
            let begun = Instant::now();
            let lap = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
            let planned =
                |port: &ServicePort| plan_service(port, &snapshot.node, &config, IpFamily::Ipv4);
            let changed = self.services.iter().zip(&before).map(|((port, stays), before)| {
                let there = Some(planned(before));
                let changed = stays.then(|| planned(port));
                let is_first = round % 2 == 0;
                let (before, after) = if is_first { (there, changed) } else { (changed, there) };
                ServiceUpdate { name: port.name.clone(), before, after }
            });
            let patch = live.update(changed, |_| None);
            let compiled = lap(begun);
            let transaction: Transaction<'_> = patch.transaction();
            let diffed = lap(begun);
            kernel.commit(None, std::slice::from_ref(&transaction)).unwrap();
            let total = lap(begun);
            let CommitCost { bytes: sent, encoding, kernel: committing } = kernel.last_written();
            let (encode, commit) = (encoding.as_secs_f64() * 1e3, committing.as_secs_f64() * 1e3);
            let parts = [compiled, diffed - compiled, encode, commit, total];
            times.iter_mut().zip(parts).for_each(|(times, part)| times.push(part));
            (elements, bytes) = (transaction.elements(), sent);
        }
        let [compile, diff, encode, commit, total] = &times;
        json!({
            "change": self.name, "elements": elements, "bytes": bytes,
            "compile_ms": median(compile), "diff_ms": median(diff), "encode_ms": median(encode),
            "kernel_ms": median(commit), "total_ms": median(total), "p99_ms": percentile(total, 99),
        })
    }
}

pub(crate) fn print(rows: &[Value]) {
    println!(
        "\ninto an empty namespace       nft -f  rulegen  ratio  again (nothing to do)  peak memory, nft's"
    );
    for row in rows {
        let of = |name: &str| row["nftables"]["whole"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services           {:>6.3} s {:>6.3} s {:>6.2} {:>8.3} s {:>21.0} MB {:>6.0} MB",
            row["services"],
            of("nft_seconds"),
            of("apply_seconds"),
            of("ratio"),
            of("again_seconds"),
            of("peak_memory_megabytes"),
            of("nft_peak_memory_megabytes"),
        );
    }
    println!(
        "\nin-process, milliseconds      change        elements      bytes  compile   diff  encode  kernel     p50     p99"
    );
    for row in rows {
        for change in row["nftables"]["changes"].as_array().into_iter().flatten() {
            let of = |name: &str| change[name].as_f64().unwrap_or(f64::NAN);
            println!(
                "{:>6} services              {:<13} {:>8} {:>10} {:>8.2} {:>6.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2}",
                row["services"],
                change["change"].as_str().unwrap_or_default(),
                change["elements"],
                change["bytes"],
                of("compile_ms"),
                of("diff_ms"),
                of("encode_ms"),
                of("kernel_ms"),
                of("total_ms"),
                of("p99_ms"),
            );
        }
    }
}
