//! Checks of the files in `deploy`: they are consistent, request no more privileges than
//! needed, and name existing flags, fields and files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{root, rulegen, stdout};
use rulegen_agent::metrics::{Build, Metrics};
use rulegen_config::{
    BindAddress, DetectLocalMode, ProxyConfig, ProxyMode, RunningConfig, read_config,
};
use rulegen_model::ExternalIps;
use rulegen_net::IpFamily;
use serde_json::{Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn deploy_kustomizations_name_existing_files() {
    let kustomizations = files(&deploy(), "kustomization.yaml");
    assert!(kustomizations.len() >= 9, "{kustomizations:?}");
    for file in kustomizations {
        let folder = file.parent().unwrap();
        let kustomization = &documents(&file)[0];
        let list = |field: &str| texts(&kustomization[field]);
        for entry in [list("resources"), list("components")].concat() {
            let path = folder.join(&entry);
            let is_there = path.is_file() || path.join("kustomization.yaml").is_file();
            assert!(is_there, "{}: {entry}", file.display());
        }
        let generated = array(&kustomization["configMapGenerator"]);
        let generated = generated.iter().flat_map(|map| texts(&map["files"]));
        let patches = array(&kustomization["patches"]);
        let patches = patches.iter().filter_map(|patch| patch["path"].as_str().map(str::to_owned));
        for entry in generated.chain(patches) {
            assert!(folder.join(&entry).is_file(), "{}: {entry}", file.display());
        }
    }
}

#[test]
fn deploy_uses_only_existing_flags() {
    let mut seen = BTreeSet::new();
    for command in command_lines() {
        let (program, flags) = command.split_first().unwrap();
        let help = stdout(&rulegen(&root(), &[program, "--help"]));
        for flag in flags.iter().filter(|argument| argument.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            let known = help.lines().any(|line| {
                let words = line.trim_start().split([' ', ',', '[', '=']);
                words.filter(|word| word.starts_with('-')).any(|word| word == flag)
            });
            assert!(known, "rulegen {program} has no {flag}");
            seen.insert(flag.to_owned());
        }
    }
    for flag in ["--config", "--init-only", "--hostname-override", "--proxy-mode", "--manifests"] {
        assert!(seen.contains(flag), "{flag} was not checked: {seen:?}");
    }
}

#[test]
fn deploy_configuration_has_no_problems() {
    let text = fs::read(deploy().join("base/config.conf")).unwrap();
    let (effective, problems) = read_config("config.conf", &text);
    assert_eq!(problems, []);
    let effective = effective.with_defaults();
    let config = ProxyConfig::from(&effective);
    assert_eq!(config.mode, ProxyMode::Nftables);
    assert_eq!(config.detect_local_mode, DetectLocalMode::ClusterCidr);
    assert_eq!(config.cluster_cidrs, ["10.244.0.0/16".parse().unwrap()]);
    assert_eq!(config.external_ips, ExternalIps::All);
    let running = RunningConfig::from(&effective);
    assert_eq!(running.kubeconfig.as_deref(), Some(Path::new(KUBECONFIG)));
    assert_eq!(running.oom_score_adj, -997);
    let at = |text: &str| BindAddress::At(text.parse().unwrap());
    assert_eq!(running.healthz_bind_address, at("0.0.0.0:10256"));
    assert_eq!(running.metrics_bind_address, at("127.0.0.1:10249"), "reachable from other hosts");
}

/// Where the ConfigMap's file is in the container.
const KUBECONFIG: &str = "/var/lib/kube-proxy/kubeconfig.conf";

#[test]
fn deploy_kubeconfig_has_placeholder_server() {
    let kubeconfig = &documents(&deploy().join("base/kubeconfig.conf"))[0];
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap();
    assert!(server.contains(".invalid:"), "{server}");
    assert_eq!(kubeconfig["current-context"], kubeconfig["contexts"][0]["name"]);
    let account = "/var/run/secrets/kubernetes.io/serviceaccount/";
    assert_eq!(kubeconfig["users"][0]["user"]["tokenFile"], format!("{account}token"));
}

#[test]
fn deploy_role_allows_only_watched_kinds() {
    let documents = documents(&deploy().join("base/rbac.yaml"));
    let role = &documents[1];
    assert_eq!(role["kind"], "ClusterRole");
    let mut allowed: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for rule in array(&role["rules"]) {
        let fields: Vec<&String> = rule.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), 3, "{fields:?}");
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let before = allowed.insert((group.clone(), resource), texts(&rule["verbs"]));
                assert_eq!(before, None);
            }
        }
    }
    let (watch, write) = (["list", "watch"], ["create", "patch"]);
    let wanted = [
        (("", "services"), &watch[..]),
        (("discovery.k8s.io", "endpointslices"), &watch),
        (("networking.k8s.io", "servicecidrs"), &watch),
        (("", "nodes"), &watch),
        (("events.k8s.io", "events"), &write),
    ];
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let wanted: BTreeMap<_, Vec<String>> = wanted
        .into_iter()
        .map(|((group, resource), verbs)| ((group.to_owned(), resource.to_owned()), owned(verbs)))
        .collect();
    assert_eq!(allowed, wanted);
    let binding = &documents[2];
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], documents[0]["metadata"]["name"]);
}

