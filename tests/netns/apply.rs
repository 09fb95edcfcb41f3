//! apply, diff and cleanup next to foreign rules.

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::common::{root, stderr, stdout};
use crate::namespace::Namespace;

pub(crate) const VARIANTS: [&str; 2] = ["nft", "legacy"];

/// Existing foreign rules: kubelet's chains, a network plugin's, and the administrator's.
const FOREIGN_RULES: &str = "\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-FIREWALL - [0:0]
:CNI-ISOLATION - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -m multiport --dports 22,2222 -j ACCEPT
-A INPUT -s 203.0.113.66/32 -m comment --comment \"the \\\"bad\\\" one\" -j DROP
-A FORWARD -j CNI-ISOLATION
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A CNI-ISOLATION -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.244.1.99:443
COMMIT
";

pub(crate) fn example(name: &str) -> String {
    root().join("examples").join(name).display().to_string()
}

/// The saved rules without counters and iptables' comments.
pub(crate) fn saved(namespace: &Namespace, variant: &str, family: &str) -> String {
    let text = namespace.run(&format!("{family}-{variant}-save"));
    let line = |line: &str| format!("{}\n", line.split(" [").next().unwrap_or_default());
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

pub(crate) fn with_foreign_rules(label: &str, variant: &str) -> Namespace {
    let namespace = Namespace::new(label);
    let others = namespace.file("others", FOREIGN_RULES);
    namespace.run(&format!("iptables-{variant}-restore < {others}"));
    namespace
}

/// Wrappers in PATH that log how the `iptables-restore` programs are called.
pub(crate) fn log_restore_calls(namespace: &Namespace) -> (String, String) {
    let log = namespace.file("restores", "");
    let folder = Path::new(&log).with_file_name("bin");
    fs::create_dir_all(&folder).unwrap();
    for variant in VARIANTS {
        for family in ["iptables", "ip6tables"] {
            let name = format!("{family}-{variant}-restore");
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && exec /usr/sbin/{name} --version\n\
                 echo \"CALL {name} $*\" >> {log}\ntee -a {log} | /usr/sbin/{name} \"$@\"\n"
            );
            let path = folder.join(name);
            fs::write(&path, script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).unwrap();
        }
    }
    (format!("PATH={}:$PATH", folder.display()), log)
}

#[test]
fn apply_runs_one_restore_per_family_and_second_apply_none() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("once", variant);
        let (path, log) = log_restore_calls(&namespace);
        let apply = |manifest: &str| {
            let flags = "--prune --iptables-backend exec";
            let command = format!("{path} {} -f {manifest} {flags}", env!("CARGO_BIN_EXE_rulegen"));
            let before = fs::read_to_string(&log).unwrap();
            let output = namespace.shell(&command);
            assert!(output.status.success(), "{}", stderr(&output));
            let log = fs::read_to_string(&log).unwrap();
            (stderr(&output), log.strip_prefix(&before).unwrap().to_owned())
        };
        let (_, calls) = apply(&example("clusterip.yaml"));
        let called: Vec<&str> = calls.lines().filter(|line| line.starts_with("CALL")).collect();
        let wanted =
            ["iptables", "ip6tables"].map(|f| format!("CALL {f}-{variant}-restore -w 5 --noflush"));
        assert_eq!(called, wanted, "{variant}");

        let before = saved(&namespace, variant, "iptables");
        let (messages, calls) = apply(&example("clusterip.yaml"));
        assert_eq!(calls, "", "{variant}: the second run wrote");
        assert_eq!(messages.matches("nothing to do").count(), 2, "{messages}");
        assert_eq!(saved(&namespace, variant, "iptables"), before);

        // A replaced pod changes the chain of its Service and deletes its own, and nothing else.
        let (messages, calls) = apply(&example("crash.yaml"));
        let lines = |start: &str| calls.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(lines("CALL"), 1, "{calls}");
        assert!(!calls.contains("*filter"), "the filter table was written:\n{calls}");
        assert!(messages.contains(" deleted"), "{messages}");
    }
}

