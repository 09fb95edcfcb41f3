//! The agent under the seccomp profile of deploy/, enforced by the kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::{Value, json};

use crate::common::root;
use crate::namespace::Namespace;
use crate::running_agent::{HEALTH_PORT, Manifests, eventually, get, service};

#[test]
fn seccomp_profile_allows_agent_in_nftables_mode() {
    let (_space, state) = agent_works_under_profile("seccomp-nft", "--proxy-mode nftables");
    assert!(state.join("nftables").exists(), "no record of the tables");
}

#[test]
fn seccomp_profile_allows_agent_in_iptables_mode() {
    let flags = "--proxy-mode iptables --iptables-variant nft";
    let _ = agent_works_under_profile("seccomp-iptables", flags);
}

/// First sync, change, repair, health check, and a clean exit. Returns the namespace with the folder
/// of the agent's state.
fn agent_works_under_profile(label: &str, flags: &str) -> (Namespace, PathBuf) {
    let space = Namespace::new(label);
    let manifests = Manifests::new(&space);
    manifests.put("a.yaml", &service(1, &["10.1.0.5"]));
    let log = space.file("agent.log", "");
    let state = manifests.path.with_file_name("state");
    let flags = format!("{flags} --state-dir {}", state.display());
    let mut agent = start(&space, &manifests, &flags, &log);
    let log_text = || fs::read_to_string(&log).unwrap();
    let rules = || space.run("nft list ruleset");
    eventually("the first Service has rules", || rules().contains("10.96.1.1"));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "no filter is in effect: {status}");
    let ready = || get(&space, HEALTH_PORT, "/readyz").is_some_and(|(status, _)| status == 200);
    eventually("the agent is ready", ready);

    manifests.put("b.yaml", &service(2, &["10.1.0.6"]));
    eventually("a change is written", || rules().contains("10.96.1.2"));
    space.run("nft flush ruleset");
    eventually("the rules are repaired", || rules().contains("10.96.1.2"));

    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = agent.0.wait().unwrap();
    assert!(status.success(), "{status}\n{}", log_text());
    for text in ["Function not implemented", "os error 38", "ERROR"] {
        assert!(!log_text().contains(text), "{text}:\n{}", log_text());
    }
    (space, state)
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the agent from a thread that has the filter. The agent inherits it.
fn start(space: &Namespace, manifests: &Manifests, flags: &str, log: &str) -> Agent {
    let filter = profile();
    let lock = space.lock_file();
    let spawn = || {
        let log = File::create(log).unwrap();
        apply_filter(&filter).unwrap();
        Command::new(env!("CARGO_BIN_EXE_rulegen"))
            .args([
                "agent",
                "-v2",
                "--hostname-override",
                "node-1",
                "--conntrack-max-per-core",
                "0",
            ])
            .args(["--oom-score-adj", "0", "--manifests"])
            .arg(&manifests.path)
            .args(flags.split(' '))
            .env("XTABLES_LOCKFILE", lock)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
    };
    Agent(space.inside(spawn).unwrap())
}

/// The profile as a BPF program. Like a container runtime, it skips system calls that this
/// architecture does not have.
fn profile() -> BpfProgram {
    let text = fs::read_to_string(root().join("deploy/seccomp.json")).unwrap();
    let profile: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let errno = &profile["defaultErrnoRet"];
    let mut filter = Vec::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        if rule["action"] != "SCMP_ACT_ALLOW" {
            assert_eq!((&rule["action"], &rule["errnoRet"]), (&json!("SCMP_ACT_ERRNO"), errno));
            continue;
        }
        let conditions: Vec<Value> =
            rule["args"].as_array().into_iter().flatten().map(condition).collect();
        for name in rule["names"].as_array().unwrap() {
            let rule = match conditions.is_empty() {
                true => json!({"syscall": name}),
                false => json!({"syscall": name, "args": conditions}),
            };
            if compiled(errno, std::slice::from_ref(&rule)).is_some() {
                filter.push(rule);
            }
        }
    }
    compiled(errno, &filter).unwrap()
}

fn condition(of: &Value) -> Value {
    let (operator, value) = match of["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => (json!("eq"), &of["value"]),
        "SCMP_CMP_MASKED_EQ" => (json!({"masked_eq": of["value"]}), &of["valueTwo"]),
        other => panic!("unknown operator {other}"),
    };
    json!({"index": of["index"], "type": "dword", "op": operator, "val": value})
}

fn compiled(errno: &Value, filter: &[Value]) -> Option<BpfProgram> {
    let json = json!({"agent": {
        "mismatch_action": {"errno": errno}, "match_action": "allow", "filter": filter,
    }});
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let programs: BTreeMap<String, BpfProgram> =
        compile_from_json(json.to_string().as_bytes(), arch).ok()?.into_iter().collect();
    programs.into_values().next()
}
