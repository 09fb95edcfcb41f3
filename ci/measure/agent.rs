//! The agent with an API server: time from a watch event to the kernel's commit, CPU, memory, start
//! time, and time to repair what another program changed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rulegen_kernel::nftables::{Event, Generation, NfTables, Watcher};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::cluster::Size;
use crate::damage::Damager;
use crate::namespace::Namespace;
use crate::{churn, median, percentile, rulegen, scratch};

/// Pause before a damage: the agent has nothing else to do.
const QUIET: Duration = Duration::from_millis(500);

/// How long all objects change, to measure the growth of memory.
const FLOOD: Duration = Duration::from_secs(10);

pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A namespace with an API server that has a cluster.
struct Bench {
    namespace: Namespace,
    server: ApiServer,
    slices: Vec<Value>,
    damager: Damager,
}

impl Bench {
    fn new(text: &str) -> Self {
        let namespace = Namespace::new();
        namespace.run("ip link set lo up");
        let server =
            namespace.inside(|| ApiServer::start_on(TcpListener::bind("127.0.0.1:0").unwrap()));
        server.keep_lists();
        let mut cluster: Value = serde_json::from_str(text).unwrap();
        let items = cluster["items"].as_array_mut().unwrap();
        let slices: Vec<Value> =
            items.iter().filter(|item| item["kind"] == "EndpointSlice").cloned().collect();
        server.apply_many(std::mem::take(items));
        server.apply(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.50.1"}]},
        }));
        fs::write(scratch().join("kubeconfig"), server.kubeconfig()).unwrap();
        let damager = Damager::new(&namespace, text);
        Self { namespace, server, slices, damager }
    }

    fn changes(&self, agent: &Child, watcher: &mut Watcher) -> Value {
        churn::measure(&self.server, &self.slices, agent, watcher, self.damager.hairpins())
    }

    fn watcher(&self) -> Watcher {
        self.namespace.inside(|| Watcher::open(&tables(), Watcher::ROOM).unwrap())
    }
}

/// Changes only.
pub(crate) fn measure_changes(text: &str) -> Value {
    let bench = Bench::new(text);
    let (agent, _) = start(&bench.namespace, &[]);
    let changes = bench.changes(&agent, &mut bench.watcher());
    end(agent, Signal::SIGKILL);
    changes
}

pub(crate) fn measure(text: &str, size: Size) -> Value {
    let mut bench = Bench::new(text);
    // Not counted: the server encodes its lists.
    let (agent, _) = start(&bench.namespace, &[]);
    end(agent, Signal::SIGKILL);
    bench.damager.flush_ruleset();
    let (agent, first_start) = start(&bench.namespace, &[]);
    let mut watcher = bench.watcher();
    let changes = bench.changes(&agent, &mut watcher);
    let Bench { namespace, server, slices, mut damager } = bench;
    let memory = ["VmRSS:", "VmHWM:"].map(|field| kilobytes(&agent, field) / 1024.0);
    let pages = PAGES.map(|(name, path)| (name.to_owned(), json!(page(&namespace, path) * 1e3)));
    let memory_after_pages = kilobytes(&agent, "VmRSS:") / 1024.0;
    let repairs = (0..DRIFTS).map(|round| repair_of_elements(&mut damager, round, &mut watcher));
    let few = median(&repairs.collect::<Vec<f64>>());
    let flush = repair_of_flush(&namespace, &mut damager);
    let (agent, unchanged) = unchanged_starts(&namespace, agent);
    let memory_of_flood = flood(&server, slices, &agent) / 1024.0;
    end(agent, Signal::SIGKILL);
    json!({
        "services": size.services, "endpoints": size.services * size.endpoints,
        "changes": changes,
        "resident_megabytes": memory[0], "peak_megabytes": memory[1],
        "resident_megabytes_after_pages": memory_after_pages,
        "peak_megabytes_in_flood": memory_of_flood,
        "page_milliseconds": pages.into_iter().collect::<serde_json::Map<_, _>>(),
        "repair_seconds": {"elements": few, "flush": flush},
        "first_start_seconds": first_start,
        "unchanged_start_seconds": {
            "recorded": median(&unchanged.recorded), "by_key": median(&unchanged.by_key),
        },
        "stop_seconds": median(&unchanged.stops),
    })
}

/// Number of timed starts of each kind, and of repairs of a few elements.
const STARTS: usize = 3;
const DRIFTS: usize = 9;

