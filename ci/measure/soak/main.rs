//! Soak test: runs the agent under random changes for a long time, and checks rules, memory and
//! latency. Run by `ci/soak`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a soak test panics if it fails"
)]

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::expect_used,
    reason = "written for tests"
)]
#[path = "../../../tests/agent/api_server/mod.rs"]
mod api_server;
mod churn;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../namespace.rs"]
mod namespace;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use api_server::ApiServer;
use churn::Churn;
use namespace::Namespace;

/// Allowed growth in MB from the first to the last quarter of the run: free memory is returned
/// only now and then.
const GROWTH: f64 = 10.0;

/// Maximum number of open files and sockets.
const DESCRIPTORS: usize = 64;

/// How often the kernel is compared with a fresh compile.
const CHECK: Duration = Duration::from_secs(10);

/// Time after the last change until the kernel must be in sync.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time until flushed rules must be back, plus the time of a comparison.
const REPAIR: Duration = Duration::from_secs(2);

/// The client's timeout, and its interval between requests.
const ANSWER: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(20);

fn main() {
    let options = Options::parse(std::env::args().skip(1));
    let end = Duration::from_secs(60 * options.minutes);
    let mut soak = Soak::begin(options);
    let end = Instant::now() + end;
    while Instant::now() < end {
        soak.round();
    }
    soak.finish();
}

/// The command line: `[MINUTES] [--services N] [FLAG...]`.
struct Options {
    minutes: u64,
    /// Maximum number of Services besides the probed one.
    services: u64,
    /// Flags of the agent and of the comparison, such as `--proxy-mode iptables`.
    flags: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self { minutes: 60, services: 500, flags: Vec::new() };
        while let Some(arg) = args.next() {
            match (arg.as_str(), arg.parse()) {
                // cargo bench adds it.
                ("--bench", _) => {}
                ("--services", _) => {
                    let count = args.next().and_then(|count| count.parse().ok());
                    options.services =
                        count.unwrap_or_else(|| panic!("--services requires a number"));
                }
                (_, Ok(minutes)) if options.flags.is_empty() => options.minutes = minutes,
                _ => options.flags.push(arg),
            }
        }
        if !options.flags.iter().any(|flag| flag.starts_with("--proxy-mode")) {
            options.flags.extend(["--proxy-mode", "nftables"].map(str::to_owned));
        }
        options
    }

    /// A command line that flushes all rules of the variant in use.
    fn flush(&self) -> &'static str {
        if self.flags.iter().any(|flag| flag.contains("legacy")) {
            "iptables-legacy -t nat -F; iptables-legacy -F"
        } else {
            "nft flush ruleset"
        }
    }
}

struct Soak {
    options: Options,
    namespace: Namespace,
    server: ApiServer,
    churn: Churn,
    agent: Child,
    client: Arc<Client>,
    begun: Instant,
    rounds: usize,
    restarts: usize,
    wrong: usize,
    slowest: Duration,
    /// Kilobytes and descriptors at the end of each round since the last restart.
    sizes: Vec<(u64, usize)>,
}

#[derive(Default)]
struct Client {
    asked: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
    /// Locked during a request. Without rules no request is answered, which is not the agent's fault.
    asks: Mutex<()>,
}

impl Soak {
    fn begin(options: Options) -> Self {
        let namespace = Namespace::new();
        namespace.run(
            "ip link set lo up; ip addr add 10.200.0.1/32 dev lo; ip addr add 10.200.0.2/32 dev lo; \
             ip route add 10.96.0.0/16 dev lo",
        );
        let server =
            namespace.inside(|| ApiServer::start_on(TcpListener::bind("127.0.0.1:0").unwrap()));
        fs::write(scratch().join("kubeconfig"), server.kubeconfig()).unwrap();
        let churn = Churn::begin(&server, options.services);
        for ip in ["10.200.0.1", "10.200.0.2"] {
            let listener = namespace.inside(|| TcpListener::bind((ip, 8080)).unwrap());
            thread::spawn(move || answer(&listener));
        }
        let agent = start(&namespace, &options.flags);
        let client = Arc::new(Client::default());
        let soak = Self {
            options,
            namespace,
            server,
            churn,
            agent,
            client,
            begun: Instant::now(),
            rounds: 0,
            restarts: 0,
            wrong: 0,
            slowest: Duration::ZERO,
            sizes: Vec::new(),
        };
        soak.wait_until_in_sync();
        soak.start_client();
        soak
    }

    fn round(&mut self) {
        let until = Instant::now() + CHECK;
        while Instant::now() < until {
            self.churn.change(&self.server);
        }
        self.trouble();
        let took = self.wait_until_in_sync();
        self.slowest = self.slowest.max(took.unwrap_or(PATIENCE));
        if took.is_none() {
            self.wrong += 1;
            println!("WRONG after {:?}: the kernel differs from a fresh compile", PATIENCE);
        }
        self.sizes.push((resident(&self.agent), descriptors(&self.agent)));
        self.rounds += 1;
        if self.rounds.is_multiple_of(6) {
            self.tell();
        }
    }

