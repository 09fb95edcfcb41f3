//! The whole agent with a folder of manifests, observed by packets.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::rounds;
use crate::namespace::Namespace;
use crate::nftables::json_service;
use crate::running_agent::{
    Agent, HEALTH_PORT, METRICS_PORT, Manifests, NOTHING, SOON, cluster_ip, during_requests,
    eventually, service, service_with, within,
};
use crate::topology::{ELSEWHERE_IPS, From, POD_IPS, POD_PORT, Topology};
use crate::traffic::{Answer, Proto, ask};

const FIRST: &str = POD_IPS[0][0];
const SECOND: &str = POD_IPS[1][0];
const ELSEWHERE: &str = ELSEWHERE_IPS[0];

/// How long a test checks that an event has no effect. The agent reacts many times faster.
const OBSERVED_TIME: Duration = Duration::from_millis(700);

fn endpoint(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), POD_PORT)
}

fn answers(lab: &Topology, n: usize, ip: &str) -> bool {
    let answer = lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(n));
    matches!(answer, Answer::From { endpoint: from, .. } if from == endpoint(ip))
}

fn wait_until_answers(lab: &Topology, n: usize, ip: &str) {
    eventually(&format!("{ip} answers for Service {n}"), || answers(lab, n, ip));
}

fn wait_until_silent(lab: &Topology, n: usize) {
    eventually(&format!("Service {n} is not answered"), || {
        lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(n)) == Answer::Silence
    });
}

/// Asserts that the endpoint keeps answering for [`WHILE`].
///
/// A busy machine may lose the first packet of a connection, and TCP sends it again after a second.
/// Without rules the second packet is not answered either.
fn assert_keeps_answering(lab: &Topology, n: usize, ip: &str) {
    let start = Instant::now();
    while start.elapsed() < OBSERVED_TIME {
        let answer = lab.ask_with_long_timeout(From::BridgedPod, Proto::Tcp, cluster_ip(n));
        let is_expected =
            matches!(answer, Answer::From { endpoint: from, .. } if from == endpoint(ip));
        assert!(is_expected, "{ip} no longer answers for Service {n}: {answer:?}");
    }
}

