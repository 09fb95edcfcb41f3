//! Firewalls of Debian beside the agent: they start, reload and stop, and Services go on.
//!
//! ufw and firewalld are run as they are, with folders and a message bus of their own. Docker is a
//! replay of the commands by which dockerd makes and removes its chains.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::lab::{ELSEWHERE_IPS, Lab, POD_IPS};
use crate::namespace::Namespace;
use crate::running_agent::{
    Agent, Manifests, cluster_ip, eventually, service, while_asking, within,
};

const MODES: [&str; 2] = ["nftables", "iptables"];

/// One firewall does all that it does while a pod asks a Service.
fn goes_on_beside(name: &str, steps: &[&str], prepare: impl Fn(&Namespace) -> Steps + Sync) {
    let test = |mode: &str| goes_on_in_mode(mode, name, steps, &prepare);
    let test = &test;
    thread::scope(|scope| MODES.iter().for_each(|mode| drop(scope.spawn(move || test(mode)))));
}

fn goes_on_in_mode(mode: &str, name: &str, steps: &[&str], prepare: impl Fn(&Namespace) -> Steps) {
    let lab = Lab::new(&format!("{name}-{mode}"));
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[POD_IPS[1][0], ELSEWHERE_IPS[0]]));
    let flags = format!("--proxy-mode {mode} --iptables-min-sync-period 0");
    let agent = Agent::start(&lab.node, &manifests, &flags);
    agent.wait_until_right();
    let firewall = prepare(&lab.node);
    let take = |n: usize| {
        firewall.run(&lab.node, steps[n]);
        within(REPAIR, "our rules are in", || agent.is_right());
        let theirs = foreign(&lab.node);
        // A change of ours meanwhile takes nothing of theirs away.
        manifests.put("two.yaml", &service(2, &[&format!("10.0.2.{n}")]));
        agent.wait_until_right();
        assert_eq!(foreign(&lab.node), theirs, "{name}, {mode}: after {}", steps[n]);
    };
    for n in 0..steps.len() {
        if name == "firewalld" && mode == "iptables" {
            // It flushes all tables of iptables, ours with them: until they are repaired no new
            // connection finds its endpoint.
            take(n);
            while_asking(&lab, cluster_ip(1), |asker| asker.wait_for(5));
        } else {
            while_asking(&lab, cluster_ip(1), |asker| {
                take(n);
                asker.wait_for(5);
            });
        }
    }
    let repairs = agent.metric("rulegen_drift_repairs_total");
    let most = REPAIRS_OF_STEP * steps.len();
    assert!(repairs <= most as f64, "{name}, {mode}: {repairs} repairs");
}

/// Our rules are back after this, with what it takes to look.
const REPAIR: Duration = Duration::from_secs(2);

/// A firewall flushes a table at a time. Each may be seen and repaired.
const REPAIRS_OF_STEP: usize = 6;

/// The command that makes a firewall do something.
struct Steps {
    /// A script that takes the command line of a step.
    script: String,
    /// What runs beside it.
    _beside: Option<Beside>,
}

impl Steps {
    fn run(&self, node: &Namespace, step: &str) {
        node.run(&format!("unshare --mount sh {} '{step}'", self.script));
    }
}

/// A process that ends with its test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rules that are not ours, without counters.
fn foreign(node: &Namespace) -> Vec<String> {
    let saved = node.run("iptables-nft-save; ip6tables-nft-save; nft list tables");
    let ours = |line: &str| line.contains("KUBE-") || line.contains("rulegen");
    let lines = saved.lines().filter(|line| !line.starts_with('#') && !ours(line));
    // Counters of policies: ":INPUT ACCEPT [12:3456]".
    lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn services_go_on_beside_ufw() {
    goes_on_beside(
        "ufw",
        &["ufw --force enable", "ufw allow 22/tcp", "ufw reload", "ufw disable"],
        |node| {
            let copy = node.folder("ufw");
            let copy = copy.display();
            node.run(&format!(
                "cp -r /etc/ufw {copy}/etc; cp /etc/default/ufw {copy}/default; \
                 sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY=\"ACCEPT\"/' {copy}/default"
            ));
            let script = format!(
                "mount --bind {copy}/etc /etc/ufw && mount --bind {copy}/default /etc/default/ufw \
                 && mount -t tmpfs none /run/lock && $1\n"
            );
            Steps { script: node.file("ufw.sh", &script), _beside: None }
        },
    );
}

#[test]
fn services_go_on_beside_firewalld() {
    goes_on_beside(
        "firewalld",
        &["start", "firewall-cmd --add-port=22/tcp", "firewall-cmd --reload", "stop"],
        |node| {
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
            Steps { script: node.file("firewalld.sh", &script), _beside: Some(bus) }
        },
    );
}

/// A message bus on which everybody may do everything.
fn start_bus(node: &Namespace, folder: &Path) -> Beside {
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
    let bus = Beside(bus);
    eventually("the message bus listens", || fs::exists(&socket).unwrap());
    bus
}

/// In the order in which Docker 20.10 makes them. Its policy drops what is forwarded; that pods may
/// be forwarded is said in the chain that it leaves to others.
const DOCKER_START: &str = "\
iptables -t nat -N DOCKER
iptables -t filter -N DOCKER
iptables -t filter -N DOCKER-ISOLATION-STAGE-1
iptables -t filter -N DOCKER-ISOLATION-STAGE-2
iptables -t filter -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -t filter -A DOCKER-ISOLATION-STAGE-2 -j RETURN
iptables -t filter -N DOCKER-USER
iptables -t filter -A DOCKER-USER -s 10.244.0.0/16 -j ACCEPT
iptables -t filter -A DOCKER-USER -d 10.244.0.0/16 -j ACCEPT
iptables -t filter -A DOCKER-USER -j RETURN
iptables -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -I DOCKER -i docker0 -j RETURN
iptables -t filter -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -t filter -I FORWARD -i docker0 -o docker0 -j ACCEPT
iptables -t filter -I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -t filter -I FORWARD -o docker0 -j DOCKER
iptables -t filter -I FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -t filter -I FORWARD -j DOCKER-USER
iptables -t filter -P FORWARD DROP
";

/// A restart makes the rules of nat and of isolation again.
const DOCKER_RELOAD: &str = "\
iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -D OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -F DOCKER
iptables -t nat -X DOCKER
iptables -t nat -N DOCKER
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -I DOCKER -i docker0 -j RETURN
iptables -t filter -D FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -t filter -I FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -t filter -D FORWARD -j DOCKER-USER
iptables -t filter -I FORWARD -j DOCKER-USER
";

/// It leaves its rules; its users then flush what is named after it.
const DOCKER_STOP: &str = "\
iptables -t filter -P FORWARD ACCEPT
iptables -t filter -D FORWARD -j DOCKER-USER
iptables -t filter -D FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -t filter -D FORWARD -o docker0 -j DOCKER
iptables -t filter -F DOCKER-USER
iptables -t filter -X DOCKER-USER
";

#[test]
fn services_go_on_beside_docker() {
    goes_on_beside("docker", &[DOCKER_START, DOCKER_RELOAD, DOCKER_STOP], |node| Steps {
        script: node.file("docker.sh", "set -e\neval \"$1\"\n"),
        _beside: None,
    });
}
