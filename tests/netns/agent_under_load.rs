//! The whole agent under kills, under drift by other programs, and under many changes.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::rounds;
use crate::namespace::Namespace;
use crate::nftables::{actual_tables, generation, json_service};
use crate::running_agent::{
    Agent, Manifests, RequestCounter, SOON, cluster_ip, during_requests, service, within,
};
use crate::topology::{ELSEWHERE_IPS, POD_IPS, Topology};

const FIRST: &str = POD_IPS[0][0];
const SECOND: &str = POD_IPS[1][0];
const ELSEWHERE: &str = ELSEWHERE_IPS[0];

/// Pseudo-random numbers that are the same in each run (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Services as JSON with one endpoint each. The endpoint depends on the version.
fn many(services: std::ops::Range<usize>, version: usize) -> String {
    let items: Vec<String> = services.map(|n| json_service(n, 1)).collect();
    let items = items.join(",").replace("10.240.", &format!("10.{}.", 200 + version % 50));
    format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{items}]}}"#)
}

/// The agent is killed within this time after its start, or within twice the time of its first
/// commit if that is longer.
const KILL_AFTER: Duration = Duration::from_millis(60);

#[test]
fn agent_killed_at_any_moment_fails_no_connection() {
    let all_rounds = rounds(200);
    let lab = Topology::new("agent-kill");
    let manifests = Manifests::new(&lab.node);
    // Every endpoint of the requested Service always answers.
    let endpoints: [&[&str]; 4] =
        [&[FIRST], &[FIRST, SECOND], &[ELSEWHERE, SECOND], &[FIRST, SECOND, ELSEWHERE]];
    let change = |version: usize| {
        manifests.put("asked.yaml", &service(1, endpoints[version % endpoints.len()]));
        manifests.put("many.json", &many(0..50, version));
    };
    let start = || Agent::start(&lab.node, &manifests, "");
    change(0);
    let longest = KILL_AFTER.max(first_commit(&lab.node, start) * 2).as_micros() as u64;
    let mut random = Random(2_026);
    let mut written = 0;
    during_requests(&lab, cluster_ip(1), |requests| {
        for round in 0..all_rounds {
            let before = generation(&lab.node);
            change(2 * round);
            let agent = start();
            // Not a wait: these delays vary the moment of the kill.
            let moments = [random.below(longest), random.below(longest)].map(Duration::from_micros);
            thread::sleep(moments[0].min(moments[1]));
            change(2 * round + 1);
            thread::sleep(moments[0].abs_diff(moments[1]));
            drop(agent);
            written += usize::from(generation(&lab.node) != before);
            requests.answered();
        }
        start().wait_until_in_sync();
        assert!(requests.answered() > all_rounds, "too few requests: {}", requests.answered());
    });
    assert!(
        (all_rounds / 10..all_rounds).contains(&written),
        "{written} of {all_rounds} rounds wrote"
    );
}

/// The time from the start to the first commit.
fn first_commit<'a>(node: &Namespace, start: impl FnOnce() -> Agent<'a>) -> Duration {
    let before = generation(node);
    let agent = start();
    let took = within(SOON, "the first commit", || generation(node) != before);
    agent.wait_until_in_sync();
    took
}

/// How long the rival keeps changing the rules. Set the number of seconds to run longer.
fn rival_duration() -> Duration {
    let seconds = std::env::var("RULEGEN_TEST_RIVAL_SECONDS").ok();
    Duration::from_secs(seconds.map_or(10, |seconds| seconds.parse().expect("a number of seconds")))
}

const ONE_SECOND: Duration = Duration::from_secs(1);

