//! The agent in iptables mode, and switching from the other mode.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rulegen_kernel::nftables::NfTables;

use crate::apply::{VARIANTS, chains_of, example, log_restore_calls, saved, with_foreign_rules};
use crate::common::{root, stderr, stdout};
use crate::namespace::{Namespace, StopOnDrop};
use crate::running_agent::service;
use crate::topology::{From, Topology};
use crate::traffic::{Answer, Proto};

/// An agent in a namespace. Dropping it kills the agent.
struct Agent<'a> {
    namespace: &'a Namespace,
    child: Child,
    log: String,
}

impl<'a> Agent<'a> {
    /// Watches the namespace's folder of manifests, with debug logs.
    fn start(namespace: &'a Namespace, path: &str, flags: &str) -> Self {
        let log = namespace.file("agent.log", "");
        let folder = manifests(namespace);
        let program = env!("CARGO_BIN_EXE_rulegen");
        let command = format!(
            "exec env {path} {program} agent --manifests {folder} --hostname-override node-1 \
             --healthz-bind-address 127.0.0.1:10256 --metrics-bind-address 127.0.0.1:10249 \
             --conntrack-max-per-core 0 -v 4 {flags}"
        );
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace.name, "sh", "-c", &command])
            .env("XTABLES_LOCKFILE", namespace.lock_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { namespace, child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// How often the agent read all rules with this variant. It reads the other variant's rules at
    /// its start.
    fn saves(&self, variant: &str) -> usize {
        let log = self.log();
        let of_programs = log.matches(&format!("tables-{variant}-save\"")).count();
        let through_netlink = log.matches(&format!("reading tables of iptables-{variant}")).count();
        of_programs + through_netlink
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_met: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_met(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended: {ended:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "not {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the namespace has the rules that a dry run of its manifests prints.
    #[track_caller]
    fn wait_for_rules(&mut self, variant: &str) {
        let wanted =
            ["iptables", "ip6tables"].map(|family| wanted(self.namespace, variant, family));
        self.wait_until("equal to a dry run", |agent| {
            let families = ["iptables", "ip6tables"].iter();
            let actual = families.map(|family| chains_of(&saved(agent.namespace, variant, family)));
            actual.eq(wanted.iter().cloned())
        });
    }

    fn has_reported_drift(&self) -> bool {
        self.log().contains("another program changed our rules")
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }

    fn healthz(&self) -> Option<String> {
        self.get(10256, "/healthz")
    }

    fn get(&self, port: u16, path: &str) -> Option<String> {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        self.namespace.inside(|| {
            let mut stream = TcpStream::connect(at).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn manifests(namespace: &Namespace) -> String {
    let folder = Path::new(&namespace.lock_file()).with_file_name("manifests");
    fs::create_dir_all(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// Replaces the cluster atomically.
fn put(namespace: &Namespace, manifest: &str) {
    put_text(namespace, &fs::read_to_string(manifest).unwrap());
}

fn put_text(namespace: &Namespace, manifest: &str) {
    let folder = manifests(namespace);
    let new = namespace.file("new.yaml", manifest);
    fs::rename(new, format!("{folder}/cluster.yaml")).unwrap();
}

/// The rules that a dry run prints, as iptables saves them.
fn wanted(namespace: &Namespace, variant: &str, family: &str) -> Vec<String> {
    let clean = Namespace::new("wanted");
    let ip = if family == "iptables" { "ipv4" } else { "ipv6" };
    let printed = clean.rulegen(&format!(
        "--dry-run -f {} --hostname-override node-1 --ip-family {ip}",
        manifests(namespace)
    ));
    assert!(printed.status.success(), "{}", stderr(&printed));
    let file = clean.file(family, &stdout(&printed));
    clean.run(&format!("{family}-{variant}-restore < {file}"));
    chains_of(&saved(&clean, variant, family))
}

#[test]
fn agent_iptables_writes_only_changed_chains() {
    for variant in VARIANTS {
        let namespace = Namespace::new("agent-iptables");
        let (path, log) = log_restore_calls(&namespace);
        let calls = |from: usize| fs::read_to_string(&log).unwrap()[from..].to_owned();
        let flags = "--proxy-mode iptables --iptables-backend exec";
        let flags = format!("{flags} --iptables-variant {variant}");
        put(&namespace, &example("clusterip.yaml"));
        let mut agent = Agent::start(&namespace, &path, &flags);
        agent.wait_for_rules(variant);

        // A replaced pod changes the chain of its Service and deletes its own. That needs no read.
        let written = calls(0).len();
        let manifest = fs::read_to_string(example("clusterip.yaml")).unwrap();
        put_text(&namespace, &manifest.replacen("10.244.1.5", "10.244.1.99", 1));
        agent.wait_for_rules(variant);
        let written = calls(written);
        assert_eq!(written.matches("CALL").count(), 1, "{written}");
        assert!(!written.contains("*filter") && !written.contains(":KUBE-SERVICES"), "{written}");
        put(&namespace, &example("loadbalancer.yaml"));
        agent.wait_for_rules(variant);
        if variant == "nft" {
            assert_eq!(agent.saves(variant), 2, "once per family: {}", agent.log());
        }
        assert!(!agent.has_reported_drift(), "{}", agent.log());
        agent.stop();

        let written = calls(0).len();
        let mut agent = Agent::start(&namespace, &path, &flags);
        agent.wait_until("synced", |agent| agent.log().contains(" INFO synced "));
        assert_eq!(calls(written), "", "{variant}: the restart wrote");
        agent.wait_until("healthy", |agent| {
            agent.healthz().is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }
}

#[test]
fn drift_iptables_is_repaired_and_foreign_rules_are_kept() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("agent-rival", variant);
        let flags = format!("--proxy-mode iptables --iptables-variant {variant}");
        put(&namespace, &example("nodeport.yaml"));
        let mut agent = Agent::start(&namespace, "", &flags);
        agent.wait_until("synced", |agent| agent.log().contains(" INFO synced "));
        let rules = || saved(&namespace, variant, "iptables");
        let right = rules();
        assert!(right.contains("KUBE-SEP"), "{right}");

        // Changes of foreign chains are not drift. If only those change, the agent does not even
        // read.
        let saves = agent.saves(variant);
        namespace.run(&format!(
            "iptables-{variant} -t nat -N KUBE-KUBELET; iptables-{variant} -t nat -A KUBE-KUBELET; \
             iptables-{variant} -t nat -F KUBE-KUBELET; iptables-{variant} -t nat -X KUBE-KUBELET"
        ));
        if variant == "nft" {
            put(&namespace, &example("clusterip.yaml"));
            agent.wait_until("changed", |_| !rules().contains("KUBE-EXT-"));
            put(&namespace, &example("nodeport.yaml"));
            agent.wait_until("changed back", |_| chains_of(&rules()) == chains_of(&right));
            assert_eq!(agent.saves(variant), saves, "{}", agent.log());
        }
        namespace.run(&format!("iptables-{variant} -t nat -A POSTROUTING -s 10.9.0.0/16"));
        agent.wait_until("read again", |agent| agent.saves(variant) > saves);
        assert!(!agent.has_reported_drift(), "{}", agent.log());
        namespace.run(&format!("iptables-{variant} -t nat -D POSTROUTING -s 10.9.0.0/16"));

        namespace.run(&format!("iptables-{variant} -t nat -F KUBE-SERVICES"));
        agent.wait_until("repaired", |_| chains_of(&rules()) == chains_of(&right));
        agent.wait_until("reported", Agent::has_reported_drift);
        namespace.run(&format!("iptables-{variant} -t nat -F PREROUTING"));
        agent.wait_until("repaired", |_| rules().contains("-A PREROUTING -m comment"));

        namespace.run(&format!("iptables-{variant} -t nat -F"));
        agent.wait_until("repaired", |_| {
            rules().contains("-j DNAT") && rules().contains("OUTPUT -m")
        });
    }
}

/// Reads that find no drift do not delay the repair of a chain that only the agent fills. The agent
/// writes such a chain without a read, because reading all rules of a large cluster takes seconds.
#[test]
fn drift_iptables_in_own_chains_is_repaired_without_full_resync() {
    let namespace = Namespace::new("agent-damage");
    let flags = "--proxy-mode iptables --iptables-variant nft";
    put(&namespace, &example("nodeport.yaml"));
    let mut agent = Agent::start(&namespace, "", flags);
    agent.wait_for_rules("nft");
    let saves = agent.saves("nft");
    namespace.run("iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16");
    agent.wait_until("read again", |agent| agent.saves("nft") >= saves + 2);
    namespace.run("iptables-nft -t nat -D POSTROUTING -s 10.9.0.0/16");

    let saves = agent.saves("nft");
    for (n, damage) in [
        "-F KUBE-SERVICES",
        "-D KUBE-MARK-MASQ 1",
        "-N KUBE-SVC-OFNOBODY",
        // Includes the jumps to our chains.
        "-F",
    ]
    .iter()
    .enumerate()
    {
        namespace.run(&format!("iptables-nft -t nat {damage}"));
        agent.wait_for_rules("nft");
        agent.wait_until("reported", |agent| {
            agent.log().matches("another program changed our rules").count() > n
        });
    }
    let new_saves = agent.saves("nft") - saves;
    // Each family may be read once because of the deleted rule of POSTROUTING.
    assert!(new_saves <= 2, "{}", agent.log());
    assert!(!agent.log().contains("incremental update refused"), "{}", agent.log());
}

/// In iptables mode, a table of kube-proxy or rules of the other variant would translate too.
#[test]
fn takeover_iptables_removes_and_reports_rules_of_other_mode_and_variant() {
    for (variant, other) in [("nft", "legacy"), ("legacy", "nft")] {
        let namespace = Namespace::new("agent-other");
        namespace.run("nft add table ip6 kube-proxy");
        namespace.run(&format!("iptables-{other} -t nat -N KUBE-SERVICES"));
        put(&namespace, &example("nodeport.yaml"));
        let flags = format!("--proxy-mode iptables --iptables-variant {variant}");
        let mut agent = Agent::start(&namespace, "", &flags);
        agent.wait_until("without rules of the other mode", |agent| {
            agent.log().matches("removed leftover rules of another proxy mode").count() == 2
        });
        let has_reported = |agent: &Agent<'_>, named: &str| {
            let log = agent.log();
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains("rules of another proxy mode made by") && line.contains(named)
            })
        };
        namespace.run("nft add table ip kube-proxy");
        agent.wait_until("reported", |agent| has_reported(agent, "ip table kube-proxy"));
        agent.wait_until("named", |agent| has_reported(agent, "program=\"nft\" pid="));
        assert!(!namespace.run("nft list tables").contains("kube-proxy"));
        namespace.run(&format!("iptables-{other} -t nat -N KUBE-SVC-YESTERDAY"));
        agent.wait_until("reported", |agent| has_reported(agent, &format!("iptables-{other}")));
        assert!(!saved(&namespace, other, "iptables").contains("KUBE-"));
        // An old kubelet makes some of the chains too, again every minute.
        let reports =
            |agent: &Agent<'_>| agent.log().matches("rules of another proxy mode made by").count();
        let (reported, saves) = (reports(&agent), agent.saves(other));
        namespace.run(&format!("iptables-{other} -t nat -N KUBE-MARK-MASQ"));
        if other == "legacy" {
            agent.wait_until("read again", |agent| agent.saves(other) > saves);
        }
        namespace.run("nft add table ip kube-proxy");
        agent.wait_until("reported", |agent| reports(agent) > reported);
        assert!(saved(&namespace, other, "iptables").contains("KUBE-MARK-MASQ"));
        agent.wait_for_rules(variant);
    }
}

/// iptables-legacy needs a capability that iptables-nft does not need.
#[test]
fn takeover_iptables_legacy_without_capability_is_reported_once() {
    let namespace = Namespace::new("agent-capability");
    namespace.run("iptables-legacy -t nat -N KUBE-SERVICES");
    put(&namespace, &example("nodeport.yaml"));
    let admin_only = "setpriv --bounding-set -all,+net_admin";
    let flags = "--proxy-mode iptables --iptables-variant nft";
    let mut agent = Agent::start(&namespace, admin_only, flags);
    let tries = |agent: &Agent<'_>| agent.log().matches("\"iptables-legacy-save\"").count();
    agent.wait_until("tried again", |agent| tries(agent) >= 3);
    agent.wait_for_rules("nft");
    let log = agent.log();
    let lines = log.lines().filter(|line| line.contains("WARN") && line.contains("legacy"));
    assert_eq!(lines.count(), 1, "{log}");
    agent.stop();

    // An empty table can be recognised without the capability.
    let empty = Namespace::new("agent-capability");
    put(&empty, &example("nodeport.yaml"));
    let mut agent = Agent::start(&empty, admin_only, flags);
    agent.wait_for_rules("nft");
    empty.run("nft add table ip kube-proxy");
    agent.wait_until("watched", |_| !empty.run("nft list tables").contains("kube-proxy"));
    assert!(!agent.log().contains("WARN cleanup of another proxy mode"), "{}", agent.log());
}

/// The rules are correct in the end, for any order of commits of the agent and another program.
#[test]
fn drift_iptables_during_own_sync_is_repaired() {
    let namespace = Namespace::new("agent-meanwhile");
    put(&namespace, &example("clusterip.yaml"));
    let flags = "--proxy-mode iptables --iptables-variant nft --iptables-min-sync-period 10ms";
    let mut agent = Agent::start(&namespace, "", flags);
    agent.wait_for_rules("nft");
    let is_over = AtomicBool::new(false);
    let deleted = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Fails while the chain is empty.
                let output = namespace.shell("iptables-nft -t nat -D KUBE-SERVICES 1");
                deleted.fetch_add(usize::from(output.status.success()), Ordering::Relaxed);
            }
        });
        let _over = StopOnDrop(&is_over);
        for round in 0..40 {
            let name = ["crash.yaml", "clusterip.yaml"][round % 2];
            put(&namespace, &example(name));
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(deleted.load(Ordering::Relaxed) >= 10, "too few rules were deleted: {deleted:?}");
    agent.wait_for_rules("nft");
}

#[test]
fn xtables_lock_holder_is_reported_and_agent_waits() {
    let namespace = Namespace::new("agent-lock");
    put(&namespace, &example("nodeport.yaml"));
    let file = File::create(namespace.lock_file()).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let flags = "--proxy-mode iptables --iptables-variant legacy --iptables-lock-timeout 1";
    let mut agent = Agent::start(&namespace, "", flags);
    agent.wait_until("naming the process with the lock", |agent| {
        agent.log().contains(&format!("(pid {})", std::process::id()))
    });
    assert!(!saved(&namespace, "legacy", "iptables").contains("KUBE"));
    drop(lock);
    agent.wait_for_rules("legacy");
}

/// Users open the status page when a sync hangs.
#[test]
fn status_pages_are_answered_while_sync_waits_for_xtables_lock() {
    let namespace = Namespace::new("agent-pages");
    put(&namespace, &example("nodeport.yaml"));
    let file = File::create(namespace.lock_file()).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let flags = "--proxy-mode iptables --iptables-variant legacy --iptables-lock-timeout 60";
    let mut agent = Agent::start(&namespace, "", flags);
    let shows = |agent: &Agent<'_>, path: &str, text: &str| {
        let start = Instant::now();
        let page = agent.get(10249, path);
        // The test holds the lock for up to a minute.
        assert!(start.elapsed() < Duration::from_secs(10), "{path}: {:?}", start.elapsed());
        page.is_some_and(|page| page.starts_with("HTTP/1.1 200") && page.contains(text))
    };
    agent.wait_until("shown as syncing", |agent| shows(agent, "/", "A sync has been running for"));
    for (path, text) in [
        ("/services", "<a href=\"/services/"),
        ("/services?format=json", "\"endpoints\":"),
        ("/drift", "Nothing so far."),
        ("/metrics", "rulegen_"),
    ] {
        assert!(shows(&agent, path, text), "{path}");
    }
    assert!(
        !saved(&namespace, "legacy", "iptables").contains("KUBE"),
        "the agent does not wait for the lock"
    );
    drop(lock);
    agent.wait_for_rules("legacy");
    agent.wait_until("shown as in sync", |agent| shows(agent, "/", "In sync"));
}

#[test]
fn iptables_installed_after_agent_start_is_used() {
    let namespace = Namespace::new("agent-absent");
    put(&namespace, &example("nodeport.yaml"));
    let folder = Path::new(&namespace.file("x", "")).with_file_name("programs");
    fs::create_dir_all(&folder).unwrap();
    let path = format!("PATH={}", folder.display());
    let flags = "--proxy-mode iptables --iptables-backend exec --iptables-sync-period 1s";
    let mut agent = Agent::start(&namespace, &path, flags);
    agent.wait_until("reported", |agent| {
        agent.log().contains("is not installed (Debian: apt-get install iptables)")
    });
    agent.wait_until("unhealthy", |agent| {
        agent.healthz().is_some_and(|answer| answer.starts_with("HTTP/1.1 503"))
    });
    for family in ["iptables", "ip6tables"] {
        for what in ["save", "restore"] {
            let name = format!("{family}-nft-{what}");
            std::os::unix::fs::symlink(format!("/usr/sbin/{name}"), folder.join(name)).unwrap();
        }
    }
    agent.wait_for_rules("nft");
    agent.wait_until("healthy", |agent| {
        agent.healthz().is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
}

/// Each switch between modes: every connection reaches its Service all the time, and only the new
/// rules are left.
#[test]
fn takeover_refuses_no_connection() {
    let nftables = "--proxy-mode nftables --nftables-table";
    for (label, old, new) in [
        ("nft-nftables", "--iptables-variant nft", "--proxy-mode nftables"),
        ("legacy-nftables", "--iptables-variant legacy", "--proxy-mode nftables"),
        ("legacy-nft", "--iptables-variant legacy", "--proxy-mode iptables --iptables-variant nft"),
        (
            "nftables-legacy",
            &format!("{nftables} kube-proxy"),
            "--proxy-mode iptables --iptables-variant legacy",
        ),
        (
            "nftables-nft",
            &format!("{nftables} rulegen"),
            "--proxy-mode iptables --iptables-variant nft",
        ),
    ] {
        let lab = Topology::new(label);
        lab.apply(old);
        put(&lab.node, root().join("tests/netns/cluster.yaml").to_str().unwrap());
        let is_over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let client = scope.spawn(|| send_requests(&lab, &is_over));
            let over = StopOnDrop(&is_over);
            let mut agent = Agent::start(&lab.node, "", new);
            agent.wait_until("without the old rules", |_| has_only_rules_of(&lab.node, new));
            drop(over);
            client.join().unwrap()
        });
        assert!(sent > 20, "{label}: only {sent} requests were sent");
        for (from, to) in REQUESTS {
            let answer = lab.ask(from, Proto::Tcp, to.parse().unwrap());
            assert!(matches!(answer, Answer::From { .. }), "{label}: {from:?} {to}: {answer:?}");
        }
    }
}

/// Cluster IPs, external IPs and node ports of a Service with answering endpoints.
const REQUESTS: [(From, &str); 6] = [
    (From::Pod, "10.96.0.10:80"),
    (From::Node, "10.96.0.10:80"),
    (From::Node, "[fd00:96::10]:80"),
    (From::Outside, "192.168.50.1:30010"),
    (From::Outside, "198.51.100.10:80"),
    (From::Outside, "[2001:db8::10]:80"),
];

/// Sends requests until `is_over` is set, and one more round. Returns their number.
fn send_requests(lab: &Topology, is_over: &AtomicBool) -> usize {
    let mut sent = 0;
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        for (from, to) in REQUESTS {
            let answer = lab.ask_with_long_timeout(from, Proto::Tcp, to.parse().unwrap());
            assert!(matches!(answer, Answer::From { .. }), "{from:?} {to}: {answer:?}");
            sent += 1;
        }
        if is_last {
            return sent;
        }
    }
}

/// Whether only the rules of the mode and variant in `flags` exist.
fn has_only_rules_of(namespace: &Namespace, flags: &str) -> bool {
    let tables = namespace.run("nft list tables");
    let is_nftables = flags.contains("nftables");
    let left = VARIANTS.into_iter().filter(|variant| {
        let families = ["iptables", "ip6tables"].into_iter();
        let mut saved = families.map(|family| saved(namespace, variant, family));
        saved.any(|text| text.contains("KUBE-"))
    });
    let wanted: Vec<&str> =
        VARIANTS.into_iter().filter(|v| flags.contains(&format!("variant {v}"))).collect();
    !tables.contains("kube-proxy")
        && tables.contains("rulegen") == is_nftables
        && left.collect::<Vec<&str>>() == wanted
}

/// Makes `iptables-restore` programs that refuse any input with `address`, and log after each other
/// call how many rules match `of`. Returns the PATH, the log, and a file that ends the refusals
/// when it exists.
fn refusing_programs(namespace: &Namespace, address: &str, of: &str) -> (String, String, String) {
    let counts = namespace.file("counts", "");
    let lifted = Path::new(&counts).with_file_name("lifted").display().to_string();
    let folder = Path::new(&counts).with_file_name("refusing");
    fs::create_dir_all(&folder).unwrap();
    for family in ["iptables", "ip6tables"] {
        let name = format!("{family}-nft-restore");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec /usr/sbin/{name} --version\ntext=$(cat)\n\
             if [ ! -e {lifted} ] && echo \"$text\" | grep -q '{address}'; then\n\
             echo '{name}: line 1 failed' >&2; exit 1; fi\n\
             echo \"$text\" | /usr/sbin/{name} \"$@\" || exit\n\
             /usr/sbin/{family}-nft-save -t nat | grep -c '{of}' >> {counts}\nexit 0\n"
        );
        let path = folder.join(name);
        fs::write(&path, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
    }
    (format!("PATH={}:$PATH", folder.display()), counts, lifted)
}

#[test]
fn quarantine_iptables_leaves_out_only_refused_service() {
    let namespace = Namespace::new("agent-quarantine");
    let cluster = |changed: &[(usize, &str)]| -> String {
        let service_of = |n: usize| {
            let endpoint = changed.iter().find(|(of, _)| *of == n).map(|(_, endpoint)| *endpoint);
            service(n, &[endpoint.unwrap_or(&format!("10.244.1.{n}"))])
        };
        (1..=12).map(service_of).collect()
    };
    let manifest = namespace.file("cluster.yaml", &cluster(&[]));
    let program = env!("CARGO_BIN_EXE_rulegen");
    namespace.run(&format!("{program} -f {manifest} --iptables-variant nft"));

    // Service 7 was accepted before, like all others. Service 3 changes at the same time.
    let (path, counts, lifted) =
        refusing_programs(&namespace, "10.244.9.9", "default/s[1-6] cluster IP");
    put_text(&namespace, &cluster(&[(7, "10.244.9.9"), (3, "10.244.9.3")]));
    let flags = "--proxy-mode iptables --iptables-variant nft --iptables-backend exec";
    let flags = format!("{flags} --iptables-sync-period 1s");
    let mut agent = Agent::start(&namespace, &path, &flags);
    agent.wait_until("updated except Service 7", |agent| {
        let actual = saved(agent.namespace, "nft", "iptables");
        actual.contains("10.244.9.3:") && !actual.contains("default/s7")
    });
    agent.wait_until("named", |agent| agent.log().contains("Service left out service=default/s7"));
    agent.wait_until("counted", |agent| {
        let metrics = agent.get(10249, "/metrics").unwrap_or_default();
        metrics.contains("rulegen_services_left_out{reason=\"refused\"} 1")
    });
    assert!(agent.healthz().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let doctor = stdout(&namespace.shell(&format!("{program} doctor --proxy-mode iptables")));
    assert!(doctor.contains("Service default/s7 is left out: the kernel refused"), "{doctor}");
    // Each Service has one rule that jumps to its chain, and one at the start of that chain.
    let actual: Vec<String> =
        fs::read_to_string(&counts).unwrap().lines().map(Into::into).collect();
    let of_ipv4: Vec<&String> = actual.iter().filter(|count| *count != "0").collect();
    assert!(!of_ipv4.is_empty() && of_ipv4.iter().all(|count| *count == of_ipv4[0]), "{actual:?}");

    // Changes of other Services are still written. The left-out Service returns once it is
    // accepted.
    put_text(&namespace, &cluster(&[(7, "10.244.9.9"), (3, "10.244.9.4")]));
    agent.wait_until("updated again", |agent| {
        saved(agent.namespace, "nft", "iptables").contains("10.244.9.4:")
    });
    fs::write(lifted, "").unwrap();
    put_text(&namespace, &cluster(&[(7, "10.244.9.8"), (3, "10.244.9.4")]));
    agent.wait_for_rules("nft");
    agent.wait_until("reported", |agent| agent.log().contains("Service no longer left out"));
    agent.stop();
}

/// Packets of both IP families see a change at the same time.
#[test]
fn agent_iptables_netlink_commits_both_families_at_once() {
    let namespace = Namespace::new("agent-families");
    let manifest =
        fs::read_to_string(root().join("tests/golden/dual-stack-ipv4-first/cluster.yaml"));
    let manifest = manifest.unwrap();
    put_text(&namespace, &manifest);
    let flags = "--proxy-mode iptables --iptables-variant nft";
    let mut agent = Agent::start(&namespace, "", flags);
    agent.wait_for_rules("nft");
    let generation = || namespace.inside(|| NfTables::open().unwrap().generation().unwrap().0);
    let before = generation();
    let changed = manifest
        .replace("10.244.1.5", "10.244.1.99")
        .replace("fd00:10:244:1::5", "fd00:10:244:1::99");
    put_text(&namespace, &changed);
    agent.wait_until("changed", |agent| {
        let changed =
            [("iptables", "-s 10.244.1.99/32"), ("ip6tables", "-s fd00:10:244:1::99/128")];
        changed.iter().all(|(family, to)| saved(agent.namespace, "nft", family).contains(to))
    });
    assert_eq!(generation().wrapping_sub(before), 1, "{}", agent.log());
}

/// The tables `filter` and `nat` of both IP families.
#[test]
fn agent_iptables_netlink_writes_a_full_resync_in_one_commit() {
    let namespace = Namespace::new("agent-resync");
    let manifest = root().join("tests/golden/dual-stack-ipv4-first/cluster.yaml");
    put_text(&namespace, &fs::read_to_string(manifest).unwrap());
    let generation = || namespace.inside(|| NfTables::open().unwrap().generation().unwrap().0);
    let before = generation();
    let flags = "--proxy-mode iptables --iptables-variant nft";
    let mut agent = Agent::start(&namespace, "", flags);
    agent.wait_for_rules("nft");
    assert_eq!(generation().wrapping_sub(before), 1, "the first sync: {}", agent.log());
    namespace.run("nft flush ruleset");
    agent.wait_for_rules("nft");
    assert_eq!(generation().wrapping_sub(before), 3, "the flush and its repair: {}", agent.log());
    agent.stop();
}

/// A chain that another program's map or rule leads to cannot be deleted. All else is written.
#[test]
fn agent_iptables_netlink_keeps_a_chain_in_use_and_writes_the_rest() {
    const MAP: &str = "nft 'add map ip nat theirs { type inet_service : verdict; \
                       elements = { 9999 : jump CHAIN }; }'";
    const RULE: &str = "nft 'add chain ip nat theirs; \
                        add rule ip nat theirs tcp dport vmap { 9999 : jump CHAIN }'";
    for (way, used_by, undo) in [
        (MAP, "map ip nat theirs", "nft delete map ip nat theirs"),
        (RULE, "a rule of chain ip nat theirs", "nft 'flush chain ip nat theirs'"),
    ] {
        let namespace = Namespace::new("agent-in-use");
        put(&namespace, &example("clusterip.yaml"));
        let flags = "--proxy-mode iptables --iptables-variant nft --iptables-sync-period 1s";
        let mut agent = Agent::start(&namespace, "", flags);
        agent.wait_for_rules("nft");
        let before = saved(&namespace, "nft", "iptables");
        let chain = before.split([':', ' ']).find(|word| word.starts_with("KUBE-SVC-")).unwrap();
        namespace.run(&way.replace("CHAIN", chain));

        put(&namespace, &example("loadbalancer.yaml"));
        let why = format!("chain={chain} used_by=\"{used_by}");
        agent.wait_until("reported", |agent| agent.log().contains(&why));
        // Its line has what was written before the full resync too.
        let is_line = |line: &&str| line.contains("chains deleted except 1 in use");
        agent.wait_until("logged", |agent| agent.log().lines().any(|line| is_line(&line)));
        let log = agent.log();
        let line = log.lines().find(is_line).unwrap();
        for none in [" rules_added=0 ", " chains_added=0 ", " chains_deleted=0 "] {
            assert!(!line.contains(none), "{line}");
        }
        let kept = namespace.run(&format!("nft list chain ip nat {chain}"));
        assert_eq!(kept.matches('\n').count(), 4, "not empty: {kept}");
        let new = wanted(&namespace, "nft", "iptables");
        let new = new.iter().find_map(|line| line.strip_prefix("-A KUBE-EXT-")).unwrap();
        let new = new.split(' ').next().unwrap();
        namespace.run(&format!("nft list chain ip nat KUBE-EXT-{new}"));
        assert!(agent.healthz().unwrap().starts_with("HTTP/1.1 200"), "{}", agent.log());
        assert!(!agent.has_reported_drift(), "{}", agent.log());
        agent.stop();

        // The programs do the same.
        let flags = "--hostname-override node-1 --iptables-variant nft --ip-family ipv4";
        let applied =
            namespace.rulegen(&format!("{flags} --yes -f {}", example("loadbalancer.yaml")));
        let sentence = format!(
            "chain {chain} of table ip nat was emptied but cannot be deleted because {used_by}"
        );
        assert!(stderr(&applied).contains(&sentence), "{}", stderr(&applied));
        let cleaned = namespace.rulegen("cleanup --yes");
        assert!(stderr(&cleaned).contains(chain), "{}", stderr(&cleaned));
        namespace.run(undo);
        namespace.rulegen("cleanup --yes");
        let listed = namespace.run("nft list ruleset");
        assert!(!listed.contains("KUBE-"), "{listed}");
    }
}

/// Without its programs nothing says whether the rules of iptables-legacy are those of Services.
#[test]
fn iptables_variant_without_programs_warns_of_legacy_rules() {
    let namespace = Namespace::new("agent-unseen");
    put(&namespace, &example("clusterip.yaml"));
    let none = Path::new(&namespace.file("x", "")).with_file_name("programs");
    fs::create_dir_all(&none).unwrap();
    let path = format!("PATH={}", none.display());
    const WARNING: &str = "the kernel has rules of iptables-legacy";
    for (has_rules, rule) in [(false, "-L"), (true, "-A PREROUTING -j ACCEPT")] {
        namespace.run(&format!("iptables-legacy -t nat {rule}"));
        let mut agent = Agent::start(&namespace, &path, "--proxy-mode iptables");
        agent.wait_for_rules("nft");
        assert_eq!(agent.log().contains(WARNING), has_rules, "{}", agent.log());
        agent.stop();
    }
}
