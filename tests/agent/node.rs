//! A node with an API server and the agent on it, all in a network namespace.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rulegen_kernel::nftables::{Generation, NfTables};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Kind};
use crate::common::{stderr, stdout};
use crate::namespace::Namespace;
use crate::objects::{ELSEWHERE, HERE, NODE, NODE_IP, cluster, cluster_ip};
use crate::traffic::{Answer, Proto, ask, serve};

/// Deadline of all waits: the machine may be busy, and the API client pauses for up to a few seconds
/// between attempts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const HEALTH_PORT: u16 = 10256;
pub(crate) const METRICS_PORT: u16 = 10249;

/// The kinds that are watched.
pub(crate) const KINDS: [Kind; 4] =
    [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];

pub(crate) struct Node {
    pub(crate) space: Namespace,
    pub(crate) server: ApiServer,
    pub(crate) kubeconfig: String,
    log: String,
    agent: Option<Child>,
}

impl Node {
    /// A node of the tests' cluster, on which the agent does not run yet.
    pub(crate) fn new(label: &str) -> Self {
        let space = Namespace::new(label);
        // The other end of the veth pair drops these packets: it has another MAC address.
        space.run(&format!(
            "ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up; \
             ip addr add {NODE_IP}/24 dev eth0; \
             ip neigh add 192.168.50.254 lladdr 02:00:00:00:00:02 dev eth0; \
             ip route add default via 192.168.50.254"
        ));
        for ip in HERE.into_iter().chain([ELSEWHERE]) {
            space.run(&format!("ip addr add {ip}/32 dev lo"));
        }
        let server =
            ApiServer::start_on(space.inside(|| TcpListener::bind("127.0.0.1:0").unwrap()));
        server.apply_many(cluster());
        let kubeconfig = space.file("kubeconfig", &server.kubeconfig());
        let log = space.file("agent.log", "");
        Self { space, server, kubeconfig, log, agent: None }
    }

    /// The same, with a running agent that is in sync.
    pub(crate) fn in_sync(label: &str) -> Self {
        Self::in_sync_with(label, |_| {})
    }

    /// The same, with a server or proxy that knows only JSON.
    pub(crate) fn in_sync_by_json(label: &str) -> Self {
        Self::in_sync_with(label, ApiServer::answer_json_only)
    }

    /// The same, with a server without streaming lists.
    pub(crate) fn in_sync_by_pages(label: &str) -> Self {
        Self::in_sync_with(label, ApiServer::lack_watch_lists)
    }

    fn in_sync_with(label: &str, change: impl Fn(&ApiServer)) -> Self {
        let mut node = Self::new(label);
        change(&node.server);
        node.start("");
        node.settle();
        node.wait_for_watches();
        node
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self, flags: &str) {
        let log = OpenOptions::new().append(true).open(&self.log).unwrap();
        self.start_with_log(flags, log.into());
    }

    /// Starts the agent with another destination for its log.
    pub(crate) fn start_with_log(&mut self, flags: &str, log: Stdio) {
        assert!(self.agent.is_none(), "one agent at a time");
        let (name, kubeconfig) = (&self.space.name, &self.kubeconfig);
        // Settings of the whole machine are left alone, and /run/rulegen.
        let state = Path::new(kubeconfig).with_file_name("state");
        let arguments = format!(
            "netns exec {name} setpriv --pdeathsig KILL {} agent \
             --kubeconfig {kubeconfig} --hostname-override {NODE} --proxy-mode nftables \
             --healthz-bind-address 127.0.0.1:{HEALTH_PORT} \
             --conntrack-max-per-core 0 --conntrack-min 0 --oom-score-adj 0 -v 2 \
             --state-dir {} {flags}",
            env!("CARGO_BIN_EXE_rulegen"),
            state.display()
        );
        // `ip` and `setpriv` become the program: their process is the agent's. It dies with the
        // thread that started it, also if no destructor runs.
        let agent = Command::new("ip")
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.agent = Some(agent.unwrap());
    }

    /// Runs a command that reads from the API server.
    pub(crate) fn command(&self, command: &str) -> Output {
        let kubeconfig = &self.kubeconfig;
        self.space
            .rulegen(&format!("{command} --kubeconfig {kubeconfig} --hostname-override {NODE}"))
    }

    /// Ends the agent with a signal. Returns its exit status and how long it took.
    pub(crate) fn stop(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let mut agent = self.agent.take().expect("the agent runs");
        let begun = Instant::now();
        kill(Pid::from_raw(agent.id().cast_signed()), signal).unwrap();
        let status = agent.wait().unwrap();
        (status, begun.elapsed())
    }