fn append(file: &mut File, text: &str) {
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn manifests_added_changed_and_removed_move_packets() {
    let lab = Topology::new("agent-files");
    let manifests = Manifests::new(&lab.node);
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    let health = agent.get(HEALTH_PORT, "/healthz").expect("no answer");
    assert_eq!(health.0, 200, "{}", health.1);

    fs::write(manifests.file("one.yaml"), service(1, &[FIRST])).unwrap();
    wait_until_answers(&lab, 1, FIRST);
    fs::write(manifests.file("one.yaml"), service(1, &[SECOND])).unwrap();
    wait_until_answers(&lab, 1, SECOND);
    manifests.put("one.yaml", &service(1, &[ELSEWHERE]));
    wait_until_answers(&lab, 1, ELSEWHERE);
    // A file with a second hard link outside the folder.
    let elsewhere = manifests.outside("two", &service(2, &[FIRST]));
    fs::hard_link(elsewhere, manifests.file("two.yml")).unwrap();
    wait_until_answers(&lab, 2, FIRST);
    during_requests(&lab, cluster_ip(1), |_| {
        fs::rename(manifests.file("one.yaml"), manifests.file("other.json")).unwrap();
        manifests.put("two.yml", &service(2, &[SECOND]));
        wait_until_answers(&lab, 2, SECOND);
    });
    manifests.remove("two.yml");
    wait_until_silent(&lab, 2);
    // Not the file name of a manifest.
    fs::rename(manifests.file("other.json"), manifests.file("other.json.off")).unwrap();
    wait_until_silent(&lab, 1);
    agent.wait_until_in_sync();
    assert_eq!(agent.get(HEALTH_PORT, "/healthz").unwrap().0, 200);
}

/// While a writer is at the first document of a file, the second is missing.
#[test]
fn manifest_half_written_removes_nothing() {
    let lab = Topology::new("agent-half");
    let manifests = Manifests::new(&lab.node);
    let path = manifests.file("both.yaml");
    manifests.put("both.yaml", &(service(1, &[FIRST]) + &service(2, &[FIRST])));
    let _agent = Agent::start(&lab.node, &manifests, "");
    wait_until_answers(&lab, 2, FIRST);
    during_requests(&lab, cluster_ip(2), |_| {
        let mut file = File::create(&path).unwrap();
        append(&mut file, &service(1, &[SECOND]));
        manifests.put("other.yaml", &service(3, &[FIRST]));
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        assert_keeps_answering(&lab, 1, FIRST);
        append(&mut file, &service(2, &[SECOND]));
        assert_keeps_answering(&lab, 1, FIRST);
        drop(file);
        wait_until_answers(&lab, 1, SECOND);
        wait_until_answers(&lab, 2, SECOND);
        wait_until_answers(&lab, 3, FIRST);

        // Moved into the folder before it is complete.
        let draft = manifests.file("draft");
        let mut file = File::create(&draft).unwrap();
        append(&mut file, &service(1, &[FIRST]));
        fs::rename(&draft, &path).unwrap();
        assert_keeps_answering(&lab, 1, SECOND);
        append(&mut file, &service(2, &[FIRST]));
        drop(file);
        wait_until_answers(&lab, 1, FIRST);
        wait_until_answers(&lab, 2, FIRST);

        // A file that an editor keeps open is ignored.
        let mut swap = File::create(manifests.file(".both.yaml.swp")).unwrap();
        append(&mut swap, "something");
        manifests.put("other.yaml", &service(3, &[SECOND]));
        wait_until_answers(&lab, 3, SECOND);
    });
}

/// A writer may start just when the agent reads the file. Many other Services are read first, to
/// leave time for that.
#[test]
fn manifest_rewritten_often_removes_nothing() {
    let times = rounds(80);
    let lab = Topology::new("agent-again");
    let manifests = Manifests::new(&lab.node);
    let many_services: Vec<String> = (0..300).map(|n| json_service(n, 1)).collect();
    manifests.put(
        "a.json",
        &format!(
            r#"{{"kind": "List", "apiVersion": "v1", "items": [{}]}}"#,
            many_services.join(",")
        ),
    );
    let both = |endpoint| [service(1, &[endpoint]), service(2, &[endpoint])];
    manifests.put("both.yaml", &both(FIRST).concat());
    let agent = Agent::start(&lab.node, &manifests, "--iptables-min-sync-period 0s");
    wait_until_answers(&lab, 2, FIRST);
    during_requests(&lab, cluster_ip(2), |_| {
        // A busy machine syncs less often, so repeat until there were enough syncs.
        let mut time = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while time < times || agent.syncs() <= times as f64 / 8.0 {
            assert!(Instant::now() < deadline, "only {} syncs", agent.syncs());
            let mut file = File::create(manifests.file("both.yaml")).unwrap();
            let [half, other_half] = both([FIRST, SECOND][time % 2]);
            append(&mut file, &half);
            // The delays vary the moments at which the file is incomplete or complete.
            thread::sleep(Duration::from_millis(9));
            append(&mut file, &other_half);
            drop(file);
            thread::sleep(Duration::from_millis(20 + (time % 80) as u64));
            time += 1;
        }
        agent.wait_until_in_sync();
    });
}

#[test]
fn manifest_unreadable_keeps_last_good_state() {
    let lab = Topology::new("agent-broken");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    manifests.put("three.yaml", &service(3, &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "");
    wait_until_answers(&lab, 1, FIRST);
    during_requests(&lab, cluster_ip(1), |_| {
        // A file that is only partly readable is ignored completely.
        let half = service(1, &[SECOND]) + "---\nkind: [Service\n";
        for broken in [&half, "null\n", "# nothing\n", "NAME   TYPE\nweb    ClusterIP\n", "[]"] {
            let log = agent.log().len();
            manifests.put("one.yaml", broken);
            eventually("the log names the file", || agent.log()[log..].contains("one.yaml"));
            assert_keeps_answering(&lab, 1, FIRST);
            manifests.put("one.yaml", &service(1, &[FIRST]));
            eventually("/healthz is 200", || agent.get(HEALTH_PORT, "/healthz").unwrap().0 == 200);
            agent.wait_until_in_sync();
        }

        // The other files still count, but nothing is removed: a Service may have moved to the
        // unreadable file.
        let log = agent.log().len();
        manifests.put("one.yaml", "null\n");
        let message = "keeping the last good state and removing nothing";
        eventually("the log says that the last good state is kept", || {
            agent.log()[log..].contains(message)
        });
        manifests.put("two.yaml", &service(2, &[FIRST]));
        wait_until_answers(&lab, 2, FIRST);
        manifests.put("two.yaml", &service(2, &[SECOND]));
        wait_until_answers(&lab, 2, SECOND);
        manifests.remove("three.yaml");
        assert_keeps_answering(&lab, 3, FIRST);
        assert_keeps_answering(&lab, 1, FIRST);
        manifests.put("one.yaml", &service(1, &[SECOND]));
        wait_until_answers(&lab, 1, SECOND);
        wait_until_silent(&lab, 3);

        // The agent has dropped the capability to read files regardless of their mode.
        let path = manifests.file("one.yaml");
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0);
        fs::write(&path, service(1, &[ELSEWHERE])).unwrap();
        agent.wait_for_log("Permission denied");
        assert_keeps_answering(&lab, 1, SECOND);
        set_mode(0o600);
        wait_until_answers(&lab, 1, ELSEWHERE);

        // A folder without manifests is more likely a mistake than intended.
        for file in ["nothing.yaml", "one.yaml", "two.yaml"] {
            fs::rename(manifests.file(file), manifests.file(file).with_extension("off")).unwrap();
        }
        agent.wait_for_log("no *.yaml, *.yml or *.json file");
        assert_keeps_answering(&lab, 1, ELSEWHERE);
        fs::rename(manifests.file("one.off"), manifests.file("one.yaml")).unwrap();
        agent.wait_until_in_sync();
    });
}

/// kubectl prints an empty List for a mistyped namespace.
#[test]
fn manifests_without_services_need_allow_empty() {
    let lab = Topology::new("agent-empty");
    let manifests = Manifests::new(&lab.node);
    let list = "{apiVersion: v1, kind: List, items: []}\n";
    let first = manifests.outside("first", &service(1, &[FIRST]));
    let apply = format!("-f {} --proxy-mode nftables", first.display());
    assert!(lab.node.rulegen(&apply).status.success());
    let agent = Agent::start_without_allow_empty(&lab.node, &manifests);
    agent.wait_for_log("no Service in the input");
    agent.wait_for_log("keeping current rules");
    assert_keeps_answering(&lab, 1, FIRST);
    manifests.put("one.yaml", &service(1, &[SECOND]));
    wait_until_answers(&lab, 1, SECOND);
    manifests.put("one.yaml", list);
    agent.wait_for_log("removing nothing");
    assert_keeps_answering(&lab, 1, SECOND);
    drop(agent);
    let _agent = Agent::start(&lab.node, &manifests, "");
    wait_until_silent(&lab, 1);
}

/// The agent drops capabilities that it does not need, also if it does not log it.
#[test]
fn agent_drops_capabilities_at_any_verbosity() {
    let node = Namespace::new("agent-privileges");
    let manifests = Manifests::new(&node);
    for verbosity in ["-v0", "-v2", "-v4"] {
        let agent = Agent::start(&node, &manifests, verbosity);
        eventually("the agent answers", || agent.get(HEALTH_PORT, "/healthz").is_some());
        let kept = status(&agent, "CapPrm:");
        assert_eq!(kept, format!("{:016x}", 1 << CAP_NET_ADMIN), "{verbosity}");
    }
}

/// From linux/capability.h.
const CAP_NET_ADMIN: u64 = 12;

/// The kubelet mounts a ConfigMap like this: file names link to `..data`, which is replaced
/// atomically.
#[test]
fn manifests_in_config_map_move_packets() {
    let lab = Topology::new("agent-map");
    let manifests = Manifests::new(&lab.node);
    let put = |version: &str, text: &str| {
        fs::create_dir(manifests.file(version)).unwrap();
        fs::write(manifests.file(version).join("one.yaml"), text).unwrap();
        symlink(version, manifests.file("..data_tmp")).unwrap();
        fs::rename(manifests.file("..data_tmp"), manifests.file("..data")).unwrap();
    };
    let agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    put("..2026_01", &service(1, &[FIRST]));
    symlink("..data/one.yaml", manifests.file("one.yaml")).unwrap();
    wait_until_answers(&lab, 1, FIRST);
    during_requests(&lab, cluster_ip(1), |_| {
        put("..2026_02", &service(1, &[SECOND]));
        fs::remove_dir_all(manifests.file("..2026_01")).unwrap();
        wait_until_answers(&lab, 1, SECOND);
        // A dangling link.
        fs::rename(manifests.file("..data"), manifests.file("..gone")).unwrap();
        agent.wait_for_log("No such file");
        assert_keeps_answering(&lab, 1, SECOND);
        put("..2026_03", &service(1, &[FIRST]));
        wait_until_answers(&lab, 1, FIRST);
    });
}

#[test]
fn manifests_folder_removed_changes_nothing_until_it_returns() {
    let lab = Topology::new("agent-folder");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "");
    wait_until_answers(&lab, 1, FIRST);
    during_requests(&lab, cluster_ip(1), |_| {
        fs::remove_dir_all(&manifests.path).unwrap();
        agent.wait_for_log("No such file");
        assert_keeps_answering(&lab, 1, FIRST);
        fs::create_dir(&manifests.path).unwrap();
        manifests.put("nothing.yaml", NOTHING);
        manifests.put("one.yaml", &service(1, &[SECOND]));
        wait_until_answers(&lab, 1, SECOND);

        // The folder is replaced. Changes of the old one have no effect.
        let aside = manifests.path.with_file_name("aside");
        fs::rename(&manifests.path, &aside).unwrap();
        fs::create_dir(&manifests.path).unwrap();
        manifests.put("one.yaml", &service(1, &[ELSEWHERE]));
        wait_until_answers(&lab, 1, ELSEWHERE);
        let mut file = File::create(aside.join("one.yaml")).unwrap();
        append(&mut file, &service(1, &[FIRST]));
        manifests.put("one.yaml", &service(1, &[SECOND]));
        wait_until_answers(&lab, 1, SECOND);
    });
}

