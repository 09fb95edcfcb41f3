//! An agent process in a namespace, and the folder of manifests that it watches.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::namespace::{Namespace, StopOnDrop};
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

/// The deadline for a condition to become true, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Ports of health checks, and of metrics and status pages.
pub(crate) const HEALTH_PORT: u16 = 10256;
pub(crate) const METRICS_PORT: u16 = 10249;

const HOSTNAME: &str = "--hostname-override node-1";

/// The default, unless a test sets another mode.
const MODE: &str = "--proxy-mode nftables";

/// The size of the conntrack table and the OOM score belong to the machine. Do not change them.
const NO_GLOBAL_SETTINGS: &str = "--conntrack-max-per-core 0 --oom-score-adj 0";

/// Polls a condition.
pub(crate) fn eventually(what: &str, is_met: impl FnMut() -> bool) -> Duration {
    within(SOON, what, is_met)
}

/// Like [`eventually`], with another deadline. Returns how long it took.
pub(crate) fn within(deadline: Duration, what: &str, mut is_met: impl FnMut() -> bool) -> Duration {
    let start_time = Instant::now();
    while !is_met() {
        assert!(start_time.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    start_time.elapsed()
}

/// A folder of manifests. Files are written outside of it and moved in, unless a test does
/// otherwise.
pub(crate) struct Manifests {
    pub(crate) path: PathBuf,
    outside: PathBuf,
}

impl Manifests {
    /// Starts with one manifest: without any, the agent would keep its current rules.
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let manifests =
            Self { path: namespace.folder("manifests"), outside: namespace.folder("outside") };
        manifests.put("nothing.yaml", NOTHING);
        manifests
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Adds or replaces a file atomically.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::rename(self.outside(name, text), self.file(name)).unwrap();
    }

    /// Writes a file on the same disk but outside the folder.
    pub(crate) fn outside(&self, name: &str, text: &str) -> PathBuf {
        let file = self.outside.join(name);
        fs::write(&file, text).unwrap();
        file
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

/// A manifest that makes no rules. There is no ServiceCIDR: with one, packets without rules would
/// be dropped, the client would send them again a second later, and the test would miss the
/// failure.
pub(crate) const NOTHING: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: nothing}}\n";

/// The cluster IP of Service number n.
pub(crate) fn cluster_ip(n: usize) -> SocketAddr {
    SocketAddr::new(format!("10.96.1.{n}").parse().unwrap(), 80)
}

/// Service number n, with these endpoints.
pub(crate) fn service(n: usize, endpoints: &[&str]) -> String {
    service_with(n, "", endpoints)
}

/// Like [`service`], with more fields in the spec, each followed by a comma.
pub(crate) fn service_with(n: usize, more: &str, endpoints: &[&str]) -> String {
    let ip = cluster_ip(n).ip();
    let endpoints: Vec<String> =
        endpoints.iter().map(|ip| format!("{{addresses: [{ip}]}}")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{n}}}, spec: {{{more} \
         clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{port: 80}}]}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: s{n}, labels: {{kubernetes.io/service-name: s{n}}}}}, \
         ports: [{{port: 8080}}], endpoints: [{endpoints}]}}\n"
    )
}

/// A running agent. Dropping it sends SIGKILL.
pub(crate) struct Agent<'a> {
    namespace: &'a Namespace,
    manifests: PathBuf,
    flags: String,
    log: PathBuf,
    child: Child,
}

impl<'a> Agent<'a> {
    /// With --allow-empty, because tests begin and end without any Service.
    pub(crate) fn start(namespace: &'a Namespace, manifests: &Manifests, flags: &str) -> Self {
        Self::start_with_runner("", namespace, manifests, flags)
    }

    /// Like [`Agent::start`], with a program that executes the agent, such as prlimit.
    pub(crate) fn start_with_runner(
        runner: &str,
        namespace: &'a Namespace,
        manifests: &Manifests,
        flags: &str,
    ) -> Self {
        let mode = if flags.contains("--proxy-mode") { "" } else { MODE };
        let flags = format!("{HOSTNAME} {mode} --allow-empty {flags}");
        Self::start_with(runner, namespace, manifests, flags)
    }

