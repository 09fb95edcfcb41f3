//! The agent in iptables mode with an API server, through netlink and with iptables-legacy: first sync,
//! one endpoint, steady changes, drift and memory, beside the programs of iptables-nft.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rulegen_kernel::nftables::{Commit, Event, Watcher};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use serde_json::{Value, json};

use crate::agent::{end, is_ready, kilobytes};
use crate::api_server::ApiServer;
use crate::cluster::Size;
use crate::namespace::Namespace;
use crate::{median, percentile, rulegen, scratch};

/// Number of timed changes of one endpoint, and of repairs of a chain.
const CHANGES: usize = 30;
const DRIFTS: usize = 5;

/// Pause before each of them, longer than the agent rests after a sync.
const QUIET: Duration = Duration::from_millis(1500);

/// Changes of one endpoint each at a steady rate.
const STEADY: usize = 100;
const BETWEEN: Duration = Duration::from_millis(250);

const LONG: Duration = Duration::from_secs(300);

pub(crate) fn measure(text: &str, file: &std::path::Path, size: Size) -> Value {
    json!({
        "services": size.services, "endpoints": size.services * size.endpoints,
        "netlink": of_agent(text, "nft"), "legacy": of_agent(text, "legacy"),
        "commands": commands(file),
    })
}

/// Agent of one variant, with a namespace and a server of its own.
fn of_agent(text: &str, variant: &str) -> Value {
    let namespace = Namespace::new();
    namespace.run("ip link set lo up");
    let server =
        namespace.inside(|| ApiServer::start_on(TcpListener::bind("127.0.0.1:0").unwrap()));
    let mut cluster: Value = serde_json::from_str(text).unwrap();
    let items = cluster["items"].as_array_mut().unwrap();
    let slice = items.iter().find(|item| item["kind"] == "EndpointSlice").unwrap().clone();
    server.apply_many(std::mem::take(items));
    fs::write(scratch().join("kubeconfig"), server.kubeconfig()).unwrap();

    let (agent, first_sync) = start(&namespace, variant);
    let memory = ["VmRSS:", "VmHWM:"].map(|field| kilobytes(&agent, field) / 1024.0);
    let mut measured = json!({
        "first_sync_seconds": first_sync,
        "resident_megabytes": memory[0], "peak_megabytes": memory[1],
    });
    if variant == "nft" {
        let mut watcher = namespace.inside(|| Watcher::open(&tables(), Watcher::ROOM).unwrap());
        let time = |round| change(&server, &slice, round, &mut watcher);
        let times: Vec<f64> = (0..CHANGES).map(time).collect();
        let repairs = (0..DRIFTS).map(|_| repair(&namespace, &mut watcher)).collect::<Vec<f64>>();
        measured["event_to_commit_milliseconds"] = json!({
            "p50": percentile(&times, 50) * 1e3, "max": percentile(&times, 100) * 1e3,
        });
        measured["repair_seconds"] = json!(median(&repairs));
    }
    let (cpu, wrote) = steady(&server, &slice, &agent);
    measured["cpu_seconds_of_100_changes"] = json!(cpu);
    measured["syncs_of_100_changes"] = json!(wrote);
    measured["resident_megabytes_after_changes"] = json!(kilobytes(&agent, "VmRSS:") / 1024.0);
    end(agent, Signal::SIGKILL);
    measured
}

fn tables() -> Vec<(IpFamily, Name)> {
    ["filter", "nat"].map(|table| (IpFamily::Ipv4, Name::from(table))).to_vec()
}

/// Starts the agent. Returns the seconds until it was ready.
fn start(namespace: &Namespace, variant: &str) -> (Child, f64) {
    let begun = Instant::now();
    let log = fs::File::create(scratch().join("agent.log")).unwrap();
    let agent = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(rulegen())
        .args(["agent", "--proxy-mode", "iptables", "--iptables-variant", variant, "-v", "2"])
        .args(["--hostname-override", "node-1", "--conntrack-max-per-core", "0"])
        .arg("--kubeconfig")
        .arg(scratch().join("kubeconfig"))
        .env("XTABLES_LOCKFILE", scratch().join("lock"))
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !namespace.inside(is_ready) {
        assert!(begun.elapsed() < LONG, "the agent is not ready");
        thread::sleep(Duration::from_millis(5));
    }
    (agent, begun.elapsed().as_secs_f64())
}

/// Moves one endpoint to another address. Returns the seconds until the kernel's commit event.
fn change(server: &ApiServer, slice: &Value, round: usize, watcher: &mut Watcher) -> f64 {
    thread::sleep(QUIET);
    let begun = Instant::now();
    server.apply(moved(slice, round));
    next_commit(watcher, |_| true);
    begun.elapsed().as_secs_f64()
}

fn moved(slice: &Value, round: usize) -> Value {
    let mut slice = slice.clone();
    slice["endpoints"][0]["addresses"][0] = json!(format!("10.200.{}.1", round % 250));
    slice
}

