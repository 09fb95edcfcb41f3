//! Faults of the machine: a clock that jumps, a full disk, little memory, no IPv6.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::root;
use crate::namespace::Namespace;
use crate::running_agent::{
    Agent, HEALTH_PORT, METRICS_PORT, Manifests, eventually, service, within,
};

const MODES: [&str; 2] = ["nftables", "iptables"];

/// Runs a test in both modes at once.
fn in_both_modes(test: impl Fn(&str) + Sync) {
    let test = &test;
    thread::scope(|scope| MODES.iter().for_each(|mode| drop(scope.spawn(move || test(mode)))));
}

/// Compiles faults.c. Returns the command prefix that preloads it.
pub(crate) fn preload(namespace: &Namespace) -> String {
    let library = namespace.folder("preload").join("faults.so");
    let source = root().join("tests/netns/faults.c");
    namespace.run(&format!("cc -shared -fPIC -o {} {}", library.display(), source.display()));
    format!("env LD_PRELOAD={}", library.display())
}

fn flags(mode: &str) -> String {
    format!("--proxy-mode {mode} --iptables-min-sync-period 0")
}

fn assert_healthy(agent: &Agent<'_>, when: &str) {
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = agent.get(HEALTH_PORT, path);
        assert!(answer.as_ref().is_some_and(|(status, _)| *status == 200), "{when}: {answer:?}");
    }
}

/// More lines than this without any change of objects are a flood.
const LINES: usize = 20;

/// Long enough to notice something that is logged every second.
const QUIET: Duration = Duration::from_secs(2);

/// Asserts that nothing is logged repeatedly while nothing happens.
fn assert_no_flood(agent: &Agent<'_>) {
    let before = agent.log().lines().count();
    thread::sleep(QUIET);
    let log = agent.log();
    let new: Vec<&str> = log.lines().skip(before).collect();
    assert!(new.len() < LINES, "{} lines in {QUIET:?}: {new:#?}", new.len());
}

