//! The agent next to another agent or kube-proxy, without inotify, and without the folder.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::namespace::Namespace;
use crate::running_agent::{Agent, METRICS_PORT, Manifests, NOTHING, eventually, service};

#[test]
fn second_agent_in_same_network_namespace_exits() {
    let space = Namespace::new("two");
    let manifests = Manifests::new(&space);
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    let mut first = Agent::start(&space, &manifests, "");
    first.wait_until_in_sync();

    let flags = "--proxy-mode nftables --nftables-table other --hostname-override node-1";
    let program = env!("CARGO_BIN_EXE_rulegen");
    let folder = manifests.path.display();
    let second = space.shell(&format!("timeout 20 {program} agent --manifests {folder} {flags}"));
    let messages = crate::common::stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{messages}");
    let pid = first.process().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        messages.contains("another rulegen agent") && messages.contains(&format!("pid {pid},")),
        "{messages}"
    );
    assert!(!space.run("nft list tables").contains("other"), "the second agent wrote rules");
    assert_eq!(first.exit_status(), None);

    // An agent in another network namespace does not matter.
    let elsewhere = Namespace::new("three");
    let manifests_there = Manifests::new(&elsewhere);
    Agent::start(&elsewhere, &manifests_there, "").wait_for_log("caches synced");

    // After SIGKILL the lock is free at once.
    for _ in 0..3 {
        first.kill();
        first = Agent::start(&space, &manifests, "");
        first.wait_for_log("caches synced");
        assert_eq!(first.exit_status(), None);
    }
}

/// A process with a given name in a network namespace.
struct NamedProcess(Child);

impl NamedProcess {
    fn start(space: &Namespace, name: &str) -> Self {
        let program = PathBuf::from(space.lock_file()).with_file_name(name);
        fs::copy("/bin/sleep", &program).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &space.name])
            .arg(&program)
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        eventually("the process runs", || {
            fs::read_to_string(&comm).is_ok_and(|found| found.trim() == name)
        });
        Self(child)
    }
}

impl Drop for NamedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kube_proxy_running_is_reported_and_does_not_stop_agent() {
    let space = Namespace::new("kube-proxy");
    let elsewhere = Namespace::new("elsewhere");
    let manifests = Manifests::new(&space);
    const REPORT: &str = "kube-proxy is also running on this node";

    // The test may see other network namespaces. Their processes do not count.
    let other = NamedProcess::start(&elsewhere, "kube-proxy");
    let agent = Agent::start(&space, &manifests, "");
    agent.wait_for_log("caches synced");
    assert!(!agent.log().contains(REPORT), "{}", agent.log());
    eventually("metrics are served", || agent.get(METRICS_PORT, "/metrics").is_some());
    assert_eq!(agent.metric("rulegen_kube_proxy_running"), 0.0);
    let kube_proxy = |agent: &Agent<'_>| {
        let (_, page) = agent.get(METRICS_PORT, "/?format=json").unwrap();
        serde_json::from_str::<serde_json::Value>(&page).unwrap()["health"]["kubeProxy"].take()
    };
    assert_eq!(kube_proxy(&agent), serde_json::Value::Null);
    drop((agent, other));

    let process = NamedProcess::start(&space, "kube-proxy");
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    let agent = Agent::start(&space, &manifests, "");
    agent.wait_for_log(REPORT);
    assert!(
        agent.log().contains(&format!("kube-proxy (pid {})", process.0.id())),
        "{}",
        agent.log()
    );
    agent.wait_until_in_sync();
    assert_eq!(agent.metric("rulegen_kube_proxy_running"), 1.0);
    let name = format!("kube-proxy (pid {})", process.0.id());
    assert_eq!(kube_proxy(&agent), name.as_str());
    let (_, page) = agent.get(METRICS_PORT, "/").unwrap();
    assert!(page.contains("also runs on this node") && page.contains(&name), "{page}");
}

fn tcp_timeout(space: &Namespace) -> String {
    space.run("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established").trim().to_owned()
}