#[test]
fn drift_by_rival_is_named_and_repaired_within_a_second() {
    let lab = Topology::new("agent-rival");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST, SECOND]));
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    let right = actual_tables(&lab.node);
    let start_time = Instant::now();
    let mut rounds = 0;
    while start_time.elapsed() < rival_duration() {
        let next = Instant::now() + ONE_SECOND;
        let pid = nft(&lab.node, "flush ruleset");
        within(ONE_SECOND, "the rules are back", || actual_tables(&lab.node) == right);
        agent.wait_for_log(&format!(r#"program="nft" pid={pid}"#));
        rounds += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let drifts = agent.metric(DRIFTS);
    assert!(drifts >= f64::from(rounds), "{drifts} of {rounds} drift events were counted");

    for change in [
        "delete element ip rulegen services { 10.96.1.1 . tcp . 80 }",
        "add rule ip rulegen services counter drop",
        "add chain ip rulegen mine",
        "add chain ip6 rulegen mine { type filter hook input priority 5; policy drop; }",
        "delete table ip6 rulegen",
    ] {
        let pid = nft(&lab.node, change);
        within(ONE_SECOND, &format!("{change} is undone"), || actual_tables(&lab.node) == right);
        agent.wait_for_log(&format!(r#"program="nft" pid={pid}"#));
    }
    during_requests(&lab, cluster_ip(1), |requests| requests.wait_for(10));
    assert!(agent.is_in_sync());
    // The agent does not take its own commits for drift.
    let (drifts, before) = (agent.metric(DRIFTS), generation(&lab.node));
    manifests.put("one.yaml", &service(1, &[FIRST]));
    agent.wait_until_in_sync();
    assert_ne!(generation(&lab.node), before);
    assert_eq!(agent.metric(DRIFTS), drifts);
    assert!(agent.metric("rulegen_drift_repairs_total") >= f64::from(rounds));
}

const DRIFTS: &str = r#"rulegen_drift_events_total{writer="nft"}"#;

/// Runs nft to its end. Returns its process ID.
fn nft(namespace: &Namespace, command: &str) -> u32 {
    let mut child = Command::new("ip")
        .args(["netns", "exec", &namespace.name, "nft", command])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success(), "{command}");
    child.id()
}

/// The states of a pod in a rolling update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Starting,
    Ready,
    Terminating,
    Gone,
}

/// A Deployment of 500 pods is updated in batches: new pods start, become ready while old ones
/// start to terminate, and old ones are removed. A pod stops answering after the agent had time to
/// see that it terminates.
#[test]
fn rolling_update_fails_no_request() {
    const PODS: usize = 500;
    const BATCH: usize = 50;
    let lab = Topology::new("agent-update");
    let pods = many_pods(&lab);
    let manifests = Manifests::new(&lab.node);
    let mut conditions = vec![Condition::Ready; PODS];
    conditions.resize(2 * PODS, Condition::Starting);
    let put = |shown: &[Condition]| manifests.put("web.json", &web(shown));
    put(&conditions[..PODS]);
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    during_requests(&lab, cluster_ip(1), |requests| {
        for first in (0..PODS).step_by(BATCH) {
            let (old, new) = (first..first + BATCH, PODS + first..PODS + first + BATCH);
            put(&conditions[..new.end]);
            // One after the other, as in a real update, without waiting for a sync.
            for (old, new) in old.clone().zip(new.clone()) {
                conditions[old] = Condition::Terminating;
                conditions[new] = Condition::Ready;
                if old % 10 == 9 {
                    put(&conditions[..PODS + first + BATCH]);
                }
            }
            agent.wait_until_in_sync();
            // Connections in progress have ended.
            requests.wait_for(3);
            pods.stop(old.clone());
            conditions[old].fill(Condition::Gone);
            put(&conditions[..new.end]);
        }
        agent.wait_until_in_sync();
        requests.wait_for(100);
    });
}

/// The address of pod number n.
fn pod_ip(n: usize) -> IpAddr {
    format!("10.245.{}.{}", n / 200, n % 200 + 1).parse().unwrap()
}

/// A Service with a pod per condition, and a hundred pods per slice, as Kubernetes does.
fn web(conditions: &[Condition]) -> String {
    let service = format!(
        r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "web"}}, "spec":
           {{"clusterIP": "{0}", "clusterIPs": ["{0}"], "ports": [{{"port": 80}}]}}}}"#,
        cluster_ip(1).ip()
    );
    let slice = |(n, conditions): (usize, &[Condition])| {
        let endpoints = conditions.iter().enumerate().filter_map(|(i, condition)| {
            let (ready, terminating) = match condition {
                Condition::Starting => (false, false),
                Condition::Ready => (true, false),
                Condition::Terminating => (false, true),
                Condition::Gone => return None,
            };
            let (ip, serving) = (pod_ip(n * 100 + i), ready || terminating);
            Some(format!(
                r#"{{"addresses": ["{ip}"], "conditions":
                   {{"ready": {ready}, "serving": {serving}, "terminating": {terminating}}}}}"#
            ))
        });
        let endpoints = endpoints.collect::<Vec<_>>().join(",");
        format!(
            r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType":
               "IPv4", "metadata": {{"name": "web-{n}", "labels":
               {{"kubernetes.io/service-name": "web"}}}}, "ports": [{{"port": {PODS_PORT}}}],
               "endpoints": [{endpoints}]}}"#
        )
    };
    let slices = conditions.chunks(100).enumerate().map(slice);
    let items: Vec<String> = std::iter::once(service).chain(slices).collect();
    format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#, items.join(","))
}