    /// Like [`Agent::start`], but without --allow-empty.
    pub(crate) fn start_without_allow_empty(
        namespace: &'a Namespace,
        manifests: &Manifests,
    ) -> Self {
        Self::start_with("", namespace, manifests, format!("{HOSTNAME} {MODE}"))
    }

    fn start_with(
        runner: &str,
        namespace: &'a Namespace,
        manifests: &Manifests,
        flags: String,
    ) -> Self {
        let log = PathBuf::from(namespace.lock_file()).with_file_name("agent.log");
        // The log of a failed test should show what the agent did.
        let verbosity = if flags.contains("-v") { "" } else { "-v2" };
        // /run/rulegen belongs to the machine.
        let state = log.with_file_name("state");
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name])
            .args(runner.split_whitespace())
            .args([env!("CARGO_BIN_EXE_rulegen"), "agent"])
            .arg("--manifests")
            .arg(&manifests.path)
            .args(flags.split_whitespace())
            .args(NO_GLOBAL_SETTINGS.split(' '))
            .arg("--state-dir")
            .arg(state)
            .args(verbosity.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { namespace, manifests: manifests.path.clone(), flags, log, child }
    }

    /// The exit status, if it has exited.
    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its folder in /proc. `ip netns exec` replaces itself with the program, so the process ID is
    /// the agent's.
    pub(crate) fn process(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), || self.log().contains(text));
    }

    /// Whether the kernel is in sync with the folder.
    pub(crate) fn is_in_sync(&self) -> bool {
        let (folder, flags) = (self.manifests.display(), &self.flags);
        self.namespace.rulegen(&format!("diff -f {folder} {flags}")).status.success()
    }

    pub(crate) fn wait_until_in_sync(&self) -> Duration {
        eventually("the kernel is in sync with the folder", || self.is_in_sync())
    }

    /// The status and body of an HTTP response.
    pub(crate) fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        get(self.namespace, port, path)
    }

    /// The value of a metric with these labels; 0 if it does not exist yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get(METRICS_PORT, "/metrics").expect("no metrics");
        let mut lines = body.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// The number of syncs so far.
    pub(crate) fn syncs(&self) -> f64 {
        self.metric(r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}"#)
    }
}

/// The status and body of an HTTP response from a namespace's loopback address.
pub(crate) fn get(namespace: &Namespace, port: u16, path: &str) -> Option<(u16, String)> {
    let answer = namespace.inside(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

impl Drop for Agent<'_> {
    #[allow(clippy::print_stderr, reason = "part of the output of a failed test")]
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(30);
            eprintln!("last log lines of the agent:\n{}", lines[last..].join("\n"));
        }
    }
}

/// Counts the answers to a continuous series of requests.
#[derive(Default)]
pub(crate) struct RequestCounter {
    answered: AtomicUsize,
    stop: AtomicBool,
    has_failed: AtomicBool,
}

impl RequestCounter {
    /// The number of answered requests. Panics if a request failed.
    pub(crate) fn answered(&self) -> usize {
        assert!(!self.has_failed.load(Ordering::Relaxed), "a request failed");
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for this many more answers.
    pub(crate) fn wait_for(&self, more: usize) {
        let goal = self.answered() + more;
        eventually("requests are answered", || self.answered() >= goal);
    }
}

/// Runs `work` while a pod of the node connects to a Service continuously. No connection may fail.
pub(crate) fn during_requests(lab: &Topology, to: SocketAddr, work: impl FnOnce(&RequestCounter)) {
    let requests = RequestCounter::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !requests.stop.load(Ordering::Relaxed) {
                let answer = lab.ask_with_long_timeout(From::BridgedPod, Proto::Tcp, to);
                if !matches!(answer, Answer::From { .. }) {
                    requests.has_failed.store(true, Ordering::Relaxed);
                    panic!("{to}: {answer:?}");
                }
                requests.answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = StopOnDrop(&requests.stop);
        work(&requests);
        requests.wait_for(1);
    });
}