#[test]
fn node_ports_follow_addresses_of_the_node() {
    let lab = Topology::new("agent-addresses");
    let manifests = Manifests::new(&lab.node);
    let node_port = service_with(1, "type: NodePort,", &[FIRST]);
    manifests.put("one.yaml", &node_port.replace("port: 80}", "port: 80, nodePort: 30001}"));
    let agent = Agent::start(&lab.node, &manifests, "--nodeport-addresses 172.30.0.0/16");
    wait_until_answers(&lab, 1, FIRST);
    let at = "172.30.0.1:30001".parse().unwrap();
    let answers = || matches!(lab.ask(From::Outside, Proto::Tcp, at), Answer::From { .. });
    assert!(!answers(), "the node does not have this address yet");
    for _ in 0..2 {
        lab.node.run("ip addr add 172.30.0.1/24 dev eth0");
        eventually("the new address answers", answers);
        lab.node.run("ip addr del 172.30.0.1/24 dev eth0");
        eventually("the old address does not answer", || !answers());
        agent.wait_until_in_sync();
    }
    // A table whose set of addresses changes is not read.
    assert_eq!(agent.log().matches("full=true").count(), 1, "{}", agent.log());
}

/// If node ports are open at all addresses, a new address changes no rule: nothing is read, and
/// there is no sync.
#[test]
fn node_addresses_without_rules_cause_no_sync() {
    let lab = Topology::new("agent-any-address");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "--nodeport-addresses 0.0.0.0/0,::/0");
    agent.wait_until_in_sync();
    eventually("the first sync is counted", || agent.syncs() > 0.0);
    let syncs = agent.syncs();
    for n in 1..=3 {
        lab.node.run(&format!("ip addr add 10.1.1.{n}/32 dev lo"));
    }
    lab.node.run("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up");
    // A change after the addresses, so that they were handled when it is synced.
    manifests.put("one.yaml", &service(1, &[SECOND]));
    wait_until_answers(&lab, 1, SECOND);
    eventually("the sync is counted", || agent.syncs() > syncs);
    assert_eq!(agent.syncs(), syncs + 1.0, "{}", agent.log());
    assert_eq!(agent.log().matches("full=true").count(), 1, "{}", agent.log());
}

