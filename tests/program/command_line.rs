//! The command line: help that teaches, completion, versions, exit statuses.

use crate::common::{Scratch, root, rulegen, stderr, stdout};

#[test]
fn help_lists_commands_examples_and_exit_status() {
    let help = stdout(&rulegen(&root(), &["--help"]));
    for part in ["kube-proxy", "Examples:", "--dry-run", "--cluster-cidr", "Exit status", "cleanup"]
    {
        assert!(help.contains(part), "--help does not say {part:?}:\n{help}");
    }
    let commands = [
        "apply",
        "diff",
        "list",
        "explain",
        "test",
        "trace",
        "doctor",
        "agent",
        "cleanup",
        "completion",
    ];
    for command in commands {
        let output = rulegen(&root(), &[command, "--help"]);
        assert!(output.status.success());
        assert!(help.contains(&format!("  {command} ")), "--help does not name {command}");
    }
}

#[test]
fn help_lines_have_at_most_100_characters() {
    for command in ["", "diff", "list", "explain", "test", "trace", "doctor", "agent", "cleanup"] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let arguments = arguments.as_slice();
        let help = stdout(&rulegen(&root(), arguments));
        let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{arguments:?}: {long:?}");
    }
}

#[test]
fn doctor_list_checks_and_check_flag() {
    let listed = stdout(&rulegen(&root(), &["doctor", "--list-checks"]));
    let names: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"ip-forward") && names.contains(&"node-ports"), "{listed}");
    let text = stdout(&rulegen(&root(), &["doctor", "--check", "ip-forward", "rp-filter"]));
    let lines = text.lines().filter(|line| !line.starts_with("    ")).count();
    assert_eq!(lines, 3, "two checks and a summary: {text}");
}

