//! Changes at a steady rate, each of one endpoint: the time from the watch event to the kernel's
//! commit, and the agent's CPU.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rulegen_kernel::nftables::{Commit, Event, TouchedElements, Watcher};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Set, Value as KeyValue};
use serde_json::{Value, json};

use crate::agent::{LONG, cpu_seconds};
use crate::api_server::ApiServer;
use crate::percentile;

const PER_SECOND: u32 = 200;
const CHANGES: usize = 2000;

/// Changes one slice after another. Returns the times in milliseconds, and the CPU in percent of a
/// processor.
pub(crate) fn measure(
    server: &ApiServer,
    slices: &[Value],
    agent: &Child,
    watcher: &mut Watcher,
    hairpins: &Set,
) -> Value {
    let (begun, cpu) = (Instant::now(), cpu_seconds(agent));
    let (sent, committed) = thread::scope(|scope| {
        let committed = scope.spawn(|| receive(watcher, hairpins));
        let sent: Vec<Instant> = (0..CHANGES).map(|n| send(server, slices, begun, n)).collect();
        (sent, committed.join().unwrap())
    });
    let took = begun.elapsed().as_secs_f64();
    let rate = CHANGES as f64 / took;
    assert!(rate > f64::from(PER_SECOND) * 0.9, "only {rate:.0} changes a second");
    let cpu = (cpu_seconds(agent) - cpu) / took;
    let times: Vec<f64> = committed
        .iter()
        .zip(sent)
        .map(|(committed, sent)| committed.duration_since(sent).as_secs_f64() * 1e3)
        .collect();
    json!({
        "changes_per_second": rate, "p50_milliseconds": percentile(&times, 50),
        "p99_milliseconds": percentile(&times, 99), "max_milliseconds": percentile(&times, 100),
        "cpu_percent": cpu * 100.0,
    })
}

/// Moves an endpoint of one slice to the address of this change, when it is due.
fn send(server: &ApiServer, slices: &[Value], begun: Instant, n: usize) -> Instant {
    let mut slice = slices[n % slices.len()].clone();
    slice["endpoints"][0]["addresses"][0] = json!(address(n).to_string());
    let due = begun + Duration::from_secs(1) / PER_SECOND * n as u32;
    thread::sleep(due.saturating_duration_since(Instant::now()));
    let now = Instant::now();
    server.apply(slice);
    now
}

/// Receives commits until all changes are in the kernel. Returns when each was.
fn receive(watcher: &mut Watcher, hairpins: &Set) -> Vec<Instant> {
    let mut committed = vec![None; CHANGES];
    let mut left = CHANGES;
    while left > 0 {
        let events = watcher.next(Some(LONG)).unwrap();
        let now = Instant::now();
        assert!(!events.is_empty(), "{left} changes were not written");
        for event in &events {
            let Event::Commit(commit) = event else { panic!("events were lost") };
            for n in changes(commit, hairpins) {
                left -= usize::from(committed[n].replace(now).is_none());
            }
        }
    }
    committed.into_iter().map(Option::unwrap).collect()
}

/// The changes that a commit has: each adds a pair of its address.
fn changes(commit: &Commit, hairpins: &Set) -> Vec<usize> {
    let TouchedElements::These(sets) = &commit.elements else { panic!("a large commit") };
    let set = (IpFamily::Ipv4, "rulegen".to_owned(), "hairpins".to_owned());
    let keys = sets.get(&set).into_iter().flatten();
    keys.filter_map(|key| match key.decode(IpFamily::Ipv4, hairpins)?.values().next()? {
        KeyValue::Address(IpAddr::V4(ip)) => (0..CHANGES).find(|n| address(*n) == ip),
        _ => None,
    })
    .collect()
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, (n >> 8) as u8, n as u8)
}