#[test]
fn wall_clock_jumps_by_an_hour_keep_agent_healthy() {
    in_both_modes(|mode| {
        let node = Namespace::new(&format!("clock-{mode}"));
        let manifests = Manifests::new(&node);
        let clock = node.folder("clock").join("offset");
        let set = |seconds: i64| {
            let new = node.file("offset.new", &seconds.to_string());
            fs::rename(new, &clock).unwrap();
        };
        set(0);
        manifests.put("one.yaml", &service(1, &["10.0.0.1"]));
        let runner = format!("{} FAULT_CLOCK={}", preload(&node), clock.display());
        let agent = Agent::start_with_runner(&runner, &node, &manifests, &flags(mode));
        agent.wait_until_in_sync();

        for (round, seconds) in [3600, 0, -3600, 0, 3600, -3600].into_iter().enumerate() {
            // The clock jumps while a change is being handled.
            manifests.put("one.yaml", &service(1, &[&format!("10.0.1.{round}")]));
            set(seconds);
            let when = format!("{mode}, {seconds} s");
            assert_healthy(&agent, &when);
            agent.wait_until_in_sync();
            manifests.put("two.yaml", &service(2, &[&format!("10.0.2.{round}")]));
            agent.wait_until_in_sync();
            assert_healthy(&agent, &when);
            let shown = current_time(&agent);
            assert!(shown.abs_diff(now() + seconds) < 60, "{when}: the agent sees another clock");
        }
        assert_no_flood(&agent);
        let log = agent.log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    });
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The agent's wall clock, from its health check response.
fn current_time(agent: &Agent<'_>) -> i64 {
    let (_, body) = agent.get(HEALTH_PORT, "/healthz").unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let time = body["currentTime"].as_str().expect("no currentTime");
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// The agent writes no file except its log (stderr). The log, the working directory and the
/// temporary directory are on a full disk.
#[test]
fn disk_full_loses_log_only() {
    in_both_modes(|mode| {
        let node = Namespace::new(&format!("full-{mode}"));
        let manifests = Manifests::new(&node);
        let disk = node.folder("disk");
        let script = node.file(
            "full.sh",
            "mount -t tmpfs -o size=64k none \"$DISK\" && cd \"$DISK\" || exit 1\n\
             exec 2>>\"$DISK/agent.log\"\n\
             cat /dev/zero >\"$DISK/filler\" 2>/dev/null\n\
             exec \"$@\"\n",
        );
        let disk = disk.display();
        let runner = format!("env DISK={disk} TMPDIR={disk} unshare --mount sh {script}");
        let flags = format!("{} -v4", flags(mode));
        manifests.put("one.yaml", &service(1, &["10.0.0.1"]));
        let agent = Agent::start_with_runner(&runner, &node, &manifests, &flags);
        agent.wait_until_in_sync();
        // The path of the disk in the agent's mount namespace.
        let inside = agent.process().join(format!("root{disk}"));
        let logged = || fs::metadata(inside.join("agent.log")).unwrap().len();
        for round in 0..10 {
            manifests.put("one.yaml", &service(1, &[&format!("10.0.1.{round}")]));
            agent.wait_until_in_sync();
            assert_healthy(&agent, mode);
        }
        assert_eq!(logged(), 0, "{mode}: the disk was not full");
        let files: Vec<PathBuf> =
            fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 2, "{mode}: {files:?}");

        fs::remove_file(inside.join("filler")).unwrap();
        manifests.put("one.yaml", &service(1, &["10.0.2.1"]));
        agent.wait_until_in_sync();
        eventually("the agent logs again", || logged() > 0);
    });
}

/// A memory cgroup (v1 or v2) that is removed when dropped.
struct MemoryCgroup {
    path: PathBuf,
    files: &'static Files,
}

/// File names of the two versions (memory.txt and cgroup-v2.rst of the kernel).
struct Files {
    limit: &'static str,
    peak: &'static str,
    events: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    events: "memory.oom_control",
};
const V2: Files = Files { limit: "memory.max", peak: "memory.peak", events: "memory.events" };

impl MemoryCgroup {
    fn new(label: &str, limit: u64) -> Self {
        let name = format!("rulegen-{}-{label}", std::process::id());
        let (parent, files) = if Path::new("/sys/fs/cgroup/memory").join(V1.limit).exists() {
            (PathBuf::from("/sys/fs/cgroup/memory"), &V1)
        } else {
            let parent = PathBuf::from("/sys/fs/cgroup");
            fs::write(parent.join("cgroup.subtree_control"), "+memory")
                .expect("requires a memory cgroup (v1 or v2)");
            (parent, &V2)
        };
        let path = parent.join(name);
        fs::create_dir(&path).expect("cannot create a memory cgroup");
        let cgroup = Self { path, files };
        fs::write(cgroup.path.join(files.limit), limit.to_string()).unwrap();
        cgroup
    }

    fn peak(&self) -> u64 {
        let peak = fs::read_to_string(self.path.join(self.files.peak)).unwrap();
        peak.trim().parse().unwrap()
    }

    fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.path.join(self.files.events)).unwrap();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.expect("no oom_kill counter").parse().unwrap()
    }

    /// A program that waits until it is in the cgroup and then runs the rest of its command line.
    /// It cannot join by itself, because `ip netns exec` mounts another /sys.
    fn runner(&self, node: &Namespace) -> String {
        let name = self.path.file_name().unwrap().display();
        let wait =
            format!("until grep -q {name} /proc/self/cgroup; do sleep 0.01; done\nexec \"$@\"\n");
        format!("sh {}", node.file("enter.sh", &wait))
    }

    fn add(&self, process: &Path) {
        let pid = process.file_name().unwrap().as_encoded_bytes();
        fs::write(self.path.join("cgroup.procs"), pid).unwrap();
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The memory limit in a file of deploy/, in bytes.
fn limit_of(file: &str) -> u64 {
    let text = fs::read_to_string(root().join("deploy").join(file)).unwrap();
    let limits = text.split_once("limits:").expect("no limits").1;
    let value = limits.split_once("memory:").expect("no memory limit").1;
    let value = value.split_whitespace().next().unwrap();
    value.strip_suffix("Mi").expect("the unit of the limit is not Mi").parse::<u64>().unwrap() << 20
}

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 5;

/// Services with their endpoints. The first endpoint depends on the version.
fn many(services: std::ops::Range<usize>, version: usize) -> String {
    let items: Vec<String> = services
        .map(|n| {
            let ip = |net: usize, n: usize| {
                format!("10.{}.{}.{}", net + (n >> 16), (n >> 8) & 255, n & 255)
            };
            let cluster_ip = ip(97, n);
            let endpoints: Vec<String> = (0..ENDPOINTS)
                .map(|e| ip(if e == 0 { 130 + version } else { 128 }, n * ENDPOINTS + e))
                .map(|ip| format!(r#"{{"addresses":["{ip}"]}}"#))
                .collect();
            let endpoints = endpoints.join(",");
            format!(
                r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"many-{n}"}},"spec":
                {{"clusterIP":"{cluster_ip}","clusterIPs":["{cluster_ip}"],"ports":[{{"port":80}}]}}}},
                {{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
                "metadata":{{"name":"many-{n}","labels":{{"kubernetes.io/service-name":"many-{n}"}}}},
                "ports":[{{"port":8080}}],"endpoints":[{endpoints}]}}"#
            )
        })
        .collect();
    format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(","))
}