/// Seconds of starts with unchanged rules.
#[derive(Default)]
struct UnchangedStarts {
    /// The last agent was terminated and left a record of its tables.
    recorded: Vec<f64>,
    /// The last agent was killed, so the tables are read.
    by_key: Vec<f64>,
    /// From SIGTERM to the exit.
    stops: Vec<f64>,
}

fn unchanged_starts(namespace: &Namespace, mut agent: Child) -> (Child, UnchangedStarts) {
    let mut starts = UnchangedStarts::default();
    // Not counted: the server encodes the changed lists.
    end(agent, Signal::SIGKILL);
    (agent, _) = start(namespace, &[]);
    let before = generation(namespace);
    // The first kind last: a record is of no use to the agent after a killed one.
    for (signal, times) in
        [(Signal::SIGKILL, &mut starts.by_key), (Signal::SIGTERM, &mut starts.recorded)]
    {
        for _ in 0..STARTS {
            let stop = end(agent, signal);
            if signal == Signal::SIGTERM {
                starts.stops.push(stop);
            }
            if signal == Signal::SIGKILL {
                let _ = fs::remove_dir_all(scratch().join("state"));
            }
            let (started, time) = start(namespace, &[]);
            agent = started;
            times.push(time);
        }
    }
    assert_eq!(generation(namespace), before, "a restart wrote something");
    (agent, starts)
}

/// Another program deletes and adds a few elements. Returns the seconds until the commit that repairs
/// them.
fn repair_of_elements(damager: &mut Damager, round: usize, watcher: &mut Watcher) -> f64 {
    thread::sleep(QUIET);
    while !watcher.next(Some(Duration::from_millis(1))).unwrap().is_empty() {}
    let begun = Instant::now();
    damager.change_elements(round);
    loop {
        let events = watcher.next(Some(LONG)).unwrap();
        assert!(!events.is_empty(), "the elements were not repaired");
        let is_repair = |event: &Event| match event {
            Event::Commit(commit) => {
                !commit.changes.is_empty() && commit.writer.port != damager.port()
            }
            Event::Lost => panic!("events were lost"),
        };
        if events.iter().any(is_repair) {
            let time = begun.elapsed().as_secs_f64();
            assert!(damager.are_elements_repaired(round), "not all was repaired");
            return time;
        }
    }
}