#[test]
fn deploy_only_init_container_is_privileged() {
    let pod = &daemonset("base")["spec"]["template"]["spec"];
    let (init, main) = (&pod["initContainers"][0], &pod["containers"][0]);
    assert_eq!(init["securityContext"]["privileged"], true);
    assert!(texts(&init["args"]).contains(&"--init-only".to_owned()));
    let wanted = json!({
        "runAsUser": 0,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(main["securityContext"], wanted);
    let patch = &documents(&deploy().join("components/iptables-programs/patch.yaml"))[0];
    let patched = &patch["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(*patched, json!({ "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] } }));
    for pod in [pod, &daemonset("cleanup")["spec"]["template"]["spec"]] {
        for container in array(&pod["containers"]) {
            let context = &container["securityContext"];
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(context["privileged"], Value::Null);
        }
    }
}

#[test]
fn deploy_daemonset_runs_on_the_same_nodes_as_kube_proxy() {
    let spec = &daemonset("base")["spec"];
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "Default", "cluster DNS is behind a cluster IP");
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["nodeSelector"], json!({ "kubernetes.io/os": "linux" }));
    let labels = &spec["template"]["metadata"]["labels"];
    for (label, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[label], *value);
        assert_ne!(label, "k8s-app", "a component changes this label, but selectors are immutable");
    }
    let main = &pod["containers"][0];
    for (probe, path) in
        [("startupProbe", "/readyz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(main[probe]["httpGet"], json!({ "path": path, "port": "healthz" }));
    }
    assert_eq!(main["ports"][0]["containerPort"], BindAddress::HEALTHZ_PORT);
    // The kubelet resets the restart backoff of a container after ten minutes.
    let startup = &main["startupProbe"];
    let patience =
        startup["periodSeconds"].as_u64().unwrap() * startup["failureThreshold"].as_u64().unwrap();
    assert!(patience > 600, "{patience}");
}

/// An alert on a metric that does not exist never fires.
#[test]
fn deploy_alerts_use_existing_metrics() {
    let rules = &documents(&deploy().join("components/alerts/prometheus-rule.yaml"))[0];
    assert_eq!(
        (&rules["apiVersion"], &rules["kind"]),
        (&json!("monitoring.coreos.com/v1"), &json!("PrometheusRule"))
    );
    let metrics = Metrics::new(ProxyMode::Nftables, &IpFamily::BOTH, &Build::default()).unwrap();
    // This one has no value before the first drift.
    metrics.drifted("nft");
    let text = metrics.text().unwrap();
    let known: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut names = BTreeSet::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for group in array(&rules["spec"]["groups"]) {
        assert!(group["name"].is_string());
        for rule in array(&group["rules"]) {
            let name = rule["alert"].as_str().unwrap().to_owned();
            let expr = rule["expr"].as_str().unwrap();
            let words = expr.split(|c| !is_part(c));
            let used: Vec<&str> = words
                .filter(|word| ["rulegen_", "kubeproxy_"].iter().any(|of| word.starts_with(of)))
                .collect();
            assert!(!used.is_empty(), "{name}: {expr}");
            for metric in used {
                assert!(known.contains(metric), "{name}: there is no metric {metric}");
            }
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
            for text in ["summary", "description"] {
                assert!(rule["annotations"][text].is_string(), "{name} has no {text}");
            }
            // A duration in Prometheus's syntax.
            if let Some(time) = rule["for"].as_str() {
                let (number, unit) = time.split_at(time.len() - 1);
                assert!(number.parse::<u32>().is_ok() && ["s", "m", "h"].contains(&unit), "{time}");
            }
            let open = |of: char| expr.matches(of).count();
            assert_eq!((open('('), open('[')), (open(')'), open(']')), "{name}: {expr}");
            assert!(names.insert(name), "duplicate alert name");
        }
    }
    assert!(names.contains("RulegenObjectsDoNotArrive"), "{names:?}");
}

