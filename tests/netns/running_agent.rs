//! An agent process in a namespace, and the folder of manifests that it watches.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::namespace::{Namespace, StopAtEnd};
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

/// The deadline for a condition to become true, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Ports of health checks, and of metrics and status pages.
pub(crate) const HEALTH_PORT: u16 = 10256;
pub(crate) const METRICS_PORT: u16 = 10249;

const NAME: &str = "--hostname-override node-1";

/// The default, unless a test sets another mode.
const MODE: &str = "--proxy-mode nftables";

/// The size of the conntrack table and the OOM score belong to the machine. Do not change them.
const LEAVE_THE_MACHINE: &str = "--conntrack-max-per-core 0 --oom-score-adj 0";

/// Polls a condition.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) -> Duration {
    within(SOON, what, is_so)
}

/// Like [`eventually`], with another deadline. Returns how long it took.
pub(crate) fn within(deadline: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

/// A folder of manifests. Files are written outside of it and moved in, unless a test does
/// otherwise.
pub(crate) struct Manifests {
    pub(crate) path: PathBuf,
    beside: PathBuf,
}

impl Manifests {
    /// Starts with one manifest: without any, the agent would keep its current rules.
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let manifests =
            Self { path: namespace.folder("manifests"), beside: namespace.folder("beside") };
        manifests.put("nothing.yaml", NOTHING);
        manifests
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Adds or replaces a file atomically.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::rename(self.beside(name, text), self.file(name)).unwrap();
    }

    /// Writes a file on the same disk but outside the folder.
    pub(crate) fn beside(&self, name: &str, text: &str) -> PathBuf {
        let file = self.beside.join(name);
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
        Self::start_under("", namespace, manifests, flags)
    }

    /// Like [`Agent::start`], with a program that executes the agent, such as prlimit.
    pub(crate) fn start_under(
        runner: &str,
        namespace: &'a Namespace,
        manifests: &Manifests,
        flags: &str,
    ) -> Self {
        let mode = if flags.contains("--proxy-mode") { "" } else { MODE };
        let flags = format!("{NAME} {mode} --allow-empty {flags}");
        Self::start_with(runner, namespace, manifests, flags)
    }

    /// Like [`Agent::start`], but without --allow-empty.
    pub(crate) fn start_as_usual(namespace: &'a Namespace, manifests: &Manifests) -> Self {
        Self::start_with("", namespace, manifests, format!("{NAME} {MODE}"))
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
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name])
            .args(runner.split_whitespace())
            .args([env!("CARGO_BIN_EXE_rulegen"), "agent"])
            .arg("--manifests")
            .arg(&manifests.path)
            .args(flags.split_whitespace())
            .args(LEAVE_THE_MACHINE.split(' '))
            .args(verbosity.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { namespace, manifests: manifests.path.clone(), flags, log, child }
    }

    /// The exit status, if it has exited.
    pub(crate) fn ended(&mut self) -> Option<i32> {
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

    pub(crate) fn wait_for_log(&self, words: &str) {
        eventually(&format!("the log says {words:?}"), || self.log().contains(words));
    }

    /// Whether the kernel is in sync with the folder.
    pub(crate) fn is_right(&self) -> bool {
        let (folder, flags) = (self.manifests.display(), &self.flags);
        self.namespace.rulegen(&format!("diff -f {folder} {flags}")).status.success()
    }

    pub(crate) fn wait_until_right(&self) -> Duration {
        eventually("the kernel holds what the folder says", || self.is_right())
    }

    /// The status and body of an HTTP response.
    pub(crate) fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        get(self.namespace, port, path)
    }

    /// The value of a metric with these labels; 0 if it does not exist yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get(METRICS_PORT, "/metrics").expect("there are no metrics");
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
    #[allow(clippy::print_stderr, reason = "belongs to what a failed test tells")]
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(30);
            eprintln!("the agent said at last:\n{}", lines[last..].join("\n"));
        }
    }
}

/// Counts the answers to a continuous series of requests.
#[derive(Default)]
pub(crate) struct Asker {
    asked: AtomicUsize,
    stop: AtomicBool,
    has_failed: AtomicBool,
}

impl Asker {
    /// The number of answered requests. Panics if a request failed.
    pub(crate) fn asked(&self) -> usize {
        assert!(!self.has_failed.load(Ordering::Relaxed), "a request failed");
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for this many more answers.
    pub(crate) fn wait_for(&self, more: usize) {
        let goal = self.asked() + more;
        eventually("requests are answered", || self.asked() >= goal);
    }
}

/// Runs `work` while a pod of the node connects to a Service continuously. No connection may fail.
pub(crate) fn while_asking(lab: &Topology, to: SocketAddr, work: impl FnOnce(&Asker)) {
    let asker = Asker::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !asker.stop.load(Ordering::Relaxed) {
                let answer = lab.ask_patiently(From::BridgedPod, Proto::Tcp, to);
                if !matches!(answer, Answer::From { .. }) {
                    asker.has_failed.store(true, Ordering::Relaxed);
                    panic!("{to}: {answer:?}");
                }
                asker.asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = StopAtEnd(&asker.stop);
        work(&asker);
        asker.wait_for(1);
    });
}
