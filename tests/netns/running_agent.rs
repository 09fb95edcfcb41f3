//! The agent as a process in a namespace, and the folder of manifests that it watches.

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

/// What has to be so in the end is so after this, however hard the machine works.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Where the agent says how it is, and what it did.
pub(crate) const HEALTH_PORT: u16 = 10256;
pub(crate) const METRICS_PORT: u16 = 10249;

const NAME: &str = "--hostname-override node-1";

/// Unless a test says another.
const MODE: &str = "--proxy-mode nftables";

/// The size of the table of connections and the order of kills are the machine's, not ours to set.
const LEAVE_THE_MACHINE: &str = "--conntrack-max-per-core 0 --oom-score-adj 0";

/// Waits for something that nobody tells of.
pub(crate) fn eventually(what: &str, is_so: impl FnMut() -> bool) -> Duration {
    within(SOON, what, is_so)
}

/// The same with another deadline. Says how long it took.
pub(crate) fn within(deadline: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

/// A folder of manifests. Files are written beside it and moved in, unless a test does otherwise.
pub(crate) struct Manifests {
    pub(crate) path: PathBuf,
    beside: PathBuf,
}

impl Manifests {
    /// There always is a manifest in it: without any, the rules would stay as they are.
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let manifests =
            Self { path: namespace.folder("manifests"), beside: namespace.folder("beside") };
        manifests.put("nothing.yaml", NOTHING);
        manifests
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a file in, or in the place of another.
    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::rename(self.beside(name, text), self.file(name)).unwrap();
    }

    /// A file that is on the same disk and not in the folder.
    pub(crate) fn beside(&self, name: &str, text: &str) -> PathBuf {
        let file = self.beside.join(name);
        fs::write(&file, text).unwrap();
        file
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }
}

/// A manifest that makes no rules. There is no ServiceCIDR: what met no rules shall not just be dropped,
/// for then its client tries again a second later, and the failure is not seen.
pub(crate) const NOTHING: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: nothing}}\n";

/// The cluster IP of Service number n.
pub(crate) fn cluster_ip(n: usize) -> SocketAddr {
    SocketAddr::new(format!("10.96.1.{n}").parse().unwrap(), 80)
}

/// Service number n, with these endpoints.
pub(crate) fn service(n: usize, endpoints: &[&str]) -> String {
    service_with(n, "", endpoints)
}

/// The same with more in its specification, each part with a comma behind it.
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

/// A running agent. It is killed with the value, as hard as can be.
pub(crate) struct Agent<'a> {
    namespace: &'a Namespace,
    manifests: PathBuf,
    flags: String,
    log: PathBuf,
    child: Child,
}

impl<'a> Agent<'a> {
    /// Tests begin and end without any Service.
    pub(crate) fn start(namespace: &'a Namespace, manifests: &Manifests, flags: &str) -> Self {
        Self::start_under("", namespace, manifests, flags)
    }

    /// The same, run by a program that becomes it, such as prlimit.
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

    /// The same without the right to remove all Services.
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
        // A test that fails shall show what was done.
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

    /// With which status it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }

    /// Ends it where it is.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its process, for ip becomes the program that it is told to run.
    pub(crate) fn process(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    /// What it said until now.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn wait_for_log(&self, words: &str) {
        eventually(&format!("the log says {words:?}"), || self.log().contains(words));
    }

    /// Whether the kernel holds what the folder says.
    pub(crate) fn is_right(&self) -> bool {
        let (folder, flags) = (self.manifests.display(), &self.flags);
        self.namespace.rulegen(&format!("diff -f {folder} {flags}")).status.success()
    }

    pub(crate) fn wait_until_right(&self) -> Duration {
        eventually("the kernel holds what the folder says", || self.is_right())
    }

    /// What it answers at one of its ports: the status and the body.
    pub(crate) fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        get(self.namespace, port, path)
    }

    /// The value of a metric, with its labels; 0 if it is not there yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get(METRICS_PORT, "/metrics").expect("there are no metrics");
        let mut lines = body.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// How many syncs there were.
    pub(crate) fn syncs(&self) -> f64 {
        self.metric(r#"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}"#)
    }
}

/// What is answered at a port of a namespace's loopback address: the status and the body.
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

/// Counts the answers to requests that are made all the time.
#[derive(Default)]
pub(crate) struct Asker {
    asked: AtomicUsize,
    stop: AtomicBool,
    has_failed: AtomicBool,
}

impl Asker {
    /// How many were answered until now; no other has been made.
    pub(crate) fn asked(&self) -> usize {
        assert!(!self.has_failed.load(Ordering::Relaxed), "a request failed");
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many more were answered.
    pub(crate) fn wait_for(&self, more: usize) {
        let goal = self.asked() + more;
        eventually("requests are answered", || self.asked() >= goal);
    }
}

/// Does something while a pod of the node makes connections to a Service, one after the other. None
/// of them may fail.
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
