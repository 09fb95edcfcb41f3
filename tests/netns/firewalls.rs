//! ufw, firewalld and Docker from Debian's packages next to the agent. Services answer while the
//! firewall starts, reloads and stops. doctor and explain evaluate their rules as packets do.
//!
//! All of them run in the network namespace of the test, with their own folders, message bus and
//! containerd.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{root, stderr, stdout};
use crate::explain::ends;
use crate::namespace::Namespace;
use crate::running_agent::{
    Agent, Manifests, SOON, cluster_ip, during_requests, eventually, service, within,
};
use crate::topology::{ELSEWHERE_IPS, From, POD_IPS, Topology};
use crate::traffic::{Answer, Proto};

const MODES: [&str; 2] = ["nftables", "iptables"];

/// Runs the steps of a firewall in both modes, each while a pod connects to a Service.
fn services_answer_during(
    name: &str,
    steps: &[&str],
    prepare: impl Fn(&Namespace) -> Firewall + Sync,
) {
    let test = |mode: &str| services_answer_in_mode(mode, name, steps, &prepare);
    let test = &test;
    thread::scope(|scope| MODES.iter().for_each(|mode| drop(scope.spawn(move || test(mode)))));
}

fn services_answer_in_mode(
    mode: &str,
    name: &str,
    steps: &[&str],
    prepare: impl Fn(&Namespace) -> Firewall,
) {
    let lab = Topology::new(&format!("{name}-{mode}"));
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[POD_IPS[1][0], ELSEWHERE_IPS[0]]));
    let flags = format!("--proxy-mode {mode} --iptables-min-sync-period 0");
    let agent = Agent::start(&lab.node, &manifests, &flags);
    agent.wait_until_in_sync();
    let firewall = prepare(&lab.node);
    let run_step = |n: usize| {
        firewall.step(&lab.node, steps[n]);
        within(REPAIR_DEADLINE, "our rules are in sync", || agent.is_in_sync());
        let foreign_rules = foreign(&lab.node);
        // A change by the agent leaves the firewall's rules intact.
        manifests.put("two.yaml", &service(2, &[&format!("10.0.2.{n}")]));
        agent.wait_until_in_sync();
        assert_eq!(foreign(&lab.node), foreign_rules, "{name}, {mode}: after {}", steps[n]);
    };
    for n in 0..steps.len() {
        if name == "firewalld" && mode == "iptables" {
            // firewalld flushes all iptables tables, including our rules. Until the repair, new
            // connections fail.
            run_step(n);
            during_requests(&lab, cluster_ip(1), |requests| requests.wait_for(5));
        } else {
            during_requests(&lab, cluster_ip(1), |requests| {
                run_step(n);
                requests.wait_for(5);
            });
        }
    }
    let repairs = agent.metric("rulegen_drift_repairs_total");
    let limit = REPAIRS_PER_STEP * steps.len();
    assert!(repairs <= limit as f64, "{name}, {mode}: {repairs} repairs");
}

/// The time until our rules are repaired, plus the time of the check.
const REPAIR_DEADLINE: Duration = Duration::from_secs(2);

/// Maximum number of repairs per step: a firewall flushes one table at a time, and each flush may
/// cause a repair.
const REPAIRS_PER_STEP: usize = 6;

enum Firewall {
    /// A script that gets the command line of a step as an argument, and a process that it needs.
    Script {
        script: String,
        _process: Option<ChildProcess>,
    },
    Docker(Docker),
}

impl Firewall {
    fn step(&self, node: &Namespace, step: &str) {
        match self {
            Self::Script { script, .. } => {
                node.run(&format!("unshare --mount sh {script} '{step}'"));
            }
            Self::Docker(docker) => docker.step(node, step),
        }
    }
}