    /// Waits until the agent exits by itself. Returns its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let mut agent = self.agent.take().expect("the agent runs");
        let mut code = None;
        wait_until("the agent ends", || {
            code = agent.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        code.flatten()
    }

    /// Process ID of the agent.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent runs").id()
    }

    /// The agent's log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Number of log lines that contain a text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until this number of lines contain the text, and fails if there are more. A separate thread
    /// writes the log, so a line may appear later than the metric of the same event.
    pub(crate) fn assert_logged(&self, text: &str, count: usize) {
        wait_until(&format!("{text:?} is logged"), || self.logged(text) >= count);
        assert_eq!(self.logged(text), count, "{text:?}: {}", self.log());
    }

    /// Waits until the agent watches all kinds.
    pub(crate) fn wait_for_watches(&self) {
        KINDS.iter().for_each(|kind| self.server.wait_for_watch(*kind, PATIENCE));
    }

    /// Whether the kernel has a table of the agent.
    pub(crate) fn has_rules(&self) -> bool {
        self.space.run("nft list tables").contains("rulegen")
    }

    /// The kernel's rules, as nft prints them.
    pub(crate) fn rules(&self) -> String {
        self.space.run("nft -s list ruleset")
    }

    /// The ruleset's generation, which each commit increases.
    pub(crate) fn generation(&self) -> Generation {
        self.space.inside(|| NfTables::open().unwrap().generation().unwrap())
    }

    /// The output of `rulegen diff` for these objects; `None` if the kernel is in sync.
    pub(crate) fn difference(&self, objects: &[Value]) -> Option<String> {
        let list = json!({"kind": "List", "apiVersion": "v1", "items": objects});
        let file = self.space.file("objects.json", &list.to_string());
        let output = self
            .space
            .rulegen(&format!("diff -f {file} --hostname-override {NODE} --proxy-mode nftables"));
        match output.status.code() {
            Some(0) => None,
            Some(1) => Some(stdout(&output)),
            _ => panic!("the dry run failed: {}", stderr(&output)),
        }
    }

    /// Waits until `rulegen diff` finds no difference between the kernel and the server's objects.
    pub(crate) fn settle(&self) {
        self.settle_at(&self.server.objects());
    }

    /// The same for these objects.
    pub(crate) fn settle_at(&self, objects: &[Value]) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(difference) = self.difference(objects) {
            assert!(
                Instant::now() < deadline,
                "not in sync:
{difference}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends GET to a port; `None` if the port is closed.
    pub(crate) fn get(&self, port: u16, path: &str) -> Option<Answered> {
        self.get_at(SocketAddr::from(([127, 0, 0, 1], port)), path)
    }

    /// The same at the node's address, where node ports are open.
    pub(crate) fn get_at_node_port(&self, port: u16, path: &str) -> Option<Answered> {
        self.get_at(SocketAddr::new(NODE_IP.parse().unwrap(), port), path)
    }

    fn get_at(&self, at: SocketAddr, path: &str) -> Option<Answered> {
        let mut stream = self.space.inside(|| TcpStream::connect(at)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answered { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    /// The HTTP status of a health endpoint; 0 if the port is closed.
    pub(crate) fn probe(&self, path: &str) -> u16 {
        self.get(HEALTH_PORT, path).map_or(0, |answered| answered.status)
    }

    /// The sum of a metric over all labels; `None` if the metric does not exist.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get(METRICS_PORT, "/metrics")?.body;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| line.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.reduce(|a, b| a + b)
    }

    /// Sends a request from the node to a Service's cluster IP.
    pub(crate) fn ask(&self, number: usize) -> Answer {
        let to = SocketAddr::new(cluster_ip(number).parse().unwrap(), 80);
        ask(&self.space, Proto::Tcp, NODE_IP.parse().unwrap(), to)
    }

    /// Starts servers at the node's endpoints.
    pub(crate) fn serve(&self) {
        for ip in HERE {
            serve(&self.space, SocketAddr::new(ip.parse().unwrap(), 8080));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(60);
            eprintln!("the agent's log ends with:\n{}", lines[last..].join("\n"));
        }
    }
}

/// A response to GET.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Whether an endpoint answered.
pub(crate) fn is_from(answer: Answer, endpoint: &str) -> bool {
    let wanted: IpAddr = endpoint.parse().unwrap();
    matches!(answer, Answer::From { endpoint, .. } if endpoint.ip() == wanted)
}

/// Waits for a condition.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timeout after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