/// Clients of a removed endpoint get another one, and keep it when the endpoint returns. Clients of
/// other endpoints keep theirs.
#[test]
fn session_affinity_clients_do_not_move_back_when_endpoint_returns() {
    // Of the clients of the lost endpoint, a third return to it by chance. With 60 clients, so few were
    // left in the second round that in 1 of 150 runs all of them returned.
    const CLIENTS: usize = 200;
    let all = [FIRST, SECOND, ELSEWHERE];
    let lab = Topology::new("agent-affinity");
    lab.client.run("ip route add local 198.18.1.0/24 dev lo");
    let manifests = Manifests::new(&lab.node);
    let state = |endpoints: &[&str]| service_with(1, "sessionAffinity: ClientIP,", endpoints);
    manifests.put("one.yaml", &state(&all));
    let mut agent = Agent::start(&lab.node, &manifests, "");
    agent.wait_until_in_sync();
    let ask = |client: usize| {
        let from: IpAddr = format!("198.18.1.{}", client + 1).parse().unwrap();
        match ask(&lab.client, Proto::Tcp, from, cluster_ip(1)) {
            Answer::From { endpoint, .. } => endpoint,
            other => panic!("{from}: {other:?}"),
        }
    };
    for restarts in [false, true] {
        let chosen: Vec<SocketAddr> = (0..CLIENTS).map(ask).collect();
        assert_eq!(
            (0..CLIENTS).map(ask).collect::<Vec<_>>(),
            chosen,
            "clients keep their endpoints"
        );
        if restarts {
            agent.kill();
        }
        manifests.put("one.yaml", &state(&all[1..]));
        if restarts {
            agent = Agent::start(&lab.node, &manifests, "");
        }
        agent.wait_until_in_sync();
        let left = chosen.iter().filter(|at| **at != endpoint(FIRST)).count();
        let clients = || lab.node.run("nft list set ip rulegen affinity/default/s1/tcp/");
        eventually("clients of the lost endpoint are deleted", || {
            clients().matches("expires").count() == left
        });
        manifests.put("one.yaml", &state(&all));
        agent.wait_until_in_sync();
        let now: Vec<SocketAddr> = (0..CLIENTS).map(ask).collect();
        let (lost, kept): (Vec<_>, Vec<_>) =
            chosen.iter().zip(&now).partition(|(before, _)| **before == endpoint(FIRST));
        assert!(
            kept.iter().all(|(before, now)| before == now),
            "clients of other endpoints moved: {kept:?}"
        );
        assert!(lost.iter().any(|(before, now)| before != now), "all clients returned: {lost:?}");
    }
}