#[test]
fn apply_and_cleanup_keep_foreign_rules() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("others", variant);
        let before = ["iptables", "ip6tables"].map(|family| saved(&namespace, variant, family));
        for manifest in ["loadbalancer.yaml", "nodeport.yaml", "loadbalancer.yaml"] {
            let flags = format!("-f {} --hostname-override node-1 --prune", example(manifest));
            let output = namespace.rulegen(&flags);
            assert!(output.status.success(), "{}", stderr(&output));
            let now = saved(&namespace, variant, "iptables");
            let foreign = |text: &str| -> Vec<String> {
                let ours = [
                    "KUBE-SERVICES",
                    "KUBE-EXT",
                    "KUBE-NODEPORTS",
                    "KUBE-PROXY-FIREWALL",
                    "KUBE-FORWARD",
                    "KUBE-SVC",
                    "KUBE-SVL",
                    "KUBE-SEP",
                    "KUBE-FW",
                    "KUBE-MARK-MASQ",
                    "KUBE-POSTROUTING",
                ];
                text.lines()
                    .filter(|line| !ours.iter().any(|name| line.contains(name)))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(foreign(&now), foreign(&before[0]), "{variant} {manifest}");
            assert!(now.contains("KUBE-SVC-"), "{now}");
        }
        let output = namespace.rulegen("cleanup");
        assert!(output.status.success(), "{}", stderr(&output));
        let after = ["iptables", "ip6tables"].map(|family| saved(&namespace, variant, family));
        assert_eq!(chains_of(&after[0]), chains_of(&before[0]), "{variant}");
        // ip6tables had no tables before. Now it has at most empty ones.
        assert!(!after[1].contains("KUBE"), "{}", after[1]);
        assert!(!after[1].contains("-A "), "{}", after[1]);
        assert!(stderr(&namespace.rulegen("cleanup")).matches("nothing to do").count() == 5);
    }
}

/// Saved rules as sorted lines, with the rules of each chain in order. iptables chooses the order
/// of chains.
pub(crate) fn chains_of(saved: &str) -> Vec<String> {
    let mut lines: Vec<String> = saved.lines().map(str::to_owned).collect();
    lines.sort_by_key(|line| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>());
    lines
}

#[test]
fn cleanup_leaves_empty_namespace_empty() {
    for variant in VARIANTS {
        let namespace = Namespace::new("empty");
        let apply = format!("-f {} --iptables-variant {variant}", example("nodeport.yaml"));
        assert!(namespace.rulegen(&apply).status.success());
        assert!(saved(&namespace, variant, "iptables").contains("KUBE-FIREWALL"));
        assert!(namespace.rulegen("cleanup").status.success());
        for family in ["iptables", "ip6tables"] {
            let left = saved(&namespace, variant, family);
            assert!(!left.contains("KUBE") && !left.contains("-A "), "{variant} {family}:\n{left}");
        }
    }
}

/// The jumps are where kube-proxy puts them: before all others, in its order.
#[test]
fn apply_puts_jumps_first_in_order_of_kube_proxy() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("jumps", variant);
        assert!(namespace.rulegen(&format!("-f {}", example("nodeport.yaml"))).status.success());
        let now = saved(&namespace, variant, "iptables");
        let targets = |chain: &str| -> Vec<String> {
            let rules = now.lines().filter(|line| line.starts_with(&format!("-A {chain} ")));
            rules.map(|rule| rule.split(' ').next_back().unwrap().to_owned()).collect()
        };
        // KUBE-FIREWALL existed before. kube-proxy leaves an existing jump where it is.
        let input = [
            "KUBE-PROXY-FIREWALL",
            "KUBE-NODEPORTS",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-FIREWALL",
            "ACCEPT",
            "DROP",
        ];
        assert_eq!(targets("INPUT"), input, "{variant}");
        let forward = [
            "KUBE-PROXY-FIREWALL",
            "KUBE-FORWARD",
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "CNI-ISOLATION",
        ];
        assert_eq!(targets("FORWARD"), forward, "{variant}");
        assert_eq!(targets("PREROUTING"), ["KUBE-SERVICES", "CNI-HOSTPORT-DNAT"], "{variant}");
        assert_eq!(targets("POSTROUTING"), ["KUBE-POSTROUTING", "MASQUERADE"], "{variant}");
    }
}