/// Services per file. The test changes one file at a time.
const SERVICES_OF_FILE: usize = 500;
const CHURN: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn memory_limit_of_daemonset_fits_churn_of_10000_services() {
    let limit = limit_of("base/daemonset.yaml");
    let node = Namespace::new("memory");
    let manifests = Manifests::new(&node);
    let range = |file: usize| file * SERVICES_OF_FILE..(file + 1) * SERVICES_OF_FILE;
    let files = SERVICES / SERVICES_OF_FILE;
    (0..files).for_each(|n| manifests.put(&format!("many-{n}.json"), &many(range(n), 0)));
    let cgroup = MemoryCgroup::new("daemon-set", limit);
    let runner = cgroup.runner(&node);
    let agent = Agent::start_with_runner(&runner, &node, &manifests, &flags("nftables"));
    cgroup.add(&agent.process());
    let count = || {
        agent.get(METRICS_PORT, "/metrics").is_some_and(|(_, body)| {
            body.contains(&format!("rulegen_services{{ip_family=\"IPv4\"}} {SERVICES}\n"))
        })
    };
    within(DEADLINE, "all rules are written", count);
    let start = Instant::now();
    let mut version = 0;
    while start.elapsed() < CHURN {
        version += 1;
        let file = version % files;
        manifests.put(&format!("many-{file}.json"), &many(range(file), version % 50));
        thread::sleep(Duration::from_millis(50));
    }
    within(DEADLINE, "the last change is written", || agent.is_in_sync());
    assert_healthy(&agent, "after the churn");
    assert_eq!(cgroup.kills(), 0, "the kernel killed a process");
    let peak = cgroup.peak();
    assert!(peak < limit, "{peak} of {limit} bytes");
}

/// A kernel with ipv6.disable=1 has no IPv6 sysctls and no IPv6 sockets.
#[test]
fn ipv6_missing_in_kernel_keeps_ipv4_working() {
    in_both_modes(|mode| {
        let node = Namespace::new(&format!("no-ipv6-{mode}"));
        let manifests = Manifests::new(&node);
        manifests.put("one.yaml", &service(1, &["10.0.0.1"]));
        let empty = node.folder("empty");
        let hide = format!("mount --bind {} /proc/sys/net/ipv6 && exec \"$@\"\n", empty.display());
        let script = node.file("hide.sh", &hide);
        let runner = format!("{} FAULT_NO_IPV6=1 unshare --mount sh {script}", preload(&node));
        let agent = Agent::start_with_runner(&runner, &node, &manifests, &flags(mode));
        let right = || {
            let (folder, flags) = (manifests.path.display(), flags(mode));
            let diff =
                format!("diff -f {folder} --hostname-override node-1 --ip-family ipv4 {flags}");
            node.rulegen(&diff).status.success()
        };
        eventually("rules of IPv4 are written", right);
        manifests.put("one.yaml", &service(1, &["10.0.0.2"]));
        eventually("a change is written", right);
        assert_healthy(&agent, mode);
        assert_no_flood(&agent);
        let log = agent.log();
        let lines =
            log.lines().filter(|line| line.contains("IPv6 is unavailable or disabled")).count();
        assert_eq!(lines, 1, "{log}");
        assert!(!log.contains("ERROR"), "{log}");
        let ipv6 = node.run("nft list tables ip6");
        assert_eq!(ipv6, "", "{mode}: IPv6 tables were created");
    });
}