/// Another program deletes the whole ruleset. Returns the seconds until the agent has repaired it.
fn repair_of_flush(namespace: &Namespace, damager: &mut Damager) -> f64 {
    thread::sleep(QUIET);
    let repairs = || namespace.inside(|| metric("rulegen_drift_repairs_total"));
    let before = repairs();
    let begun = Instant::now();
    damager.flush_ruleset();
    while repairs() == before {
        assert!(begun.elapsed() < LONG, "the flush was not repaired");
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed().as_secs_f64()
}

/// The value of a metric without labels.
fn metric(name: &str) -> f64 {
    let mut stream = TcpStream::connect("127.0.0.1:10249").unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// CPU time of the agent, user and system.
pub(crate) fn cpu_seconds(agent: &Child) -> f64 {
    // utime and stime of proc_pid_stat(5), in ticks of 10 ms, after the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

pub(crate) fn print(rows: &[Value]) {
    println!("\nThe agent, nftables mode, with an API server on the same machine");
    println!(
        "{:>9} {:>10} | {:>7} {:>7} {:>7} {:>5} | {:>7} {:>7} {:>8} | {:>7} {:>8} {:>7} {:>7} | \
         {:>8} {:>7}",
        "services",
        "endpoints",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU %",
        "RSS MB",
        "peak MB",
        "flood MB",
        "start s",
        "recorded",
        "by key",
        "stop s",
        "repair s",
        "flush s"
    );
    for row in rows.iter().map(|row| &row["agent"]).filter(|row| !row.is_null()) {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        println!(
            "{:>9} {:>10} | {:>7.2} {:>7.2} {:>7.2} {:>5.1} | {:>7.1} {:>7.1} {:>8.1} | {:>7.2} \
             {:>8.2} {:>7.2} {:>7.2} | {:>8.3} {:>7.2}",
            row["services"].as_u64().unwrap_or_default(),
            row["endpoints"].as_u64().unwrap_or_default(),
            number(&row["changes"]["p50_milliseconds"]),
            number(&row["changes"]["p99_milliseconds"]),
            number(&row["changes"]["max_milliseconds"]),
            number(&row["changes"]["cpu_percent"]),
            number(&row["resident_megabytes"]),
            number(&row["peak_megabytes"]),
            number(&row["peak_megabytes_in_flood"]),
            number(&row["first_start_seconds"]),
            number(&row["unchanged_start_seconds"]["recorded"]),
            number(&row["unchanged_start_seconds"]["by_key"]),
            number(&row["stop_seconds"]),
            number(&row["repair_seconds"]["elements"]),
            number(&row["repair_seconds"]["flush"]),
        );
    }
    let rows: Vec<&Value> =
        rows.iter().map(|row| &row["agent"]).filter(|row| !row.is_null()).collect();
    print_pages(&rows);
}

/// Prints the table of the status page.
fn print_pages(rows: &[&Value]) {
    println!("\nThe status page, time to first byte (p95)");
    println!(
        "{:>9} | {:>11} {:>11} {:>11} {:>11} | {:>8}",
        "services", "overview ms", "list ms", "search ms", "service ms", "RSS MB"
    );
    for row in rows {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let [overview, list, search, service] =
            PAGES.map(|(name, _)| number(&row["page_milliseconds"][name]));
        println!(
            "{:>9} | {overview:>11.2} {list:>11.2} {search:>11.2} {service:>11.2} | {:>8.1}",
            row["services"].as_u64().unwrap_or_default(),
            number(&row["resident_megabytes_after_pages"]),
        );
    }
}

fn tables() -> Vec<(IpFamily, Name)> {
    [IpFamily::Ipv4, IpFamily::Ipv6].map(|family| (family, Name::from("rulegen"))).to_vec()
}

/// Starts the agent. Returns the seconds until it was ready.
pub(crate) fn start(namespace: &Namespace, flags: &[&str]) -> (Child, f64) {
    let begun = Instant::now();
    let log = fs::File::create(scratch().join("agent.log")).unwrap();
    let agent = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(rulegen())
        .args([
            "agent",
            "--proxy-mode",
            "nftables",
            "--hostname-override",
            "node-1",
            "--kubeconfig",
        ])
        .arg(scratch().join("kubeconfig"))
        .arg("--state-dir")
        .arg(scratch().join("state"))
        .args(flags)
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

pub(crate) fn is_ready() -> bool {
    let Ok(mut stream) = TcpStream::connect("127.0.0.1:10256") else { return false };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// Changes every slice repeatedly, faster than rules can be written. Returns the agent's peak memory
/// in KiB.
fn flood(server: &ApiServer, mut slices: Vec<Value>, agent: &Child) -> f64 {
    // Resets VmHWM (proc(5), clear_refs).
    fs::write(format!("/proc/{}/clear_refs", agent.id()), "5").unwrap();
    let begun = Instant::now();
    for round in 0.. {
        for slice in &mut slices {
            slice["endpoints"][0]["addresses"][0] = json!(format!("10.220.{}.1", round % 250));
        }
        slices.chunks(1000).for_each(|some| server.apply_many(some.to_vec()));
        if begun.elapsed() > FLOOD {
            break;
        }
    }
    kilobytes(agent, "VmHWM:")
}

/// The slowest pages: each reads every Service.
const PAGES: [(&str, &str); 4] = [
    ("overview", "/"),
    ("services", "/services?page=100"),
    ("search_by_address", "/services?q=10.244.255.25"),
    ("service", "/services/ns-7/svc-7"),
];

/// Seconds until the first byte of a page, 95th percentile.
fn page(namespace: &Namespace, path: &str) -> f64 {
    let times: Vec<f64> = (0..20).map(|_| namespace.inside(|| first_byte(path))).collect();
    percentile(&times, 94)
}

fn first_byte(path: &str) -> f64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect("127.0.0.1:10249").unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let took = begun.elapsed().as_secs_f64();
    stream.read_to_string(&mut String::new()).unwrap();
    took
}

fn generation(namespace: &Namespace) -> Generation {
    namespace.inside(|| NfTables::open().unwrap().generation().unwrap())
}

pub(crate) fn kilobytes(agent: &Child, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// Ends the agent. Returns the seconds until it has exited.
pub(crate) fn end(mut agent: Child, signal: Signal) -> f64 {
    let begun = Instant::now();
    kill(Pid::from_raw(agent.id().cast_signed()), signal).unwrap();
    agent.wait().unwrap();
    begun.elapsed().as_secs_f64()
}