#[test]
fn dry_run_output_equals_applied_iptables_rules() {
    for variant in VARIANTS {
        let namespace = Namespace::new("printed");
        let flags = format!("-f {} --hostname-override node-1", example("loadbalancer.yaml"));
        for family in ["ipv4", "ipv6"] {
            let printed = namespace.rulegen(&format!("--dry-run {flags} --ip-family {family}"));
            let file = namespace.file(family, &stdout(&printed));
            let program = if family == "ipv4" { "iptables" } else { "ip6tables" };
            namespace.run(&format!("{program}-{variant}-restore < {file}"));
        }
        let output = namespace.rulegen(&format!("{flags} --iptables-variant {variant}"));
        assert_eq!(
            stderr(&output).matches("nothing to do").count(),
            2,
            "{variant}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn diff_prints_changes_and_writes_nothing() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("diff", variant);
        let diff = |manifest: &str| namespace.rulegen(&format!("diff -f {}", example(manifest)));
        let before = saved(&namespace, variant, "iptables");
        let output = diff("clusterip.yaml");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("IPv4 nat KUBE-SERVICES: new chain"),
            "{}",
            stdout(&output)
        );
        assert_eq!(saved(&namespace, variant, "iptables"), before);

        assert!(namespace.rulegen(&format!("-f {}", example("clusterip.yaml"))).status.success());
        let output = diff("clusterip.yaml");
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));

        let output = diff("crash.yaml");
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains(": changed") && text.contains(": deleted"), "{text}");
        assert!(text.contains("--to-destination 10.244.1.5:8080"), "{text}");
        assert!(!text.contains("filter"), "{text}");
        assert_eq!(namespace.rulegen("diff -f missing.yaml").status.code(), Some(2));
    }
}

/// Detected by kubelet's chains, otherwise the newer one.
#[test]
fn iptables_variant_is_detected_from_kubelet_chains() {
    let namespace = Namespace::new("variant");
    let used = |namespace: &Namespace| {
        let messages = stderr(
            &namespace.rulegen(&format!("-f {} --ip-family ipv4", example("nodeport.yaml"))),
        );
        VARIANTS.into_iter().find(|variant| messages.contains(&format!("iptables-{variant}")))
    };
    assert_eq!(used(&namespace), Some("nft"), "without rules of kubelet");
    assert!(namespace.rulegen("cleanup").status.success());
    namespace.run("iptables-legacy -t mangle -N KUBE-KUBELET-CANARY");
    assert_eq!(used(&namespace), Some("legacy"), "with kubelet's canary");
    namespace.run("ip6tables-nft -t mangle -N KUBE-IPTABLES-HINT");
    assert_eq!(used(&namespace), Some("nft"), "with kubelet's hint in the nft variant");
}

/// A chain with a jump from a foreign rule cannot be deleted. All other chains are still deleted,
/// and the foreign rule stays, in whatever chain it is.
#[test]
fn cleanup_keeps_chain_that_foreign_rule_uses() {
    for variant in VARIANTS {
        let namespace = with_foreign_rules("used", variant);
        let flags = format!("-f {}", example("nodeport.yaml"));
        assert!(namespace.rulegen(&flags).status.success());
        namespace.run(&format!(
            "iptables-{variant} -t nat -A CNI-HOSTPORT-DNAT -p udp --dport 53 -j KUBE-MARK-MASQ; \
             iptables-{variant} -t nat -A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ"
        ));
        let output = namespace.rulegen("cleanup");
        let messages = stderr(&output);
        assert!(output.status.success(), "{messages}");
        assert!(messages.contains("kept nat KUBE-MARK-MASQ"), "{messages}");
        let left = saved(&namespace, variant, "iptables");
        assert!(left.contains("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"), "{left}");
        assert!(left.contains("-A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ"), "{left}");
        assert!(!left.contains("KUBE-SERVICES") && !left.contains("KUBE-SEP"), "{left}");
    }
}