    /// Disturbances, each with its own interval.
    fn trouble(&mut self) {
        match self.rounds % 60 {
            7 => self.server.disconnect_all(),
            17 => {
                self.server.expire_history();
                self.server.disconnect_all();
            }
            27 | 57 => {
                let client = Arc::clone(&self.client);
                let _nobody_asks = client.asks.lock().unwrap();
                self.namespace.run(self.options.flush());
                if self.wait_until_in_sync().is_none_or(|took| took > REPAIR) {
                    self.wrong += 1;
                    println!("WRONG: the rules were not back within {REPAIR:?}");
                }
            }
            37 => self.server.restart_empty_history(),
            47 if self.rounds < 100 => {
                self.agent.kill().unwrap();
                self.agent.wait().unwrap();
                self.agent = start(&self.namespace, &self.options.flags);
                self.restarts += 1;
                self.sizes.clear();
            }
            _ => {}
        }
    }

    /// The time until the kernel matches a fresh compile of the objects.
    fn wait_until_in_sync(&self) -> Option<Duration> {
        let file = scratch().join("objects.json");
        fs::write(&file, self.churn.objects().to_string()).unwrap();
        let begun = Instant::now();
        // After a lost connection the watch restarts with back-off.
        let patience = if self.rounds % 10 == 7 { 12 * PATIENCE } else { PATIENCE };
        while begun.elapsed() < patience {
            let diff = Command::new("ip")
                .args(["netns", "exec", &self.namespace.0])
                .arg(rulegen())
                .args(["diff", "--hostname-override", "node-1", "-f"])
                .arg(&file)
                .args(&self.options.flags)
                .env("XTABLES_LOCKFILE", scratch().join("lock"))
                .output()
                .unwrap();
            if diff.status.success() {
                return Some(begun.elapsed());
            }
            thread::sleep(Duration::from_millis(50));
        }
        None
    }

    fn start_client(&self) {
        let client = Arc::clone(&self.client);
        let name = self.namespace.0.clone();
        thread::spawn(move || {
            let namespace = std::mem::ManuallyDrop::new(Namespace(name));
            namespace.inside(|| {
                while !client.stop.load(Ordering::Relaxed) {
                    let asking = client.asks.lock().unwrap();
                    client.asked.fetch_add(1, Ordering::Relaxed);
                    if !ask() {
                        client.failed.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(asking);
                    thread::sleep(BETWEEN);
                }
            });
        });
    }

    fn tell(&self) {
        let (kilobytes, descriptors) = self.sizes.last().copied().unwrap_or_default();
        println!(
            "{:>4} min  {:>6} changes  {:>6} requests, {} failed  {:>4} comparisons, {} wrong, slowest {:.2} s  {:>6.1} MB  {} descriptors",
            self.begun.elapsed().as_secs() / 60,
            self.churn.changes,
            self.client.asked.load(Ordering::Relaxed),
            self.client.failed.load(Ordering::Relaxed),
            self.rounds,
            self.wrong,
            self.slowest.as_secs_f64(),
            kilobytes as f64 / 1024.0,
            descriptors,
        );
    }

    fn finish(mut self) {
        self.client.stop.store(true, Ordering::Relaxed);
        self.tell();
        let sizes = &self.sizes;
        let quarter = (sizes.len() / 4).max(1);
        let mean = |part: &[(u64, usize)]| {
            part.iter().map(|(size, _)| *size as f64).sum::<f64>()
                / part.len().max(1) as f64
                / 1024.0
        };
        let (first, last) = (mean(&sizes[..quarter]), mean(&sizes[sizes.len() - quarter..]));
        let most = sizes.iter().map(|(_, count)| *count).max().unwrap_or_default();
        println!(
            "since the last of {} restarts: {first:.1} MB in the first quarter, {last:.1} MB in the last; at most {most} descriptors",
            self.restarts
        );
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        let failed = self.client.failed.load(Ordering::Relaxed);
        let _ = fs::remove_dir_all(scratch());
        assert!(self.wrong == 0 && failed == 0, "{} wrong, {failed} failed", self.wrong);
        assert!(last < first + GROWTH && most < DESCRIPTORS, "memory or descriptors grew");
    }
}

fn start(namespace: &Namespace, flags: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(scratch().join("agent.log"));
    Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(rulegen())
        .args(["agent", "--hostname-override", "node-1", "--conntrack-max-per-core", "0"])
        .args(flags)
        .arg("--kubeconfig")
        .arg(scratch().join("kubeconfig"))
        .env("XTABLES_LOCKFILE", scratch().join("lock"))
        .stderr(log.unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A new connection through the Service that always has a ready endpoint.
fn ask() -> bool {
    let address: SocketAddr = churn::PROBE.parse().unwrap();
    let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER) else { return false };
    let mut answer = String::new();
    stream.set_read_timeout(Some(ANSWER)).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer == "hello"
}

fn answer(listener: &TcpListener) {
    for stream in listener.incoming() {
        let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
    }
}

fn resident(agent: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn descriptors(agent: &Child) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.id())).map_or(0, Iterator::count)
}

fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rulegen-soak-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn rulegen() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rulegen"))
}

/// A stub for code shared with the benchmark, which measures memory here.
fn peak_of(_: u32) -> Option<f64> {
    None
}