/// Figures of docs/benchmarks.md for 10,000 Services with 5 endpoints each.
#[test]
fn deploy_memory_limits_exceed_measured_usage() {
    const RESIDENT: u64 = 75;
    const PEAK: u64 = 91;
    let mebibytes = |of: &Value| {
        let text = of.as_str().unwrap();
        text.strip_suffix("Mi").unwrap().parse::<u64>().unwrap()
    };
    let base = daemonset("base");
    let pod = &base["spec"]["template"]["spec"];
    let resources = &pod["containers"][0]["resources"];
    let (request, limit) =
        (mebibytes(&resources["requests"]["memory"]), mebibytes(&resources["limits"]["memory"]));
    assert!((RESIDENT..2 * PEAK).contains(&request), "{request}");
    assert!((4 * PEAK..=1024).contains(&limit), "{limit}");
    assert_eq!(pod["initContainers"][0]["resources"], *resources);
    let iptables = read("components/iptables-programs/patch.yaml");
    let with_programs = iptables.split_once("memory: ").unwrap().1.lines().next().unwrap();
    // iptables-nft-restore needs 260 MB for that, and runs in the same container.
    assert!(mebibytes(&json!(with_programs)) >= limit + 260, "{with_programs}");
}

#[test]
fn deploy_images_have_this_version() {
    for folder in ["base", "cleanup"] {
        let pod = &daemonset(folder)["spec"]["template"]["spec"];
        let containers = [&pod["initContainers"], &pod["containers"]].map(array).concat();
        let images: Vec<&str> = containers.iter().map(|c| c["image"].as_str().unwrap()).collect();
        let ours = images.iter().filter(|image| **image == format!("rulegen:{VERSION}")).count();
        assert_eq!(ours, if folder == "base" { 2 } else { 1 }, "{images:?}");
    }
    let patch = read("components/iptables-programs/patch.yaml");
    assert_eq!(patch.matches(&format!("image: rulegen-iptables:{VERSION}\n")).count(), 2);
    let containerfile = read("Containerfile");
    assert_eq!(containerfile.matches(&format!("ARG VERSION={VERSION}\n")).count(), 2);
    assert!(
        containerfile.contains("AS rulegen\n") && containerfile.contains("AS rulegen-iptables")
    );
}

#[test]
fn seccomp_profile_allows_no_powerful_system_call() {
    let profile: Value = serde_json::from_str(&read("seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = array(&profile["syscalls"]);
    let allowed: BTreeSet<String> = rules
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| texts(&rule["names"]))
        .collect();
    for needed in [
        "socket",
        "sendmsg",
        "recvmsg",
        "sendto",
        "recvfrom",
        "bind",
        "listen",
        "accept4",
        "connect",
        "setsockopt",
        "epoll_ctl",
        "epoll_wait",
        "eventfd2",
        "timerfd_create",
        "inotify_init1",
        "inotify_add_watch",
        "capset",
        "prctl",
        "futex",
        "clone",
        "execve",
        "wait4",
        "flock",
        "openat",
        "mmap",
        "getrandom",
    ] {
        assert!(allowed.contains(needed), "{needed} is not allowed");
    }
    for power in [
        "mount",
        "umount2",
        "move_mount",
        "fsopen",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "bpf",
        "ptrace",
        "process_vm_writev",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "reboot",
        "keyctl",
        "add_key",
        "perf_event_open",
        "io_uring_setup",
        "userfaultfd",
        "mknod",
        "mknodat",
        "sethostname",
        "settimeofday",
        "clock_settime",
        "clone3",
        "open_by_handle_at",
        "swapon",
        "acct",
        "personality",
        "chown",
        "fchown",
        "fchownat",
    ] {
        assert!(!allowed.contains(power), "{power} is allowed");
    }
    // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK of linux/socket.h: no AF_PACKET, no AF_ALG.
    let of_sockets = rules.iter().filter(|rule| texts(&rule["names"]).contains(&"socket".into()));
    let families: Vec<u64> =
        of_sockets.map(|rule| rule["args"][0]["value"].as_u64().unwrap()).collect();
    assert_eq!(families, [1, 2, 10, 16]);
}

#[test]
fn deploy_systemd_unit_is_sandboxed() {
    let unit = read("rulegen.service");
    for line in [
        "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=@system-service",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "LimitNOFILE=65536",
    ] {
        assert!(unit.lines().any(|it| it == line), "no {line} in the unit");
    }
}

/// The arguments of rulegen in all manifests and in the systemd unit, starting with the command.
fn command_lines() -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for folder in ["base", "cleanup"] {
        let pod = &daemonset(folder)["spec"]["template"]["spec"];
        for container in [&pod["initContainers"], &pod["containers"]].map(array).concat() {
            lines.extend(Some(texts(&container["args"])).filter(|args| !args.is_empty()));
        }
    }
    for file in files(&deploy(), "kustomization.yaml") {
        let text = fs::read_to_string(&file).unwrap();
        let added = text.lines().filter_map(|line| line.trim().strip_prefix("value: --"));
        lines.extend(added.map(|flag| vec!["agent".to_owned(), format!("--{flag}")]));
    }
    let unit = read("rulegen.service");
    let words = |line: &str| line.split([' ', '"']).map(str::to_owned).collect::<Vec<_>>();
    for line in unit.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some((_, arguments)) = line.split_once("/usr/bin/rulegen ")
            && line.starts_with("Exec")
        {
            lines.push(words(arguments));
        }
        if let Some((_, flags)) = line.split_once("RULEGEN_SOURCE=--") {
            lines.push(words(&format!("agent --{flags}")));
        }
    }
    lines
}