/// iptables-nft-save omits a table with a rule that only nft can make, and succeeds. Through
/// netlink the rule is one of others, like any.
#[test]
fn apply_keeps_rules_that_iptables_cannot_show() {
    const NATIVE: &str = "ip daddr { 192.0.2.1, 192.0.2.2 } masquerade";
    let namespace = Namespace::new("incompatible");
    let apply = format!("-f {} --iptables-variant nft", example("nodeport.yaml"));
    assert!(namespace.rulegen(&apply).status.success());
    namespace.run(&format!("nft add rule ip nat POSTROUTING {NATIVE}"));
    let output = namespace.rulegen(&format!("{apply} --iptables-backend exec"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Table `nat' is incompatible"), "{}", stderr(&output));

    namespace.run("nft insert rule ip nat KUBE-SERVICES ip daddr { 192.0.2.3, 192.0.2.4 } drop");
    let output = namespace.rulegen(&apply);
    assert!(
        stderr(&output).contains("IPv4 (iptables-nft): 1 chain written"),
        "{}",
        stderr(&output)
    );
    assert!(!namespace.run("nft list chain ip nat KUBE-SERVICES").contains("192.0.2.3"));
    let output = namespace.rulegen(&apply);
    assert_eq!(stderr(&output).matches("nothing to do").count(), 2, "{}", stderr(&output));
    let rules = namespace.run("nft list chain ip nat PREROUTING");
    assert_eq!(rules.matches("jump KUBE-SERVICES").count(), 1, "{rules}");
    assert!(namespace.rulegen("cleanup").status.success());
    let left = namespace.run("nft list table ip nat");
    assert!(left.contains(NATIVE) && !left.contains("KUBE-"), "{left}");
}

/// Rules of IPv6 are removed even if IPv6 was disabled since.
#[test]
fn cleanup_works_with_ipv6_disabled() {
    let namespace = Namespace::new("noipv6");
    let apply = format!("-f {} --iptables-variant nft", example("nodeport.yaml"));
    assert!(namespace.rulegen(&apply).status.success());
    namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let messages = stderr(&namespace.rulegen(&apply));
    assert!(messages.contains("IPv6 is unavailable or disabled"), "{messages}");
    assert!(namespace.rulegen("--cleanup").status.success());
    assert!(!saved(&namespace, "nft", "ip6tables").contains("KUBE"));
}

#[test]
fn apply_works_without_ip6tables() {
    let namespace = Namespace::new("noip6tables");
    let folder = Path::new(&namespace.file("x", "")).with_file_name("only4");
    fs::create_dir_all(&folder).unwrap();
    for name in ["iptables-nft-save", "iptables-nft-restore"] {
        std::os::unix::fs::symlink(format!("/usr/sbin/{name}"), folder.join(name)).unwrap();
    }
    let rulegen = format!("PATH={} {}", folder.display(), env!("CARGO_BIN_EXE_rulegen"));
    let apply = format!("{rulegen} -f {} --iptables-backend exec", example("nodeport.yaml"));
    let output = namespace.shell(&apply);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("ip6tables is not installed"), "{}", stderr(&output));
    assert_eq!(namespace.shell(&format!("{apply} --ip-family dual")).status.code(), Some(1));
    assert!(namespace.shell(&format!("{rulegen} cleanup")).status.success());
}

/// Rules of the other variant stay in effect, so the user is warned.
#[test]
fn apply_warns_of_rules_in_other_iptables_variant() {
    for (used, other) in [("nft", "legacy"), ("legacy", "nft")] {
        let namespace = Namespace::new("both");
        let apply = |variant: &str| {
            let flags = format!("-f {} --iptables-variant {variant}", example("nodeport.yaml"));
            stderr(&namespace.rulegen(&flags))
        };
        assert!(!apply(other).contains("warning"));
        let messages = apply(used);
        assert!(
            messages.contains(&format!("warning: iptables-{other} also has rules")),
            "{messages}"
        );
    }
}

/// iptables-legacy has one exit status for a lock that is held and for one that cannot be opened.
#[test]
fn xtables_lock_file_that_cannot_be_opened_is_not_said_to_be_held() {
    let namespace = Namespace::new("nolock");
    let lock = format!("{}/none", namespace.lock_file());
    let rulegen = format!("XTABLES_LOCKFILE={lock} {}", env!("CARGO_BIN_EXE_rulegen"));
    let flags = format!("-f {} --iptables-variant legacy", example("nodeport.yaml"));
    let output = namespace.shell(&format!("{rulegen} {flags}"));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains(&lock) && !messages.contains("held by"), "{messages}");
}

/// rulegen waits for the lock of iptables-legacy, and names the process that holds it.
#[test]
fn xtables_lock_holder_is_named_and_apply_waits() {
    let namespace = Namespace::new("lock");
    namespace.run("iptables-legacy -t mangle -N KUBE-KUBELET-CANARY");
    let file = File::create(namespace.lock_file()).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    assert!(lock.as_fd().try_clone_to_owned().is_ok());

    let apply = format!("-f {} --iptables-lock-timeout 1", example("nodeport.yaml"));
    let output = namespace.rulegen(&apply);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("xtables lock") && messages.contains("held by"), "{messages}");
    assert!(messages.contains(&format!("(pid {})", std::process::id())), "{messages}");

    let started = Instant::now();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            namespace
                .rulegen(&format!("-f {} --iptables-lock-timeout 60", example("nodeport.yaml")))
        });
        while !is_waiting(&namespace) {
            assert!(started.elapsed() < Duration::from_secs(30), "no process waits for the lock");
            std::thread::yield_now();
        }
        drop(lock);
        waiting.join().unwrap()
    });
    assert!(waiting.status.success(), "{}", stderr(&waiting));
}

/// Whether iptables-legacy-restore runs in the namespace. It takes the lock first.
fn is_waiting(namespace: &Namespace) -> bool {
    let pids = namespace.run(&format!("ip netns pids {}", namespace.name));
    pids.lines().any(|pid| {
        let name = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        name.starts_with("iptables-legacy-restore\0-w")
    })
}

#[test]
fn apply_reports_missing_iptables_programs() {
    let namespace = Namespace::new("missing");
    let program = env!("CARGO_BIN_EXE_rulegen");
    let apply = format!("{program} -f {}", example("nodeport.yaml"));
    let output = namespace.shell(&format!("PATH=/nonexistent {apply} --iptables-backend exec"));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("iptables-nft-restore is not installed"),
        "{}",
        stderr(&output)
    );
}

/// iptables mode needs neither a program nor another capability than CAP_NET_ADMIN.
#[test]
fn apply_iptables_netlink_needs_no_program_and_only_net_admin() {
    let namespace = Namespace::new("no-program");
    let setpriv = "PATH=/nonexistent /usr/bin/setpriv --bounding-set -all,+net_admin";
    let program = format!("{setpriv} {}", env!("CARGO_BIN_EXE_rulegen"));
    let apply = format!("{program} -f {}", example("nodeport.yaml"));
    for (command, answer) in [
        (apply.as_str(), "IPv4 (iptables-nft): "),
        (&apply, "IPv4 (iptables-nft): nothing to do"),
        (&format!("{program} diff -f {} --proxy-mode iptables", example("nodeport.yaml")), ""),
        (&format!("{program} list --proxy-mode iptables"), ""),
    ] {
        let output = namespace.shell(command);
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(answer), "{command}: {}", stderr(&output));
    }
    assert!(saved(&namespace, "nft", "iptables").contains("KUBE-SVC-"));
    assert!(saved(&namespace, "nft", "ip6tables").contains("KUBE-SERVICES"));
    let output = namespace.shell(&format!("{program} cleanup"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!saved(&namespace, "nft", "iptables").contains("KUBE-"));
}

/// A change of one rule in a chain of many leaves the others with their counters, in place.
#[test]
fn apply_iptables_netlink_writes_only_rules_that_differ() {
    let namespace = Namespace::new("few-rules");
    let apply = |manifest: &str| {
        let flags = format!("-f {manifest} --prune --iptables-variant nft --ip-family ipv4");
        let output = namespace.rulegen(&flags);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let service = |n: usize, port: usize| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: default}}\n\
             spec: {{clusterIP: 10.96.0.{n}, ports: [{{port: {port}}}]}}\n"
        )
    };
    let cluster = |port: usize| {
        (1..=9).map(|n| service(n, if n == 5 { port } else { 80 })).collect::<String>()
    };
    let handles = || -> Vec<(String, String)> {
        let listed = namespace.run("nft -a list chain ip filter KUBE-SERVICES");
        let rules = listed.lines().filter_map(|line| line.trim().split_once(" # handle "));
        let rules = rules.filter(|(rule, _)| rule.contains("10.96.0."));
        rules.map(|(rule, handle)| (rule.to_owned(), handle.to_owned())).collect()
    };
    apply(&namespace.file("a.yaml", &cluster(80)));
    let before = handles();
    apply(&namespace.file("b.yaml", &cluster(81)));
    let after = handles();
    assert_eq!((before.len(), after.len()), (9, 9), "{before:?} {after:?}");
    let changed: Vec<usize> = (0..9).filter(|n| before[*n] != after[*n]).collect();
    assert_eq!(changed, [4], "{before:?} {after:?}");
}