/// Another program empties the chain of a Service. Returns the seconds from the event of its commit to
/// that of the repair.
fn repair(namespace: &Namespace, watcher: &mut Watcher) -> f64 {
    thread::sleep(QUIET);
    let chain = "nft -a list chain ip nat KUBE-SERVICES | grep -o 'KUBE-SVC-[A-Z0-9]*' | tail -n 1";
    namespace.run(&format!("nft flush chain ip nat $({chain})"));
    next_commit(watcher, |commit| commit.writer.program == "nft");
    let begun = Instant::now();
    next_commit(watcher, |commit| commit.writer.program != "nft");
    begun.elapsed().as_secs_f64()
}

fn next_commit(watcher: &mut Watcher, is_wanted: impl Fn(&Commit) -> bool) {
    loop {
        let events = watcher.next(Some(LONG)).unwrap();
        assert!(!events.is_empty(), "no commit");
        let is_next = |event: &Event| match event {
            Event::Commit(commit) => !commit.changes.is_empty() && is_wanted(commit),
            Event::Lost => panic!("events were lost"),
        };
        if events.iter().any(is_next) {
            return;
        }
    }
}

/// Changes at a steady rate. Returns the CPU time, including that of the programs, and the number of
/// syncs.
fn steady(server: &ApiServer, slice: &Value, agent: &Child) -> (f64, usize) {
    thread::sleep(QUIET);
    let syncs = || {
        let log = fs::read_to_string(scratch().join("agent.log")).unwrap();
        log.lines().filter(|line| line.contains(" synced ")).count()
    };
    let (cpu, before, begun) = (cpu_seconds(agent), syncs(), Instant::now());
    for round in 0..STEADY {
        let due = begun + BETWEEN * u32::try_from(round).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        server.apply(moved(slice, CHANGES + round));
    }
    // The last sync ends in this time.
    thread::sleep(QUIET * 3);
    (cpu_seconds(agent) - cpu, syncs() - before)
}

/// CPU time of the agent and of programs that it started and that have ended.
fn cpu_seconds(agent: &Child) -> f64 {
    // utime, stime, cutime and cstime of proc_pid_stat(5), in ticks of 10 ms.
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Seconds of commands through netlink and of the programs of iptables-nft, one run, one IP family.
fn commands(file: &std::path::Path) -> Value {
    let flags = "--hostname-override node-1 --ip-family ipv4 --iptables-variant nft";
    let (rulegen, file) = (rulegen().display().to_string(), file.display());
    let rules = scratch().join("rules").display().to_string();
    let namespace = Namespace::new();
    namespace.run(&format!("{rulegen} --dry-run {flags} -f {file} > {rules}"));
    let cold = namespace.time(&format!("{rulegen} {flags} -f {file}"));
    let again = namespace.time(&format!("{rulegen} {flags} -f {file}"));
    let list = namespace.time(&format!("{rulegen} list --iptables-variant nft --ip-family ipv4"));
    let save = namespace.time("iptables-nft-save");
    let restore = Namespace::new().time(&format!("iptables-nft-restore {rules}"));
    json!({
        "apply_seconds": cold, "iptables_nft_restore_seconds": restore,
        "apply_again_seconds": again, "list_seconds": list, "iptables_nft_save_seconds": save,
    })
}

pub(crate) fn print(rows: &[Value]) {
    println!("\nThe agent, iptables mode, with an API server on the same machine");
    println!(
        "{:>9} {:>8} | {:>12} {:>7} {:>7} | {:>7} {:>7} {:>8} | {:>13} {:>6}",
        "services",
        "",
        "first sync s",
        "RSS MB",
        "peak MB",
        "p50 ms",
        "max ms",
        "repair s",
        "CPU s per 100",
        "syncs"
    );
    let rows: Vec<&Value> =
        rows.iter().map(|row| &row["iptables-agent"]).filter(|row| !row.is_null()).collect();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for row in &rows {
        for name in ["netlink", "legacy"] {
            let of = |field: &str| number(&row[name][field]);
            println!(
                "{:>9} {name:>8} | {:>12.2} {:>7.1} {:>7.1} | {:>7.1} {:>7.1} {:>8.3} | {:>13.2} \
                 {:>6}",
                row["services"].as_u64().unwrap_or_default(),
                of("first_sync_seconds"),
                of("resident_megabytes"),
                of("peak_megabytes"),
                number(&row[name]["event_to_commit_milliseconds"]["p50"]),
                number(&row[name]["event_to_commit_milliseconds"]["max"]),
                of("repair_seconds"),
                of("cpu_seconds_of_100_changes"),
                of("syncs_of_100_changes"),
            );
        }
    }
    println!("\nCommands through netlink and the programs of iptables-nft, seconds");
    println!(
        "{:>9} | {:>7} {:>12} | {:>7} {:>7} {:>9}",
        "services", "apply", "nft-restore", "again", "list", "nft-save"
    );
    for row in rows {
        let of = |field: &str| number(&row["commands"][field]);
        println!(
            "{:>9} | {:>7.2} {:>12.2} | {:>7.2} {:>7.2} {:>9.2}",
            row["services"].as_u64().unwrap_or_default(),
            of("apply_seconds"),
            of("iptables_nft_restore_seconds"),
            of("apply_again_seconds"),
            of("list_seconds"),
            of("iptables_nft_save_seconds"),
        );
    }
}
