//! Measures rulegen: each phase in-process, the whole program from outside, and applying beside
//! `iptables-restore` alone. Prints a table, and JSON with `--json`. Run through `ci/bench`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a program for people who measure; it stops where it cannot go on"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rulegen_compiler::{iptables, plan};
use rulegen_model::{Host, IpFamily, Objects, ProxyConfig, read_manifest, snapshot};
use serde_json::{Value, json};

const ENDPOINTS: usize = 5;
const ROUNDS: usize = 9;

fn main() {
    let options: Vec<String> =
        std::env::args().skip(1).filter(|option| option != "--bench").collect();
    let is_json = options.iter().any(|option| option == "--json");
    let mut rows = Vec::new();
    for services in [1_000, 10_000, 50_000] {
        eprintln!("{services} services x {ENDPOINTS} endpoints …");
        let text = cluster(services);
        let file = scratch().join(format!("{services}.json"));
        fs::write(&file, &text).unwrap();
        rows.push(json!({
            "services": services,
            "json_megabytes": text.len() as f64 / 1e6,
            "phases_ms": phases(text.as_bytes()),
            "dry_run": dry_run(&file),
            "apply": if services <= 10_000 { apply(&file) } else { Value::Null },
        }));
    }
    let _ = fs::remove_dir_all(scratch());
    if is_json {
        println!("{}", serde_json::to_string_pretty(&rows).unwrap());
    } else {
        print_table(&rows);
    }
}

fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rulegen-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A `List` as `kubectl get services,endpointslices -A -o json` prints it, without blanks.
fn cluster(services: usize) -> String {
    let ip =
        |net: usize, n: usize| format!("10.{}.{}.{}", net + (n >> 16), (n >> 8) & 255, n & 255);
    let service = |n: usize| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("svc-{n}"), "namespace": format!("ns-{}", n % 50)},
            "spec": {
                "type": "ClusterIP", "clusterIP": ip(96, n), "clusterIPs": [ip(96, n)],
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            },
            "status": {"loadBalancer": {}},
        })
    };
    let slice = |n: usize| {
        let endpoint = |e: usize| {
            json!({
                "addresses": [ip(128, n * ENDPOINTS + e)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", (n + e) % 100),
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("svc-{n}-abcde"), "namespace": format!("ns-{}", n % 50),
                "labels": {"kubernetes.io/service-name": format!("svc-{n}")},
            },
            "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        })
    };
    let items: Vec<Value> = (0..services).map(service).chain((0..services).map(slice)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Milliseconds of each phase, the median of several rounds.
fn phases(text: &[u8]) -> Value {
    let config = ProxyConfig { hostname_override: Some("node-1".into()), ..ProxyConfig::default() };
    let mut rounds: Vec<[Duration; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut lap = Instant::now();
        let mut next = || std::mem::replace(&mut lap, Instant::now()).elapsed();
        let mut objects = Objects::default();
        assert_eq!(read_manifest("bench", text, &mut objects), []);
        let read = next();
        let (snapshot, _) = snapshot(&objects, &config, &Host::default());
        let joined = next();
        let plan = plan(&snapshot, &config, IpFamily::Ipv4);
        let planned = next();
        let rules = iptables::ruleset(&plan);
        let compiled = next();
        let printed = rules.to_text();
        rounds.push([read, joined, planned, compiled, next()]);
        assert!(printed.len() > text.len() / 4);
    }
    let median = |phase: usize| {
        let mut times: Vec<f64> =
            rounds.iter().map(|round| round[phase].as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    json!({"read": median(0), "snapshot": median(1), "plan": median(2), "ruleset": median(3), "text": median(4)})
}

/// The whole program: seconds, size of the output, peak memory.
fn dry_run(file: &std::path::Path) -> Value {
    let command = || {
        let mut command = Command::new(rulegen());
        command.args(["--dry-run", "--hostname-override", "node-1", "-f"]).arg(file);
        command.stdout(Stdio::piped());
        command
    };
    let run = |_| {
        let started = Instant::now();
        let mut child = command().spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let bytes = std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        assert!(child.wait().unwrap().success());
        (started.elapsed().as_secs_f64(), bytes)
    };
    let mut runs: Vec<(f64, u64)> = (0..ROUNDS).map(run).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, bytes) = runs[ROUNDS / 2];
    let memory = peak_megabytes(&mut command());
    json!({"seconds": seconds, "megabytes": bytes as f64 / 1e6, "peak_memory_megabytes": memory})
}

/// Its last words go unread, so that it waits and its peak can be looked up.
fn peak_megabytes(command: &mut Command) -> f64 {
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut peak = f64::NAN;
    let mut buffer = vec![0; 1 << 16];
    while std::io::Read::read(&mut output, &mut buffer).unwrap() > 0 {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes =
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
        peak = kilobytes.map_or(peak, |kilobytes| kilobytes / 1024.0);
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// Applying into an empty namespace, against `iptables-restore` alone on the same rules, in
/// turn. The legacy variant only: the nft variant needs minutes for so many chains.
fn apply(file: &std::path::Path) -> Value {
    let rules = scratch().join("rules");
    let printed = Command::new(rulegen())
        .args(["--dry-run", "--hostname-override", "node-1", "-f"])
        .arg(file)
        .output()
        .unwrap();
    fs::write(&rules, printed.stdout).unwrap();
    let flags = "--hostname-override node-1 --ip-family ipv4 --iptables-variant legacy";
    let apply = format!("{} -f {} {flags}", rulegen().display(), file.display());
    let restore = format!("iptables-legacy-restore {}", rules.display());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(in_new_namespace(&[&restore])[0]);
        let applied = in_new_namespace(&[&apply, &apply]);
        times[1].push(applied[0]);
        times[2].push(applied[1]);
    }
    let median = |n: usize| {
        let mut times = times[n].clone();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    json!({
        "iptables_restore_seconds": median(0), "apply_seconds": median(1),
        "ratio": median(1) / median(0), "apply_again_seconds": median(2),
    })
}

/// How long each command takes, in seconds, one after the other in a namespace of their own.
fn in_new_namespace(commands: &[&str]) -> Vec<f64> {
    let name = format!("rulegen-bench-{}", std::process::id());
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    ip(&["netns", "add", &name]);
    let time = |command: &&str| {
        let started = Instant::now();
        let mut words = command.split(' ');
        let done = Command::new("ip")
            .args(["netns", "exec", &name, words.next().unwrap()])
            .args(words)
            .env("XTABLES_LOCKFILE", scratch().join("lock"))
            .output()
            .unwrap();
        let seconds = started.elapsed().as_secs_f64();
        if !done.status.success() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
            panic!("{command}: {}", String::from_utf8_lossy(&done.stderr));
        }
        seconds
    };
    let times = commands.iter().map(time).collect();
    ip(&["netns", "del", &name]);
    times
}

fn rulegen() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rulegen"))
}

fn print_table(rows: &[Value]) {
    println!("in-process, milliseconds      read  snapshot  plan  ruleset  text");
    for row in rows {
        let phase = |name: &str| row["phases_ms"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services {:>5.1} MB      {:>6.1} {:>8.1} {:>6.1} {:>7.1} {:>6.1}",
            row["services"],
            row["json_megabytes"].as_f64().unwrap_or(f64::NAN),
            phase("read"),
            phase("snapshot"),
            phase("plan"),
            phase("ruleset"),
            phase("text"),
        );
    }
    println!("\nrulegen --dry-run             seconds  peak memory  output");
    for row in rows {
        let of = |name: &str| row["dry_run"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services              {:>8.3} {:>9.0} MB {:>6.1} MB",
            row["services"],
            of("seconds"),
            of("peak_memory_megabytes"),
            of("megabytes"),
        );
    }
    println!(
        "\ninto an empty namespace       iptables-restore  rulegen  ratio  again (nothing to do)"
    );
    for row in rows.iter().filter(|row| !row["apply"].is_null()) {
        let of = |name: &str| row["apply"][name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>6} services              {:>14.3} s {:>8.3} s {:>5.2} {:>8.3} s",
            row["services"],
            of("iptables_restore_seconds"),
            of("apply_seconds"),
            of("ratio"),
            of("apply_again_seconds"),
        );
    }
}