/// Only the node port addresses answer load balancers' health checks.
#[test]
fn load_balancer_health_check_answers_at_node_port_addresses() {
    const PORT: u16 = 31_500;
    let lab = Topology::new("agent-checks");
    let manifests = Manifests::new(&lab.node);
    let balanced =
        format!("type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: {PORT},");
    manifests.put("one.yaml", &service_with(1, &balanced, &[FIRST]));
    let is_answered = |ip: &str| {
        let at = SocketAddr::new(ip.parse().unwrap(), PORT);
        lab.node.inside(|| TcpStream::connect(at).is_ok())
    };
    let mut agent = Agent::start(&lab.node, &manifests, "--nodeport-addresses 172.20.0.0/16");
    eventually("load balancers are answered", || is_answered("172.20.0.1"));
    assert!(!is_answered("192.168.50.1"));
    agent.kill();
    let mut agent = Agent::start(&lab.node, &manifests, "--nodeport-addresses 0.0.0.0/0");
    eventually("load balancers are answered everywhere", || {
        is_answered("172.20.0.1") && is_answered("192.168.50.1")
    });
    agent.kill();
    // In nftables mode node ports are at the primary address unless configured.
    let _agent = Agent::start(&lab.node, &manifests, "");
    eventually("load balancers are answered", || is_answered("192.168.50.1"));
    assert!(!is_answered("172.20.0.1") && !is_answered("127.0.0.1"));
}