#[test]
fn completion_scripts_for_bash_zsh_fish() {
    for (shell, part) in
        [("bash", "complete -F"), ("zsh", "#compdef rulegen"), ("fish", "complete -c rulegen")]
    {
        let output = rulegen(&root(), &["completion", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains(part), "{shell}");
    }
}

#[test]
fn usage_error_exits_with_2() {
    for arguments in [
        &[][..],
        &["--dry-run"],
        &["--no-such-flag"],
        &["--dry-run", "-f", "x", "-o", "xml"],
        &["-f", "x", "-o", "json"],
        &["--dry-run", "-f", "x", "--iptables-masquerade-bit", "32"],
        &["completion", "tcsh"],
        &["doctor", "--check", "nothing"],
        &["--dry-run", "-f", "x", "--masquerade-all=maybe"],
        &["list", "--dry-run"],
        &["list", "--differing"],
        &["list", "-o", "xml"],
        &["list", "-f", "x", "--kubeconfig", "y"],
        &["diff", "-f", "x", "-o", "yaml"],
        &["diff", "-f", "x", "--kubeconfig", "y"],
    ] {
        let output = rulegen(&root(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

/// One row a command: how it is called, and its status where the input is fine and where it cannot
/// be used. `None` where that is the machine's matter.
const STATUSES: [(&[&str], Option<i32>, i32); 9] = [
    (&["--dry-run"], Some(0), 1),
    (&["--dry-run", "--proxy-mode", "nftables", "-o", "json"], Some(0), 1),
    (&["apply"], None, 1),
    (&["diff"], None, 2),
    (&["list"], None, 1),
    (&["list", "--dry-run", "-o", "json"], Some(0), 1),
    (&["explain", "--from", "192.0.2.1", "--to", "10.96.0.99:80"], Some(0), 1),
    (&["explain", "--live", "--from", "192.0.2.1", "--to", "10.96.0.99:80"], None, 1),
    (&["doctor", "-o", "json"], None, 1),
];

/// Nothing is printed on standard output where the input or the configuration cannot be used.
#[test]
fn unusable_input_or_configuration_is_rejected_by_every_command() {
    let scratch = Scratch::new("unusable");
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    let file = |name: &str, text: &str| scratch.write(name, text);
    let empty = scratch.0.join("folder");
    std::fs::create_dir(&empty).unwrap();
    let inputs = [
        file("table.txt", "NAME   TYPE        CLUSTER-IP\nweb    ClusterIP   10.96.0.1\n"),
        file("null.yaml", "null\n"),
        file("cut.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": ["),
        file("none.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}"),
        scratch.0.join("missing.yaml").to_str().unwrap().to_owned(),
        empty.to_str().unwrap().to_owned(),
    ];
    let kind = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let configs = [
        file("broken.yaml", "mode: ["),
        file("detect.yaml", &format!("{kind}detectLocalMode: Magic\n")),
        scratch.0.join("missing-config.yaml").to_str().unwrap().to_owned(),
    ];
    for (command, fine, unusable) in STATUSES {
        let run = |arguments: &[&str]| rulegen(&scratch.0, &[command, arguments].concat());
        if let Some(fine) = fine {
            let output = run(&["-f", good]);
            assert_eq!(output.status.code(), Some(fine), "{command:?}: {}", stderr(&output));
            assert!(!output.stdout.is_empty(), "{command:?}");
        }
        let refused = |arguments: &[&str]| {
            let output = run(arguments);
            let message = stderr(&output);
            assert_eq!(
                output.status.code(),
                Some(unusable),
                "{command:?} {arguments:?}: {message}"
            );
            assert_eq!(stdout(&output), "", "{command:?} {arguments:?}");
            assert!(message.contains("error: "), "{command:?} {arguments:?}: {message}");
        };
        for input in &inputs {
            // A valid second file does not help, except where only Services are missing.
            if !input.ends_with("none.json") {
                refused(&["-f", input, "-f", good]);
            }
            refused(&["-f", input]);
        }
        for config in &configs {
            refused(&["-f", good, "--config", config]);
        }
    }
}

/// Every command has its row in the one table, and its own help has the same.
#[test]
fn help_documents_exit_status_of_every_command() {
    let help = stdout(&rulegen(&root(), &["--help"]));
    let (_, table) = help.split_once("\nExit status:\n").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("  ")).collect();
    let row = |command: &str| {
        let row = rows.iter().find(|row| row.split_whitespace().next() == Some(command));
        row.unwrap_or_else(|| panic!("{command} has no row in\n{table}"))
    };
    row("--dry-run");
    row("completion");
    for command in
        ["apply", "diff", "list", "explain", "test", "doctor", "trace", "agent", "cleanup"]
    {
        let own = stdout(&rulegen(&root(), &[command, "--help"]));
        let own = own.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, own) = own.split_once("Exit status: 0 ").unwrap_or_else(|| panic!("{command}"));
        let zero = own.split(';').next().unwrap();
        assert!(row(command).contains(zero), "{command}: {zero:?} is not in {}", row(command));
    }
}

#[test]
fn flag_with_invalid_value_is_named_in_the_error() {
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    for (flag, part) in [
        ("--cluster-cidr=10.244.0.0", "--cluster-cidr"),
        ("--cluster-cidr=10.0.0.0/8,10.1.0.0/16", "--cluster-cidr"),
        ("--detect-local-mode=Magic", "--detect-local-mode"),
        ("--nodeport-addresses=here", "invalid value 'here' for '--nodeport-addresses <CIDRS>'"),
        ("--nodeport-addresses=10.0.0.0/8,primary", "for '--nodeport-addresses <CIDRS>'"),
        ("--external-ips=10.0.0.1", "invalid value '10.0.0.1' for '--external-ips <CIDRS>'"),
        ("--external-ips=all,10.0.0.0/8", "for '--external-ips <CIDRS>'"),
        (
            "--feature-gates=AllowServiceExternalIPs",
            "for '--feature-gates <GATES>': expected NAME=BOOL",
        ),
        ("--pod-bridge-interface=much-too-long-a-name", "--pod-bridge-interface"),
        ("--proxy-mode=ipvs", "unsupported mode \"ipvs\" (use nftables: "),
        ("--proxy-mode=kernelspace", "keep kube-proxy there"),
    ] {
        let output = rulegen(&root(), &["--dry-run", "-f", good, flag]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(stderr(&output).contains(part), "{flag}: {}", stderr(&output));
    }
    // Each value is valid, but not both together.
    for (flag, other) in [
        ("--nodeport-addresses=primary", "--nodeport-addresses=10.0.0.0/8"),
        ("--external-ips=none", "--external-ips=10.0.0.0/8"),
    ] {
        let output = rulegen(&root(), &["--dry-run", "-f", good, flag, other]);
        assert_eq!(output.status.code(), Some(2), "{flag} {other}");
        assert!(stderr(&output).contains("must stand alone"), "{flag}: {}", stderr(&output));
    }
}

#[test]
fn flags_with_lists_of_networks_may_be_repeated() {
    let compiled = |flags: &[&str]| {
        let good = root().join("examples/nodeport.yaml");
        let known = ["--dry-run", "-f", good.to_str().unwrap(), "--hostname-override", "node-1"];
        let output = rulegen(&root(), &[&known[..], flags].concat());
        assert!(output.status.success(), "{flags:?}: {}", stderr(&output));
        stdout(&output)
    };
    let [other, one] = ["--nodeport-addresses=10.0.0.0/8", "--nodeport-addresses=192.168.0.0/16"];
    let once = compiled(&["--nodeport-addresses=10.0.0.0/8,192.168.0.0/16"]);
    assert!(compiled(&[other, one]) == once);
    assert!(compiled(&[other]) != once);
}

/// A flag with a fixed set of values lists them in the help and in completions, and a typo is
/// answered with the nearest.
#[test]
fn flags_with_possible_values_list_and_suggest_them() {
    let help = stdout(&rulegen(&root(), &["diff", "--help"]));
    let completion = stdout(&rulegen(&root(), &["completion", "bash"]));
    let suggestions = [
        ("--proxy-mode=nftable", "[possible values: iptables, nftables]", "'nftables'"),
        (
            "--detect-local-mode=NodeCidr",
            "[possible values: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix]",
            "'NodeCIDR'",
        ),
        (
            "--load-balancing=roundrobin",
            "[possible values: random, round-robin, maglev, maglev-5tuple]",
            "'round-robin'",
        ),
    ];
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (typo, values, nearest) in suggestions {
        assert!(plain(&help).contains(values), "{typo}: {help}");
        let names = values.trim_start_matches("[possible values: ").trim_end_matches(']');
        assert!(completion.contains(&names.replace(',', "")), "{typo}");
        let output = rulegen(&root(), &["diff", "-f", "none.yaml", typo]);
        assert_eq!(output.status.code(), Some(2), "{typo}");
        let message = stderr(&output);
        assert!(message.contains(&format!("a similar value exists: {nearest}")), "{message}");
    }
    let output = rulegen(&root(), &["doctor", "--check", "endpoint"]);
    assert!(stderr(&output).contains("'endpoints'"), "{}", stderr(&output));
}

/// The agent needs the file for the rules and for how it runs, and reads it once.
#[test]
fn configuration_of_wrong_kind_is_reported_once() {
    let scratch = Scratch::new("wrong-kind");
    let config = scratch.write("config.yaml", "apiVersion: v1\nkind: ConfigMap\n");
    let folder = scratch.0.to_str().unwrap();
    let output = rulegen(&root(), &["agent", "--manifests", folder, "--config", &config]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.matches("unsupported value \"ConfigMap\"").count(), 1, "{message}");
    assert_eq!(message.matches("unsupported value \"v1\"").count(), 1, "{message}");
}

#[test]
fn output_format_must_match_proxy_mode() {
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    for (mode, form) in [("iptables", "nft"), ("nftables", "iptables-save")] {
        let output = rulegen(&root(), &["--dry-run", "-f", good, "--proxy-mode", mode, "-o", form]);
        assert_eq!(output.status.code(), Some(2), "{mode}");
        assert!(stderr(&output).contains("does not fit"), "{mode}: {}", stderr(&output));
    }
    let output = rulegen(&root(), &["--dry-run", "-f", good, "--proxy-mode=nftables", "-o=json"]);
    let tables: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let families: Vec<_> = tables.as_array().unwrap().iter().map(|t| &t["family"]).collect();
    assert_eq!(families, ["ipv4", "ipv6"], "both families by default");
}

#[test]
fn output_format_iptables_save_needs_one_ip_family() {
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    let output = rulegen(&root(), &["--dry-run", "-f", good, "--ip-family", "dual"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("one family"));
    let output = rulegen(&root(), &["--dry-run", "-f", good, "-o", "json"]);
    let families: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(families[0]["family"], "ipv4");
    assert_eq!(families[1]["family"], "ipv6");
}

#[test]
fn flag_masquerade_bit_overrides_configuration() {
    let scratch = Scratch::new("flag-wins");
    let config = scratch.write(
        "config.yaml",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\niptables:\n  masqueradeBit: 8\n",
    );
    let good = root().join("tests/good.yaml");
    let arguments = ["--dry-run", "-f", good.to_str().unwrap(), "--config", &config];
    assert!(stdout(&rulegen(&root(), &arguments)).contains("--set-xmark 0x100/0x100"));
    let with_flag = [&arguments[..], &["--iptables-masquerade-bit", "5"]].concat();
    assert!(stdout(&rulegen(&root(), &with_flag)).contains("--set-xmark 0x20/0x20"));
}

#[test]
fn explain_errors_name_missing_or_invalid_arguments() {
    let good = root().join("tests/good.yaml");
    let good = good.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--from", "10.244.9.9", "--to", "10.96.0.99:80"], 2, "use -f or --kubeconfig"),
        (&["--from", "10.244.9.9", "--to", "[fd00::1]:80", "-f", good], 2, "different IP families"),
        (&["--from", "10.244.9.9", "--to", "10.96.0.", "-f", good], 2, "invalid IP:PORT"),
        (
            &["--from", "10.244.9.9", "--to", "10.96.0.99:80/icmp", "-f", good],
            2,
            "ICMP has no ports: use 10.96.0.99/icmp",
        ),
        (&["--from", "10.244.9.9", "--to", "default/none", "-f", good], 1, "default/none"),
    ];
    for (arguments, status, words) in cases {
        let output = rulegen(&root(), &[&["explain"], arguments].concat());
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
}

/// A pod with addresses of both families is the only endpoint of a Service.
const DUAL_STACK: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd00:96::10']
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.1.5], targetRef: {kind: Pod, namespace: default, name: web-0}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{port: 80}]
endpoints: [{addresses: ['fd00:10:244:1::5'], targetRef: {kind: Pod, namespace: default, name: web-0}}]
";

#[test]
fn explain_ip_family_chooses_address_of_pod_with_both_families() {
    let scratch = Scratch::new("explain-family");
    let file = scratch.write("dual.yaml", DUAL_STACK);
    let explain = |from: &str, family: &[&str]| {
        let arguments = ["explain", "-f", &file, "--from", from, "--to", "default/web"];
        rulegen(&root(), &[&arguments[..], family].concat())
    };
    for (family, first_line) in [
        (&[][..], "10.244.1.5 → 10.96.0.10:80/tcp"),
        (&["--ip-family", "dual"], "10.244.1.5 → 10.96.0.10:80/tcp"),
        (&["--ip-family", "ipv4"], "10.244.1.5 → 10.96.0.10:80/tcp"),
        (&["--ip-family", "ipv6"], "fd00:10:244:1::5 → [fd00:96::10]:80/tcp"),
    ] {
        let output = explain("default/web-0", family);
        assert!(stdout(&output).starts_with(first_line), "{family:?}: {}", stdout(&output));
    }
    let output = explain("fd00:50::1", &["--ip-family", "ipv6"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = explain("10.244.9.9", &["--ip-family", "ipv6"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("10.244.9.9 is not an IPv6 address"), "{}", stderr(&output));
    let output = explain("default/web-1", &["--ip-family", "ipv6"]);
    assert!(stderr(&output).contains("has an IPv6 address of pod default/web-1"));
}

#[test]
fn a_manifest_without_its_flag_gets_an_error_that_names_the_command() {
    let example = "examples/nodeport.yaml";
    let cases: [(&[&str], &str); 6] = [
        (&[example], "use 'rulegen apply -f examples/nodeport.yaml'"),
        (&["examples"], "use 'rulegen apply -f examples'"),
        (&["-f", "x", example], "use '-f examples/nodeport.yaml', with one -f for each"),
        (&["--dry-run", example], "use '-f examples/nodeport.yaml'"),
        (&["diff", "new.yaml"], "use '-f new.yaml'"),
        (&["aply"], "a similar subcommand exists: 'apply'"),
    ];
    for (arguments, hint) in cases {
        let output = rulegen(&root(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn filename_takes_one_value_so_that_other_arguments_can_follow() {
    let example = "examples/nodeport.yaml";
    let node = ["--hostname-override", "node-1"];
    let arguments = [&["list", "--dry-run", "-f", example, "web-service"], &node[..]].concat();
    let output = rulegen(&root(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = stdout(&output);
    assert!(listed.contains("web-service") && !listed.contains("example-service"), "{listed}");
    let both = ["--dry-run", "-f", example, "-f", "examples/clusterip.yaml"];
    assert!(stdout(&rulegen(&root(), &both)).contains("default/backend-service"));
}

/// A DaemonSet's arguments can be used as they are.
#[test]
fn kube_proxy_runtime_flags_are_accepted() {
    let good = root().join("tests/good.yaml");
    let flags = [
        "--kubeconfig=/etc/kubernetes/kubeconfig",
        "--healthz-bind-address=0.0.0.0:10256",
        "--conntrack-max-per-core=32768",
        "--oom-score-adj=-999",
        "--hostname-override=",
        "--proxy-mode=",
        "--masquerade-all=True",
        "--v=2",
    ];
    let arguments = [&["--dry-run", "-f", good.to_str().unwrap()], &flags[..]].concat();
    let output = rulegen(&root(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: flags used only by `rulegen agent`: --kubeconfig, "));
    assert!(stdout(&output).contains("cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ"));
}

#[test]
fn list_has_the_flags_of_kubectl() {
    let names = "default/web-service\ndefault/web-service-local\ndefault/web-service-office\n";
    assert_eq!(listed("loadbalancer", &["-o", "name"]), names);
    let (header, rows) = CLUSTER_IPS.split_once('\n').unwrap();
    assert!(header.starts_with("NAMESPACE"));
    assert_eq!(listed("clusterip", &["--no-headers"]), rows);
}

#[test]
fn list_selects_services_by_label() {
    let scratch = Scratch::new("list-selector");
    let service = |name: &str, ip: u8, labels: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, labels: {labels}}}\n\
             spec: {{clusterIP: 10.96.0.{ip}, ports: [{{port: 80}}]}}\n"
        )
    };
    let services = [
        service("a", 1, "{app: web, tier: front}"),
        service("b", 2, "{app: web, tier: back}"),
        service("c", 3, "null"),
    ];
    scratch.write("services.yaml", services.join("---\n"));
    let list = |arguments: &[&str]| {
        let known = ["list", "--dry-run", "-o", "name", "-f", "services.yaml"];
        let output = rulegen(&scratch.0, &[&known[..], arguments].concat());
        (output.status.code(), stdout(&output), stderr(&output))
    };
    for (selector, expected) in [
        ("app=web", "default/a\ndefault/b\n"),
        ("app=web,tier notin (back)", "default/a\n"),
        ("!app", "default/c\n"),
        ("app=db", ""),
        ("", "default/a\ndefault/b\ndefault/c\n"),
    ] {
        let (status, listed, said) = list(&["-l", selector]);
        assert_eq!((status, &*listed), (Some(0), expected), "{selector:?}: {said}");
    }
    assert_eq!(list(&["--selector=app", "-n", "other"]).1, "");
    for (arguments, error) in
        [(&["-l", "app web"][..], "\"app\" needs ="), (&["-l", "app", "a"], "cannot be used with")]
    {
        let (status, _, said) = list(arguments);
        assert!(status == Some(2) && said.contains(error), "{arguments:?}: {said}");
    }
    let output = rulegen(&scratch.0, &["list", "-l", "app=web"]);
    assert_eq!(output.status.code(), Some(2));
    let error = "--selector needs labels, which only objects have: give manifests (-f) or";
    assert!(stderr(&output).contains(error), "{}", stderr(&output));
}

#[test]
fn list_of_a_service_that_does_not_exist_exits_with_1() {
    let list = |arguments: &[&str]| {
        let known = ["list", "--dry-run", "-f", "examples/nodeport.yaml"];
        let output = rulegen(&root(), &[&known[..], arguments].concat());
        (output.status.code(), stdout(&output), stderr(&output))
    };
    for missing in [&["nothing"][..], &["default/nothing"], &["-n", "other", "web-service"]] {
        let (status, listed, message) = list(missing);
        assert_eq!((status, &*listed), (Some(1), ""), "{missing:?}: {message}");
        let error = format!("error: Service {} not found", missing.last().unwrap());
        assert!(message.contains(&error), "{missing:?}: {message}");
    }
    let (status, listed, _) = list(&["nothing", "web-service", "-o", "name"]);
    assert_eq!((status, &*listed), (Some(1), "default/web-service\n"));
    let (_, _, message) = list(&["more.yaml"]);
    assert!(message.contains("use -f more.yaml"), "{message}");
    // A filter that matches nothing is not an error.
    assert_eq!(list(&["web-service", "--address", "192.0.2.1"]).0, Some(0));
    assert_eq!(list(&["a/b/c"]).0, Some(2));
}

/// Lists what an example makes for its first node.
fn listed(example: &str, arguments: &[&str]) -> String {
    let example = format!("examples/{example}.yaml");
    let known = ["list", "--dry-run", "-f", &example, "--hostname-override", "node-1"];
    let output = rulegen(&root(), &[&known[..], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

const LOAD_BALANCERS: &str = "\
NAMESPACE   NAME                 PORT     KIND             FRONTEND            POLICY    AFFINITY   SOURCE-RANGES                    ENDPOINTS                                         FROM-NODE
default     web-service          <none>   ClusterIP        10.96.0.10:80/TCP   Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service          <none>   LoadBalancerIP   52.1.2.3:80/TCP     Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service          <none>   NodePort         *:32456/TCP         Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service-local    <none>   ClusterIP        10.96.0.11:80/TCP   Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service-local    <none>   LoadBalancerIP   52.1.2.4:80/TCP     Local     -          -                                10.244.1.5:8080                                   10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080
default     web-service-local    <none>   NodePort         *:32457/TCP         Local     -          -                                10.244.1.5:8080                                   10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080
default     web-service-office   <none>   ClusterIP        10.96.0.12:80/TCP   Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service-office   <none>   LoadBalancerIP   52.1.2.5:80/TCP     Cluster   -          198.51.100.0/24,203.0.113.0/24   10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
default     web-service-office   <none>   NodePort         *:32458/TCP         Cluster   -          -                                10.244.1.5:8080,10.244.2.6:8080,10.244.3.7:8080   -
";

const CLUSTER_IPS: &str = "\
NAMESPACE   NAME               PORT     KIND        FRONTEND              POLICY    ENDPOINTS
default     backend-service    <none>   ClusterIP   10.96.0.20:80/TCP     Cluster   10.244.1.5:8080,10.244.1.6:8080,10.244.2.8:8080 + 2 more...
default     database-service   <none>   ClusterIP   10.96.0.30:5432/TCP   Cluster   10.244.2.30:5432
default     frontend-service   <none>   ClusterIP   10.96.0.10:80/TCP     Cluster   10.244.1.4:3000,10.244.2.7:3000,10.244.3.9:3000
";

#[test]
fn list_table_is_the_same_in_both_modes() {
    for mode in ["--proxy-mode=iptables", "--proxy-mode=nftables"] {
        assert_eq!(listed("clusterip", &[mode]), CLUSTER_IPS, "{mode}");
        assert_eq!(listed("loadbalancer", &[mode, "-o", "wide"]), LOAD_BALANCERS, "{mode}");
    }
    assert_eq!(listed("headless", &[]), "", "a headless Service has no rules");
}

#[test]
fn list_filters_by_name_namespace_address_and_port() {
    let of = |arguments: &[&str]| -> Vec<String> {
        let text = listed("loadbalancer", arguments);
        let place = |line: &str| line.split_whitespace().nth(4).unwrap_or_default().to_owned();
        text.lines().skip(1).map(place).collect()
    };
    assert_eq!(of(&[]).len(), 9);
    assert_eq!(of(&["web-service"]), ["10.96.0.10:80/TCP", "52.1.2.3:80/TCP", "*:32456/TCP"]);
    assert_eq!(of(&["default/web-service-local", "default/web-service"]).len(), 6);
    assert_eq!(of(&["-n", "default"]).len(), 9);
    assert_eq!(of(&["-n", "kube-system"]).len(), 0);
    assert_eq!(of(&["-A"]).len(), 9);
    assert_eq!(of(&["-A", "-n", "kube-system"]).len(), 9, "-A wins, as in kubectl");
    assert_eq!(of(&["--address", "52.1.2.4"]), ["52.1.2.4:80/TCP"]);
    assert_eq!(of(&["--address", "10.244.2.6"]).len(), 9, "by an endpoint");
    assert_eq!(of(&["--port", "32458"]), ["*:32458/TCP"]);
    assert_eq!(of(&["--port", "8080", "--address", "10.96.0.10"]).len(), 0, "one place has both");
}

#[test]
fn list_json_and_yaml_have_the_same_content() {
    let json: serde_json::Value =
        serde_json::from_str(&listed("loadbalancer", &["-o", "json"])).unwrap();
    let yaml: serde_json::Value =
        serde_saphyr::from_str(&listed("loadbalancer", &["-o", "yaml"])).unwrap();
    assert_eq!(json, yaml);
    let local = &json["services"][1];
    assert_eq!(local["name"], "web-service-local");
    assert_eq!(
        local["frontends"][1],
        serde_json::json!({
            "kind": "LoadBalancerIP", "family": "ipv4", "address": "52.1.2.4", "protocol": "TCP",
            "port": 80, "policy": "Local", "endpoints": ["10.244.1.5:8080"],
            "endpointsFromNode": ["10.244.1.5:8080", "10.244.2.6:8080", "10.244.3.7:8080"],
        })
    );
    assert_eq!(
        local["endpoints"][0],
        serde_json::json!({"address": "10.244.1.5:8080", "policies": ["Cluster", "Local"]})
    );
}

/// In the configuration or by the flag, which wins.
#[test]
fn refuse_node_addresses_by_flag_or_configuration() {
    let scratch = Scratch::new("refuse-node-addresses");
    let manifest = scratch.write(
        "cluster.yaml",
        r#"{"kind": "List", "apiVersion": "v1", "items": [
        {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]}},
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "ssh"},
        "spec": {"clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.10", "192.0.2.11"],
        "ports": [{"port": 22}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}}]}"#,
    );
    let config = scratch.write(
        "config.yaml",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         rulegen: {refuseNodeAddresses: true}\n",
    );
    let run = |more: &[&str]| {
        let given = ["--dry-run", "-f", &manifest, "--hostname-override", "node-1"];
        let output = rulegen(&root(), &[&given, more].concat());
        let has = |ip: &str| stdout(&output).contains(&format!("-d {ip}/32"));
        let problems = stderr(&output).matches("--refuse-node-addresses excludes").count();
        (has("192.0.2.10"), has("192.0.2.11"), problems)
    };
    assert_eq!(run(&[]), (true, true, 0));
    assert_eq!(run(&["--refuse-node-addresses"]), (false, true, 2));
    assert_eq!(run(&["--config", &config]), (false, true, 2));
    assert_eq!(run(&["--config", &config, "--refuse-node-addresses=false"]), (true, true, 0));
}