fn deploy() -> PathBuf {
    root().join("deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap()
}

fn daemonset(folder: &str) -> Value {
    documents(&deploy().join(folder).join("daemonset.yaml")).remove(0)
}

/// The documents of a YAML file.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let parse = |document: &str| {
        serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    text.split("\n---\n").map(parse).collect()
}

#[test]
fn deploy_yaml_files_are_valid() {
    let files = [files(&deploy(), ".yaml"), files(&deploy(), ".conf")].concat();
    assert!(files.len() >= 17, "{files:?}");
    // tests/chart renders the chart, whose templates are not YAML.
    let chart = deploy().join("chart");
    for file in files.into_iter().filter(|file| !file.starts_with(&chart)) {
        for document in documents(&file) {
            assert!(document["apiVersion"].is_string(), "{}", file.display());
            assert!(document["kind"].is_string(), "{}", file.display());
        }
    }
}

/// actionlint, which ci/check-deploy runs, does not look at the scripts.
#[test]
fn deploy_workflows_call_existing_scripts() {
    let mut called = BTreeSet::new();
    for file in files(&root().join(".github/workflows"), ".yml") {
        let workflow: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for job in workflow["jobs"].as_object().unwrap().values() {
            let steps = array(&job["steps"]);
            for run in steps.iter().filter_map(|step| step["run"].as_str()) {
                let scripts = run.split_whitespace().filter(|word| word.starts_with("ci/"));
                called.extend(scripts.map(str::to_owned));
            }
        }
    }
    assert!(called.iter().eq(["ci/release", "ci/test"]), "{called:?}");
    for script in called {
        assert!(root().join(&script).is_file(), "{script}");
    }
}

/// Files below a folder with this suffix.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path, end),
            false => {
                Some(path).filter(|p| p.to_str().unwrap().ends_with(end)).into_iter().collect()
            }
        })
        .collect()
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    array(value).iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

/// A file of an excluded folder that the sources include, so that the image would not build.
#[test]
fn containerfile_context_has_the_files_that_the_sources_include() {
    let ignored = read("Containerfile.dockerignore");
    let lines: Vec<&str> = ignored.lines().collect();
    let mut included = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|of| of == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let docs = code.filter(|line| !line.contains("doc = "));
                included.extend(docs.filter_map(|line| {
                    let file = line.split("include_str!(\"").nth(1)?.split('"').next()?;
                    Some(file.trim_start_matches("../").to_owned())
                }));
            }
        }
    }
    assert!(included.contains("docs/test-file.schema.json"), "{included:?}");
    for file in included {
        let folder = file.split('/').next().unwrap();
        let is_excluded = lines.contains(&folder) || lines.contains(&&*format!("{folder}/*"));
        assert!(!is_excluded || lines.contains(&&*format!("!{file}")), "{file} is excluded");
    }
}
