//! Changes at a steady rate, each of one endpoint: the time from the watch event to the kernel's
//! commit, and what the agent spends.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rulegen_kernel::nftables::{Commit, Event, TouchedElements, Watcher};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Set, Value as KeyValue};
use serde_json::{Value, json};

use crate::agent::LONG;
use crate::api_server::ApiServer;
use crate::{median, percentile};

const PER_SECOND: u32 = 200;
const CHANGES: usize = 2000;

/// The median of several rounds: in one of them the machine may be busy with something else.
const ROUNDS: u8 = 3;

type Figure = fn(&Round) -> f64;

/// Names of the figures of a round, and how to compute them.
const FIGURES: [(&str, Figure); 9] = [
    ("changes_per_second", |round| CHANGES as f64 / round.seconds),
    ("p50_milliseconds", |round| percentile(&round.times, 50)),
    ("p99_milliseconds", |round| percentile(&round.times, 99)),
    ("max_milliseconds", |round| percentile(&round.times, 100)),
    // How much of these is the machine: by how much a sleep of this program ended late.
    ("sleep_late_p99_milliseconds", |round| percentile(&round.late, 99)),
    ("cpu_percent", |round| round.spent.cpu_seconds / round.seconds * 100.0),
    ("cpu_microseconds_per_change", |round| round.spent.cpu_seconds / CHANGES as f64 * 1e6),
    ("context_switches_per_change", |round| round.spent.context_switches / CHANGES as f64),
    ("page_faults_per_change", |round| round.spent.page_faults / CHANGES as f64),
];

struct Round {
    seconds: f64,
    /// From each watch event to its commit, in milliseconds.
    times: Vec<f64>,
    /// From when each change was due until it was sent, in milliseconds.
    late: Vec<f64>,
    spent: Spent,
}

/// What a process has used.
struct Spent {
    cpu_seconds: f64,
    context_switches: f64,
    page_faults: f64,
}

impl Spent {
    fn so_far(agent: &Child) -> Self {
        let process = format!("/proc/{}", agent.id());
        let tasks =
            fs::read_dir(format!("{process}/task")).unwrap().map(|task| task.unwrap().path());
        let (mut nanoseconds, mut context_switches) = (0.0, 0.0);
        for task in tasks {
            // proc_pid_schedstat(5): the first number is the time on a processor.
            let schedule = fs::read_to_string(task.join("schedstat")).unwrap();
            nanoseconds += number(schedule.split(' ').next());
            let status = fs::read_to_string(task.join("status")).unwrap();
            let lines = status.lines().filter(|line| line.contains("ctxt_switches:"));
            context_switches += lines.map(|line| number(line.split('\t').nth(1))).sum::<f64>();
        }
        // minflt of proc_pid_stat(5), after the name in parentheses.
        let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
        let page_faults = number(stat.rsplit(") ").next().unwrap().split(' ').nth(7));
        Self { cpu_seconds: nanoseconds / 1e9, context_switches, page_faults }
    }

    fn since(self, before: &Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            context_switches: self.context_switches - before.context_switches,
            page_faults: self.page_faults - before.page_faults,
        }
    }
}

fn number(text: Option<&str>) -> f64 {
    text.unwrap().trim().parse().unwrap()
}

/// Changes one slice after another, in several rounds.
pub(crate) fn measure(
    server: &ApiServer,
    slices: &[Value],
    agent: &Child,
    watcher: &mut Watcher,
    hairpins: &Set,
) -> Value {
    let round = |round| measure_round(server, slices, agent, watcher, hairpins, round);
    let rounds: Vec<Round> = (0..ROUNDS).map(round).collect();
    let figure = |(name, of): (&str, Figure)| {
        (name.to_owned(), json!(median(&rounds.iter().map(of).collect::<Vec<f64>>())))
    };
    Value::Object(FIGURES.map(figure).into_iter().collect())
}

fn measure_round(
    server: &ApiServer,
    slices: &[Value],
    agent: &Child,
    watcher: &mut Watcher,
    hairpins: &Set,
    round: u8,
) -> Round {
    let (begun, before) = (Instant::now(), Spent::so_far(agent));
    let due = |n: usize| begun + Duration::from_secs(1) / PER_SECOND * n as u32;
    let (sent, committed) = thread::scope(|scope| {
        let committed = scope.spawn(|| receive(watcher, hairpins, round));
        let send = |n: usize| {
            let mut slice = slices[n % slices.len()].clone();
            slice["endpoints"][0]["addresses"][0] = json!(address(round, n).to_string());
            thread::sleep(due(n).saturating_duration_since(Instant::now()));
            let now = Instant::now();
            server.apply(slice);
            now
        };
        let sent: Vec<Instant> = (0..CHANGES).map(send).collect();
        (sent, committed.join().unwrap())
    });
    let (seconds, spent) = (begun.elapsed().as_secs_f64(), Spent::so_far(agent).since(&before));
    let rate = CHANGES as f64 / seconds;
    assert!(rate > f64::from(PER_SECOND) * 0.9, "only {rate:.0} changes a second");
    let milliseconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
    let times = sent.iter().zip(committed).map(|(sent, committed)| milliseconds(*sent, committed));
    let late = sent.iter().enumerate().map(|(n, sent)| milliseconds(due(n), *sent));
    Round { seconds, times: times.collect(), late: late.collect(), spent }
}

/// Receives commits until all changes are in the kernel. Returns when each was.
fn receive(watcher: &mut Watcher, hairpins: &Set, round: u8) -> Vec<Instant> {
    let mut committed = vec![None; CHANGES];
    let mut left = CHANGES;
    while left > 0 {
        let events = watcher.next(Some(LONG)).unwrap();
        let now = Instant::now();
        assert!(!events.is_empty(), "{left} changes were not written");
        for event in &events {
            let Event::Commit(commit) = event else { panic!("events were lost") };
            for n in changes(commit, hairpins, round) {
                // Later the pair is removed.
                left -= usize::from(committed[n].is_none());
                committed[n].get_or_insert(now);
            }
        }
    }
    committed.into_iter().map(Option::unwrap).collect()
}

/// The changes that a commit has: each adds a pair of its address.
fn changes(commit: &Commit, hairpins: &Set, round: u8) -> Vec<usize> {
    let TouchedElements::These(sets) = &commit.elements else { panic!("a large commit") };
    let set = (IpFamily::Ipv4, "rulegen".to_owned(), "hairpins".to_owned());
    let keys = sets.get(&set).into_iter().flatten();
    keys.filter_map(|key| match key.decode(IpFamily::Ipv4, hairpins)?.values().next()? {
        KeyValue::Address(IpAddr::V4(ip)) => (0..CHANGES).find(|n| address(round, *n) == ip),
        _ => None,
    })
    .collect()
}

fn address(round: u8, n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200 + round, (n >> 8) as u8, n as u8)
}

/// Prints the figures, also those of the part `agent`.
pub(crate) fn print(rows: &[Value]) {
    let of = |row: &Value| [&row["changes"], &row["agent"]["changes"]].map(Value::clone);
    for row in rows {
        for changes in of(row).iter().filter(|changes| !changes.is_null()) {
            println!("\nChanges of one endpoint each, {} services", row["services"]);
            for (name, _) in FIGURES {
                println!("{name:>30} {:>8.2}", changes[name].as_f64().unwrap_or(f64::NAN));
            }
        }
    }
}