/// Whatever supervises the agent restarts it with the new configuration.
#[test]
fn config_file_change_ends_agent_and_keeps_rules() {
    let lab = Topology::new("agent-config");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    let config = |more: &str| {
        format!(
            "{{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, {more}}}"
        )
    };
    let file = lab.node.file("config.yaml", &config("mode: nftables"));
    let mut agent = Agent::start(&lab.node, &manifests, &format!("--config {file}"));
    agent.wait_until_in_sync();
    // Another file in the same folder is written all the time, like a log.
    let mut log = File::create(Path::new(&file).with_file_name("some.log")).unwrap();
    append(&mut log, "a line");
    fs::write(&file, config("mode: nftables")).unwrap();
    assert_keeps_answering(&lab, 1, FIRST);
    assert_eq!(agent.exit_status(), None, "nothing changed");
    fs::write(&file, config("mode: nftables, nftables: {masqueradeAll: true}")).unwrap();
    eventually("the agent exits", || agent.exit_status() == Some(1));
    assert!(agent.log().contains("configuration changed"), "{}", agent.log());
    assert!(answers(&lab, 1, FIRST));
}

/// Counts do not decrease when the endpoint is removed.
#[test]
fn metrics_count_connections_of_each_service() {
    let lab = Topology::new("agent-counters");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    manifests.put("two.yaml", &service_with(2, "sessionAffinity: ClientIP,", &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "--nftables-counters");
    agent.wait_until_in_sync();
    let counted = |n: usize| agent.metric(&connections(n));
    for (asked, ip) in [(3.0, FIRST), (6.0, SECOND)] {
        manifests.put("one.yaml", &service(1, &[ip]));
        agent.wait_until_in_sync();
        (0..3).for_each(|_| assert!(answers(&lab, 1, ip)));
        assert!(answers(&lab, 2, FIRST));
        eventually("the connections are counted", || counted(1) == asked);
    }
    eventually("the connections are counted", || counted(2) == 2.0);
    // The status page reads current counters from the kernel.
    for (n, ip, wanted) in [(1, SECOND, 3), (2, FIRST, 2)] {
        let path = format!("/services/default/s{n}?format=json");
        let (status, body) = agent.get(METRICS_PORT, &path).unwrap();
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        let endpoint = &page["ports"][0]["endpoints"][0];
        assert_eq!(status, 200, "{body}");
        assert_eq!(endpoint["address"], format!("{ip}:8080"), "{body}");
        assert_eq!(
            (&endpoint["connections"], &page["countersError"]),
            (&wanted.into(), &serde_json::Value::Null),
            "{body}"
        );
    }
}

fn connections(n: usize) -> String {
    format!(
        "rulegen_service_connections_total{{namespace=\"default\",port=\"\",protocol=\"TCP\",service=\"s{n}\"}}"
    )
}

#[test]
fn endpoint_changes_fail_no_connection_and_leak_no_descriptor() {
    let changes = rounds(300);
    let lab = Topology::new("agent-open");
    let manifests = Manifests::new(&lab.node);
    manifests.put("one.yaml", &service(1, &[FIRST]));
    let agent = Agent::start(&lab.node, &manifests, "--iptables-min-sync-period 0s");
    let change = |n: usize| {
        manifests.put("one.yaml", &service(1, &[[FIRST, SECOND][n % 2]]));
        if n.is_multiple_of(10) {
            assert!(agent.get(HEALTH_PORT, "/healthz").is_some());
        }
        thread::sleep(Duration::from_millis(25));
    };
    let open = || fs::read_dir(agent.process().join("fd")).unwrap().count();
    agent.wait_until_in_sync();
    (0..50).for_each(change);
    let (first, memory, syncs) = (open(), resident(&agent), agent.syncs());
    during_requests(&lab, cluster_ip(1), |_| (0..changes).for_each(change));
    agent.wait_until_in_sync();
    within(SOON, &format!("at most {first} files are open"), || open() <= first);
    let syncs = agent.syncs() - syncs;
    assert!(syncs > changes as f64 / 3.0, "only {syncs} syncs");
    let now = resident(&agent);
    assert!(now < memory + 4_096, "memory grew from {memory} kB to {now} kB");
}

/// Resident memory that is not shared with files, in kB.
fn resident(agent: &Agent<'_>) -> usize {
    status(agent, "RssAnon:").parse().unwrap()
}

/// A field of the agent's `/proc/PID/status` (proc_pid_status(5)).
fn status(agent: &Agent<'_>, field: &str) -> String {
    let status = fs::read_to_string(agent.process().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// A cluster IP belongs to its Service, in any order of added and removed Services.
fn check_cluster_ip_ownership(label: &str, flags: &str) {
    let lab = Topology::new(label);
    let manifests = Manifests::new(&lab.node);
    // First by name; claims the address of Service 5 as an external IP.
    let greedy = service_with(1, "externalIPs: [10.96.1.5],", &[SECOND]);
    manifests.put("greedy.yaml", &greedy);
    let _agent = Agent::start(&lab.node, &manifests, flags);
    // No Service has this cluster IP yet.
    wait_until_answers(&lab, 5, SECOND);
    manifests.put("owner.yaml", &service(5, &[FIRST]));
    wait_until_answers(&lab, 5, FIRST);
    assert_keeps_answering(&lab, 5, FIRST);
    // Other Services do not get the cluster IP's unused ports either.
    let closed = SocketAddr::new(cluster_ip(5).ip(), 81);
    let other_port = greedy.replacen("port: 80}]", "port: 80}, {name: b, port: 81}]", 1);
    let other_port = other_port.replacen("{port: 80}", "{name: a, port: 80}", 1);
    manifests.put("greedy.yaml", &other_port.replace("{port: 8080}", "{name: b, port: 8080}"));
    eventually("the rules of the other port are written", || {
        let own = SocketAddr::new(cluster_ip(1).ip(), 81);
        matches!(lab.ask(From::BridgedPod, Proto::Tcp, own), Answer::From { .. })
    });
    let answer = lab.ask(From::BridgedPod, Proto::Tcp, closed);
    assert!(!matches!(answer, Answer::From { .. }), "{answer:?}");
    // Without endpoints its traffic is rejected, and does not go to another Service.
    manifests.put("greedy.yaml", &greedy);
    manifests.put("owner.yaml", &service(5, &[]));
    eventually("Service 5 is rejected", || {
        lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(5)) == Answer::Refused
    });
    manifests.put("owner.yaml", &service(5, &[FIRST]));
    wait_until_answers(&lab, 5, FIRST);
    manifests.remove("owner.yaml");
    wait_until_answers(&lab, 5, SECOND);
    manifests.remove("greedy.yaml");
    wait_until_unanswered(&lab, 5);
    // Now the owner of the cluster IP is first.
    manifests.put("owner.yaml", &service(5, &[FIRST]));
    wait_until_answers(&lab, 5, FIRST);
    manifests.put("greedy.yaml", &greedy);
    wait_until_answers(&lab, 1, SECOND);
    assert_keeps_answering(&lab, 5, FIRST);
}

fn wait_until_unanswered(lab: &Topology, n: usize) {
    eventually(&format!("Service {n} is not answered"), || {
        !matches!(lab.ask(From::BridgedPod, Proto::Tcp, cluster_ip(n)), Answer::From { .. })
    });
}

#[test]
fn cluster_ip_wins_over_external_ip_of_another_service_nftables() {
    check_cluster_ip_ownership("steal-nft", "");
}

#[test]
fn cluster_ip_wins_over_external_ip_of_another_service_iptables() {
    check_cluster_ip_ownership("steal-iptables", "--proxy-mode iptables --iptables-variant nft");
}