/// A child process that is killed when dropped.
struct ChildProcess(Child);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The foreign rules, without counters.
fn foreign(node: &Namespace) -> Vec<String> {
    let saved = node.run("iptables-nft-save; ip6tables-nft-save; nft list tables");
    let ours = |line: &str| line.contains("KUBE-") || line.contains("rulegen");
    let lines = saved.lines().filter(|line| !line.starts_with('#') && !ours(line));
    // Strips the counters of policies: ":INPUT ACCEPT [12:3456]".
    lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn firewall_ufw_does_not_break_services() {
    services_answer_during(
        "ufw",
        &["ufw --force enable", "ufw allow 22/tcp", "ufw reload", "ufw disable"],
        |node| ufw(node, "ACCEPT"),
    );
}

/// ufw with a policy of FORWARD, and copies of its files.
fn ufw(node: &Namespace, policy: &str) -> Firewall {
    let copy = node.folder("ufw");
    let copy = copy.display();
    node.run(&format!(
        "cp -r /etc/ufw {copy}/etc; cp /etc/default/ufw {copy}/default; \
         sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY=\"{policy}\"/' {copy}/default"
    ));
    let script = format!(
        "mount --bind {copy}/etc /etc/ufw && mount --bind {copy}/default /etc/default/ufw \
         && mount -t tmpfs none /run/lock && $1\n"
    );
    Firewall::Script { script: node.file("ufw.sh", &script), _process: None }
}

#[test]
fn firewall_firewalld_does_not_break_services() {
    services_answer_during(
        "firewalld",
        &["start", "firewall-cmd --add-port=22/tcp", "firewall-cmd --reload", "stop"],
        firewalld,
    );
}

fn firewalld(node: &Namespace) -> Firewall {
    let folder = node.folder("firewalld");
    let bus = start_bus(node, &folder);
    let folder = folder.display();
    let script = format!(
        "export DBUS_SYSTEM_BUS_ADDRESS=unix:path={folder}/bus\n\
         running() {{ firewall-cmd --state >{folder}/state 2>&1; }}\n\
         case $1 in\n\
         start) mkdir {folder}/config\n\
         firewalld --nofork --nopid --system-config {folder}/config \
         >{folder}/log 2>&1 & echo $! >{folder}/pid\n\
         for n in $(seq 300); do running && exit; sleep 0.1; done; cat {folder}/log >&2; exit 1;;\n\
         stop) kill $(cat {folder}/pid)\n\
         for n in $(seq 300); do running || exit 0; sleep 0.1; done; exit 1;;\n\
         *) $1;;\n\
         esac\n"
    );
    Firewall::Script { script: node.file("firewalld.sh", &script), _process: Some(bus) }
}

/// A message bus without access control.
fn start_bus(node: &Namespace, folder: &Path) -> ChildProcess {
    let socket = folder.join("bus");
    let config = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>\n",
        socket.display()
    );
    let config = node.file("bus.conf", &config);
    let bus = Command::new("ip")
        .args(["netns", "exec", &node.name, "dbus-daemon", "--nofork", "--config-file", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let bus = ChildProcess(bus);
    eventually("the message bus listens", || fs::exists(&socket).unwrap());
    bus
}

/// Docker sets the policy of FORWARD to DROP if forwarding was off when it started. An
/// administrator then has to accept pods in DOCKER-USER, the chain that Docker leaves to
/// administrators.
const DOCKER_USER: &str = "*filter\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -s 10.244.0.0/16 -j ACCEPT\n\
    -A DOCKER-USER -d 10.244.0.0/16 -j ACCEPT\nCOMMIT\n";

#[test]
fn firewall_docker_does_not_break_services() {
    let steps =
        ["start", "network", "reload", "stop", "set FORWARD to DROP", "start", "reload", "stop"];
    services_answer_during("docker", &steps, |node| Firewall::Docker(Docker::new(node)));
}

/// What docs/limits.md says about the policy of FORWARD.
#[test]
fn firewall_docker_sets_forward_drop_only_if_forwarding_was_off() {
    for (forwarding, policy) in [("1", "ACCEPT"), ("0", "DROP")] {
        let node = Namespace::new(&format!("docker-forward-{forwarding}"));
        node.run(&format!("sysctl -qw net.ipv4.ip_forward={forwarding}"));
        let docker = Docker::new(&node);
        docker.step(&node, "start");
        let rules = node.run("iptables -S FORWARD");
        assert!(rules.starts_with(&format!("-P FORWARD {policy}\n")), "{forwarding}: {rules}");
    }
}

/// A dockerd of the test.
struct Docker {
    folder: PathBuf,
    script: String,
    daemon: RefCell<Option<ChildProcess>>,
}

/// Runs dockerd with its own /run and /opt and a writable copy of /etc. `ip netns exec` mounts a
/// /sys without cgroups, and dockerd does not start without them.
const RUN_DOCKERD: &str = "\
    mount -t overlay -o lowerdir=/etc,upperdir=$1/etc,workdir=$1/work none /etc &&\n\
    mount -t tmpfs none /run && mount -t tmpfs none /opt && mount -t tmpfs none /sys/fs/cgroup &&\n\
    cd /sys/fs/cgroup || exit\n\
    if grep -q '^devices.*1$' /proc/cgroups\n\
    then mkdir devices && mount -t cgroup -o devices none devices || exit\n\
    else mount -t cgroup2 none . || exit; fi\n\
    cd $1 && exec dockerd --config-file $1/config --data-root $1/data --exec-root $1/exec \
    --pidfile $1/pid --host unix://$1/socket --storage-driver vfs \
    --iptables=true --experimental --ip6tables\n";

impl Docker {
    fn new(node: &Namespace) -> Self {
        let folder = node.folder("docker");
        fs::write(folder.join("config"), "{}").unwrap();
        ["etc", "work"].iter().for_each(|name| fs::create_dir(folder.join(name)).unwrap());
        Self { folder, script: node.file("dockerd.sh", RUN_DOCKERD), daemon: RefCell::new(None) }
    }

    fn step(&self, node: &Namespace, step: &str) {
        match step {
            "start" => self.start(node),
            "network" => {
                let network = self.client(node, "network create another");
                let bridge = format!("br-{}", &network[..12]);
                assert!(node.run("iptables -t nat -S").contains(&bridge), "no rules of {bridge}");
            }
            "reload" => {
                let reloads = || self.log().matches("Reloaded configuration").count();
                let before = reloads();
                self.signal("HUP");
                eventually("dockerd has reloaded", || reloads() > before);
            }
            "stop" => {
                self.signal("TERM");
                let mut daemon = self.daemon.take().unwrap();
                // It waits up to 15 s for its parts to end (--shutdown-timeout).
                within(4 * SOON, "dockerd has exited", || daemon.0.try_wait().unwrap().is_some());
            }
            "set FORWARD to DROP" => {
                let rules = node.file("docker-user", DOCKER_USER);
                node.run(&format!("iptables-restore --noflush {rules}; iptables -P FORWARD DROP"));
            }
            other => panic!("{other}: no such step"),
        }
    }

    /// dockerd is the first process of a PID namespace, so its children end with it. It ends with
    /// `unshare`, and that ends with the thread of the test.
    fn start(&self, node: &Namespace) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", &node.name])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", &self.script])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon.replace(Some(ChildProcess(process)));
        let answers = || node.shell(&self.command("version")).status.success();
        let start_time = Instant::now();
        while !answers() {
            assert!(start_time.elapsed() < SOON, "dockerd does not answer:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
        let rules = node.run("iptables -S FORWARD");
        assert!(rules.contains("-j DOCKER-USER"), "no rules of Docker: {rules}");
    }

    fn client(&self, node: &Namespace, arguments: &str) -> String {
        node.run(&self.command(arguments))
    }

    fn command(&self, arguments: &str) -> String {
        format!("docker --host unix://{}/socket {arguments}", self.folder.display())
    }

    fn signal(&self, signal: &str) {
        let daemon = self.daemon.borrow();
        let unshare = daemon.as_ref().expect("dockerd is not running").0.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        let children = children.unwrap();
        let status = Command::new("kill").arg(format!("-{signal}")).arg(children.trim()).status();
        assert!(status.unwrap().success(), "cannot signal {children}");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

/// What doctor and explain say beside a firewall in its default configuration, which comes first as
/// on a node that is set up.
fn diagnosis_is_right(name: &str, prepare: impl Fn(&Namespace) -> Firewall) {
    MODES.iter().for_each(|mode| diagnosis_is_right_in_mode(mode, name, &prepare));
}

fn diagnosis_is_right_in_mode(mode: &str, name: &str, prepare: impl Fn(&Namespace) -> Firewall) {
    // containerd's socket has a path of at most 107 bytes.
    let lab = Topology::new(&format!("{name}-{mode}-d"));
    let _firewall = prepare(&lab.node);
    let flags = format!("--proxy-mode {mode} --cluster-cidr 10.244.0.0/16,fd00:10:244::/48");
    lab.apply(&format!("{flags} --ip-family dual"));
    let cluster = root().join("tests/netns/cluster.yaml");
    let flags = format!("-f {} --hostname-override node-1 {flags}", cluster.display());

    let findings = firewall_findings(&lab, &flags);
    let stopped = stopped_packets(&lab, &flags);
    let errors = findings.iter().filter(|finding| finding["severity"] != "note").count();
    assert_eq!(stopped.is_empty(), errors == 0, "{name}, {mode}: {stopped:#?}\n{findings:#?}");
    if matches!(name, "ufw" | "docker") {
        assert!(!stopped.is_empty(), "{name}, {mode}: its policy of FORWARD drops nothing");
    }
    // iptables cannot show a table in which nft added rules.
    let of_iptables = |finding: &&Value| finding["what"].as_str().unwrap().contains("of ip");
    if name != "firewalld" {
        let all_of_iptables = findings.iter().filter(of_iptables).count() == findings.len();
        assert!(all_of_iptables, "{name}, {mode}: {findings:#?}");
    }
    // The remedies help, and doctor sees that.
    for finding in &findings {
        let remedy = finding["remedy"].as_str().unwrap();
        let remedy = remedy.trim_start_matches("if traffic to a Service is dropped: ");
        let (command, _) = remedy.split_once(", and persist it").expect("no command");
        lab.node.run(command);
    }
    assert_eq!(firewall_findings(&lab, &flags), Vec::<Value>::new(), "{name}, {mode}");
    let stopped = stopped_packets(&lab, &flags);
    assert_eq!(stopped, Vec::<String>::new(), "{name}, {mode}: after the remedies");
}

fn firewall_findings(lab: &Topology, flags: &str) -> Vec<Value> {
    let output = lab.node.rulegen(&format!("doctor -o json --check firewall {flags}"));
    let report: Value = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    report["checks"][0]["findings"].as_array().expect("no findings").clone()
}

/// Packets to Services that get no answer from an endpoint. explain says of each packet what
/// happens to it.
fn stopped_packets(lab: &Topology, flags: &str) -> Vec<String> {
    let clients = [From::Pod, From::BridgedPod, From::PodElsewhere, From::Node, From::Outside];
    let destinations =
        ["10.96.0.10:80", "[fd00:96::10]:80", "192.168.50.1:30010", "[fd00:50::1]:30010"];
    let mut stopped = Vec::new();
    for from in clients {
        for to in destinations.map(|to| to.parse::<SocketAddr>().unwrap()) {
            let (_, source) = lab.source(from, to);
            let explain = format!("explain --live {flags} --from {source} --to {to} -o json");
            let output = lab.node.rulegen(&explain);
            let explained: Value = serde_json::from_str(&stdout(&output))
                .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
            let all = explained["ends"].as_array().unwrap();
            let is_certain = all.iter().all(|end| end["conditions"].is_null());
            let ends = ends(&explained);
            let fits = |answer| ends.iter().any(|end| end.fits(lab, answer, source));
            let mut answer = lab.ask(from, Proto::Tcp, to);
            if answer == Answer::Silence && !fits(answer) {
                // The machine may be busy.
                answer = lab.ask_with_long_timeout(from, Proto::Tcp, to);
            }
            let is_right = fits(answer) || !is_certain;
            assert!(is_right, "{from:?} to {to}: {answer:?}\n{explained:#}");
            // Rules of IPv6 look at extension headers and reverse paths, which are not evaluated.
            let is_forwarded = from != From::Node;
            let may_be_uncertain = to.is_ipv6() || !is_forwarded;
            assert!(is_certain || may_be_uncertain, "{from:?} to {to}: {answer:?}\n{explained:#}");
            if is_forwarded && !matches!(answer, Answer::From { .. }) {
                stopped.push(format!("{from:?} to {to}: {answer:?}"));
            }
        }
    }
    stopped
}

#[test]
fn firewall_ufw_is_evaluated_by_doctor_and_explain() {
    diagnosis_is_right("ufw", |node| {
        let firewall = ufw(node, "DROP");
        firewall.step(node, "ufw --force enable");
        firewall
    });
}

#[test]
fn firewall_firewalld_is_evaluated_by_doctor_and_explain() {
    diagnosis_is_right("firewalld", |node| {
        let firewall = firewalld(node);
        firewall.step(node, "start");
        firewall
    });
}

#[test]
fn firewall_docker_is_evaluated_by_doctor_and_explain() {
    diagnosis_is_right("docker", |node| {
        // As on a node where Docker turned on forwarding.
        node.run("sysctl -qw net.ipv4.ip_forward=0");
        let docker = Docker::new(node);
        docker.step(node, "start");
        node.run("sysctl -qw net.ipv4.ip_forward=1");
        Firewall::Docker(docker)
    });
}