#[test]
fn manifests_folder_missing_at_start_changes_nothing_until_created() {
    let space = Namespace::new("no-folder");
    let manifests = Manifests::new(&space);
    let moved = manifests.path.with_extension("aside");
    fs::rename(&manifests.path, &moved).unwrap();
    let before = tcp_timeout(&space);
    let agent = Agent::start(&space, &manifests, "");
    agent.wait_for_log("cannot read all manifests");
    assert!(agent.log().contains(&manifests.path.display().to_string()));
    assert_eq!(tcp_timeout(&space), before);
    assert!(!space.run("nft list tables").contains("rulegen"));

    fs::rename(&moved, &manifests.path).unwrap();
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    agent.wait_until_in_sync();
    eventually("sysctls are set", || tcp_timeout(&space) != before);
    let warnings = agent.log().matches("cannot read all manifests").count();
    assert_eq!(warnings, 1, "{}", agent.log());
}

/// In a user namespace the limit applies to this test only.
#[test]
fn manifests_and_config_file_are_polled_without_inotify() {
    for instances in [0, 1] {
        let space = Namespace::new(&format!("inotify{instances}"));
        let manifests = Manifests::new(&space);
        manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
        let config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
        let config_file = space.file("config.yaml", &format!("{config}mode: nftables\n"));
        let log = PathBuf::from(&config_file).with_file_name("log");
        let script = format!(
            "ip link set lo up; echo {instances} > /proc/sys/user/max_inotify_instances; \
             exec {} agent --manifests {} --config {config_file} --hostname-override node-1 \
             --oom-score-adj 0 --conntrack-max-per-core 0 -v 2 --state-dir {}",
            env!("CARGO_BIN_EXE_rulegen"),
            manifests.path.display(),
            log.with_file_name("state").display(),
        );
        let child = Command::new("unshare")
            .args(["-Urn", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut agent = NamedProcess(child);
        let log = || fs::read_to_string(&log).unwrap();
        let syncs = || log().lines().filter(|line| line.contains(" INFO synced ")).count();
        eventually("rules are written", || syncs() == 1);
        assert_eq!(
            log().matches("fs.inotify.max_user_instances").count(),
            2 - instances,
            "{}",
            log()
        );
        manifests.put("a.yaml", &service(1, &["10.1.0.6"]));
        eventually("a change is seen", || syncs() == 2);
        fs::write(manifests.file("b.yaml"), NOTHING).unwrap();
        fs::write(&config_file, format!("{config}mode: nftables\nclusterCIDR: 10.9.0.0/16\n"))
            .unwrap();
        let mut status = None;
        eventually("the configuration is seen", || {
            status = agent.0.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(1), "{}", log());
    }
}

/// As on a host whose name is not that of its Node.
#[test]
fn agent_log_warns_if_the_manifests_have_only_nodes_with_other_names() {
    let namespace = Namespace::new("node-name");
    namespace.run("ip addr add 192.0.2.10/32 dev lo");
    let manifests = Manifests::new(&namespace);
    let node = |name: &str| {
        format!(
            "{{kind: Node, apiVersion: v1, metadata: {{name: {name}}}, status: {{addresses: \
             [{{type: InternalIP, address: 192.0.2.10}}]}}}}"
        )
    };
    manifests.put("node.yaml", &node("node-1.example"));
    let agent = Agent::start(&namespace, &manifests, "");
    agent.wait_for_log("no Node object with this name");
    let fields = r#"node="node-1" found="node-1.example" found_has_host_address=true"#;
    assert!(agent.log().contains(fields), "{}", agent.log());
    drop(agent);
    manifests.put("node.yaml", &node("node-1"));
    let agent = Agent::start(&namespace, &manifests, "");
    agent.wait_for_log("synced services");
    assert!(!agent.log().contains("no Node object"), "{}", agent.log());
}

/// At the second start the sysctls already have the desired values.
#[test]
fn log_at_start_is_one_line() {
    let namespace = Namespace::new("start-line");
    let manifests = Manifests::new(&namespace);
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    for mode in ["nftables", "iptables"] {
        let flags = format!("--proxy-mode {mode}");
        Agent::start(&namespace, &manifests, &flags).wait_for_log("synced services");
        let agent = Agent::start(&namespace, &manifests, &flags);
        agent.wait_for_log("caches synced");
        let log = agent.log();
        let (start, _) = log.split_once("caches synced").unwrap();
        let lines: Vec<&str> = start.lines().filter(|line| line.contains(" starting ")).collect();
        let [line] = lines.as_slice() else { panic!("{log}") };
        assert!(line.contains(&format!("mode=\"{mode}\"")), "{line}");
        // The last piece is the beginning of the line with "caches synced".
        assert_eq!(start.lines().count(), 2, "{log}");
    }
}
