//! What else is on the machine, or is not: another agent, no inotify.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::namespace::Namespace;
use crate::running_agent::{Agent, Manifests, NOTHING, eventually, service};

#[test]
fn the_second_agent_of_a_network_namespace_ends() {
    let space = Namespace::new("two");
    let manifests = Manifests::new(&space);
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    let mut first = Agent::start(&space, &manifests, "");
    first.wait_until_right();

    let flags = "--proxy-mode nftables --nftables-table other --hostname-override node-1";
    let program = env!("CARGO_BIN_EXE_rulegen");
    let folder = manifests.path.display();
    let second = space.shell(&format!("timeout 20 {program} agent --manifests {folder} {flags}"));
    let said = crate::common::stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let pid = first.process().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        said.contains("another rulegen agent") && said.contains(&format!("pid {pid},")),
        "{said}"
    );
    assert!(!space.run("nft list tables").contains("other"), "it wrote rules");
    assert_eq!(first.ended(), None);

    // In another network namespace it does not matter.
    let elsewhere = Namespace::new("three");
    let manifests_there = Manifests::new(&elsewhere);
    Agent::start(&elsewhere, &manifests_there, "").wait_for_log("all objects are known");

    // A kill frees the lock at once.
    for _ in 0..3 {
        first.kill();
        first = Agent::start(&space, &manifests, "");
        first.wait_for_log("all objects are known");
        assert_eq!(first.ended(), None);
    }
}

/// An agent that ends with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a user namespace the limit is its own, and nobody else is touched.
#[test]
fn without_inotify_files_are_looked_at() {
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
             --oom-score-adj 0 --conntrack-max-per-core 0 -v 2",
            env!("CARGO_BIN_EXE_rulegen"),
            manifests.path.display(),
        );
        let child = Command::new("unshare")
            .args(["-Urn", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut agent = Started(child);
        let log = || fs::read_to_string(&log).unwrap();
        let syncs = || log().lines().filter(|line| line.contains(" synced ")).count();
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