const PODS_PORT: u16 = 9090;

/// One server for the addresses of many pods, some of which have stopped.
struct Pods {
    stopped: Arc<Mutex<HashSet<IpAddr>>>,
}

impl Pods {
    /// From now on, closes connections to these pods without an answer.
    fn stop(&self, pods: std::ops::Range<usize>) {
        self.stopped.lock().unwrap().extend(pods.map(pod_ip));
    }
}

/// All of 10.245.0.0/16 are pods on the other node.
fn many_pods(lab: &Topology) -> Pods {
    lab.node.run("ip route add 10.245.0.0/16 via 10.0.9.2");
    lab.elsewhere.run("ip route add local 10.245.0.0/16 dev lo");
    let pods = Pods { stopped: Arc::default() };
    let any = ("0.0.0.0", PODS_PORT);
    let listener = lab.elsewhere.inside(|| TcpListener::bind(any).unwrap());
    let stopped = Arc::clone(&pods.stopped);
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let at = stream.local_addr().unwrap();
            if !stopped.lock().unwrap().contains(&at.ip()) {
                let _ = writeln!(stream, "{at} {}", peer.ip());
            }
        }
    });
    pods
}

#[test]
fn thousand_services_created_and_deleted_leave_nothing() {
    const FILES: usize = 10;
    let lab = Topology::new("agent-burst");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    let (right, before) = (actual_tables(&lab.node), agent.syncs());
    let name = |n: usize| format!("many-{n}.json");
    let texts: Vec<String> = (0..FILES).map(|n| many(n * 100..(n + 1) * 100, 0)).collect();
    during_requests(&lab, cluster_ip(1), |_: &RequestCounter| {
        let start_time = Instant::now();
        texts.iter().enumerate().for_each(|(n, text)| manifests.put(&name(n), text));
        thread::sleep((ONE_SECOND / 2).saturating_sub(start_time.elapsed()));
        (0..FILES).for_each(|n| manifests.remove(&name(n)));
        assert!(start_time.elapsed() < ONE_SECOND, "this machine is too slow for this test");
        agent.wait_until_in_sync();
        within(SOON, "all rules of the deleted Services are gone", || {
            actual_tables(&lab.node) == right
        });
        // All at once, and they stay until they are written.
        texts.iter().enumerate().for_each(|(n, text)| manifests.put(&name(n), text));
        agent.wait_until_in_sync();
        assert_eq!(agent.metric(r#"rulegen_services{ip_family="IPv4"}"#), 1_001.0);
        (0..FILES).for_each(|n| manifests.remove(&name(n)));
        agent.wait_until_in_sync();
        within(SOON, "all rules of the deleted Services are gone", || {
            actual_tables(&lab.node) == right
        });
    });
    let syncs = agent.syncs() - before;
    assert!(syncs < 20.0, "{syncs} syncs");
}
