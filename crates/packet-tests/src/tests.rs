#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test panics"
)]

use proptest::prelude::*;
use rulegen_compiler::Plan;
use rulegen_config::{DetectLocalMode, ProxyConfig, ProxyMode};
use rulegen_inspect::explain::Explanation;
use rulegen_model::{Host, Objects, read_manifest, write_yaml};
use rulegen_ruleset::{Origin, Packet};
use schemars::schema_for;

use crate::run::{RunCost, run_with_cost};
use crate::{
    CaseInputs, CaseNote, CaseReport, CaseVerdict, FileProblem, InputFiles, LivePacket, LiveRules,
    Modes, OnConditions, TestFile, generate, read_test_file, run, run_live, schema,
};

#[test]
fn schema_of_test_files_is_the_one_in_docs() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/test-file.schema.json");
    let made = serde_json::to_string_pretty(&schema_for!(TestFile).to_value()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), made, "write it with UPDATE_GOLDEN=1");
}

/// Each field that the types read is in the schema, and so has a suggestion for misspellings.
#[test]
fn schema_of_test_files_has_no_open_object_except_patches_and_configuration() {
    fn open(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        if let Some(fields) = value.as_object() {
            if fields.contains_key("properties")
                && fields.get("additionalProperties") != Some(&false.into())
            {
                found.push(path.to_owned());
            }
            fields.iter().for_each(|(key, part)| open(part, &format!("{path}/{key}"), found));
        }
        let items = value.as_array().into_iter().flatten();
        items.for_each(|part| open(part, &format!("{path}/*"), found));
    }
    let mut found = Vec::new();
    open(&schema(), "", &mut found);
    assert_eq!(found, [""; 0]);
}

fn problems(text: &str) -> Vec<String> {
    let problems = read_test_file(text).unwrap_err();
    problems.iter().map(FileProblem::to_string).collect()
}

#[test]
fn test_file_with_other_content_is_refused_with_the_beginning_of_a_test_file() {
    for (text, what) in [
        ("", "it is empty"),
        ("# only a comment\n", "it is empty"),
        ("{}", "it is empty"),
        ("[a]", "it is a list"),
        ("text", "it is a string"),
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {}\n",
            "it is a manifest of kind Service, which belongs in `inputs.manifests`",
        ),
        (
            "kind: KubeProxyConfiguration\nmode: nftables\n",
            "it is a KubeProxyConfiguration, which belongs in `inputs.config`",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "it has more than one document (manifests belong in `inputs.manifests`)",
        ),
        ("groups: []\n", "it has none of the fields cases, inputs, mode"),
    ] {
        let found = problems(text);
        let start = format!(
            "not a test file: {what}. A test file begins with `inputs: {{manifests: [FILE]}}`"
        );
        assert!(found.len() == 1 && found[0].starts_with(&start), "{text}: {found:?}");
    }
    assert_eq!(problems("case: []"), ["case: unknown field, did you mean \"cases\"?"]);
}

#[test]
fn test_file_problem_has_the_line_of_its_field() {
    let start = "inputs:\n  manifests: [a]\ncases:\n";
    let case = "- name: a\n  from: outside\n  to: default/web:80\n  expect: {outcome: endpoint}\n";
    for (text, line) in [
        (format!("{start}{case}{}", case.replace("outcome", "outcom")), 11),
        (format!("{start}{case}{}", case.replace("endpoint", "drop")), 11),
        (format!("{start}{case}{case}"), 8),
        (format!("{start}{}", case.replace("  to: default/web:80\n", "")), 4),
        (
            format!("{start}{case}")
                .replace("manifests: [a]", "manifests: [a]\n  config: b\n  configuration: {}"),
            4,
        ),
    ] {
        let problems = read_test_file(&text).unwrap_err();
        assert_eq!(problems.iter().map(|of| of.line).collect::<Vec<_>>(), [Some(line)], "{text}");
    }
}

#[test]
fn test_file_that_is_no_test_file_is_refused_by_field() {
    assert_eq!(problems("inputs: [").len(), 1);
    assert_eq!(problems("cases: []"), ["missing: inputs"]);
    assert_eq!(problems("inputs: {manifests: [a]}\ncases: []"), ["cases: no cases"]);
    let both = "inputs: {manifests: [a], config: b, configuration: {}}\ncases: []";
    assert_eq!(problems(both)[0], "inputs.configuration: give either config or configuration");
}

/// Mistakes in a case, each with the message.
#[test]
fn test_file_mistake_has_a_message_that_says_what_to_write() {
    const RIGHT: [(&str, &str); 4] = [
        ("name", "x"),
        ("from", "outside"),
        ("to", "default/web:80"),
        ("expect", "{outcome: endpoint}"),
    ];
    let mut wrong = Vec::new();
    for (field, value, message) in [
        ("to", "1", "to: is a number, use a string or a map"),
        ("to", "{nodePorts: 30080}", "to.nodePorts: unknown field, did you mean \"nodePort\"?"),
        ("to", "{nodePort: 70000}", "to.nodePort: 70000 is not from 0 to 65535"),
        ("to", "{nodePort: '80'}", "to.nodePort: is a string, use a whole number"),
        (
            "to",
            "{nodePort: 80, protocol: TCP}",
            "to.protocol: unknown value \"TCP\", did you mean \"tcp\"?",
        ),
        ("to", "{protocol: udp}", "to: missing: nodePort"),
        ("from", "[default/a]", "from: is a list, use a string or a map"),
        ("from", "{pods: app=web}", "from.pods: is a string, use a map"),
        ("from", "{pods: {app: 1}}", "from.pods.app: is a number, use a string"),
        ("from", "{podd: a/b}", "from.podd: unknown field, did you mean \"pod\"?"),
        ("expect", "endpoint", "expect: is a string, use a map"),
        (
            "expect",
            "{outcome: drop}",
            "expect.outcome: unknown value \"drop\", did you mean \"dropped\"?",
        ),
        (
            "expect",
            "{outcome: forwarded}",
            "expect.outcome: unknown value \"forwarded\", use one of endpoint, passes, rejected, dropped, refused",
        ),
        ("expect", "{outcom: endpoint}", "expect.outcom: unknown field, did you mean \"outcome\"?"),
        ("expect", "{masqueraded: 'yes'}", "expect.masqueraded: is a string, use true or false"),
        ("expect", "{endpoints: 3}", "expect.endpoints: is a number, use a list or a map"),
        ("expect", "{endpoints: {atLeast: -1}}", "expect.endpoints.atLeast: -1 is less than 1"),
        (
            "expect",
            "{endpoints: {atleast: 1}}",
            "expect.endpoints.atleast: unknown field, did you mean \"atLeast\"?",
        ),
        ("expect", "{chances: [{endpoint: 10.0.0.1}]}", "expect.chances[0]: missing: chance"),
        ("when", "{nodeDown: b}", "when.nodeDown: unknown field, did you mean \"nodeGone\"?"),
        (
            "when",
            "[{nodeGone: b}, {ZoneGone: c}]",
            "when[1].ZoneGone: unknown field, did you mean \"zoneGone\"?",
        ),
        ("when", "nodeGone", "when: is a string, use a list or a map"),
        (
            "when",
            "{nodeGone: b, zoneGone: c}",
            "when: give exactly one of endpointNotReady, nodeGone, patch, zoneGone",
        ),
        ("when", "{nodeGone: [a, b]}", "when.nodeGone: is a list, use a string"),
        (
            "when",
            "{patch: {service: a/b, merg: {}}}",
            "when.patch.merg: unknown field, did you mean \"merge\"?",
        ),
        ("when", "{patch: {service: a/b}}", "when.patch: missing: merge"),
        ("mode", "ipvs", "mode: unknown value \"ipvs\", use one of both, iptables, nftables"),
        ("ipFamily", "ipv6", "ipFamily: unknown value \"ipv6\", did you mean \"IPv6\"?"),
        ("name", "null", "name: is empty, use a string"),
    ] {
        let mut fields: std::collections::BTreeMap<&str, &str> = RIGHT.into();
        fields.insert(field, value);
        let fields: Vec<String> =
            fields.into_iter().map(|(field, value)| format!("{field}: {value}")).collect();
        let file = format!("inputs: {{manifests: [a]}}\ncases:\n- {{{}}}", fields.join(", "));
        let problems = read_test_file(&file).unwrap_err();
        let found: Vec<String> =
            problems.iter().map(|of| format!("{}: {}", of.field, of.message)).collect();
        if found != [message] {
            wrong.push(format!("{file}: {found:?}, expected {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One Service and its endpoints, as numbers.
#[derive(Debug, Clone)]
struct RandomService {
    kind: usize,
    external_policy: bool,
    internal_policy: bool,
    affinity: bool,
    method: usize,
    udp: bool,
    external_ip: bool,
    source_ranges: bool,
    family: usize,
    /// Node and condition of each endpoint.
    endpoints: Vec<(usize, usize)>,
}

fn service() -> impl Strategy<Value = RandomService> {
    let flags = any::<[bool; 6]>();
    let numbers = (0..3_usize, 0..4_usize, 0..3_usize);
    let endpoints = prop::collection::vec((0..4_usize, 0..5_usize), 0..5);
    (flags, numbers, endpoints).prop_map(|(flags, (kind, method, family), endpoints)| {
        let [external_policy, internal_policy, affinity, udp, external_ip, source_ranges] = flags;
        RandomService {
            kind,
            external_policy,
            internal_policy,
            affinity,
            method,
            udp,
            external_ip,
            source_ranges,
            family,
            endpoints,
        }
    })
}

impl RandomService {
    fn manifest(&self, n: usize) -> String {
        let kind = ["ClusterIP", "NodePort", "LoadBalancer"][self.kind];
        let policy = |is_local| if is_local { "Local" } else { "Cluster" };
        let protocol = if self.udp { "UDP" } else { "TCP" };
        let (v4, v6) = (format!("10.96.0.{}", n + 1), format!("fd00:10:96::{}", n + 1));
        let families = [vec!["IPv4"], vec!["IPv6"], vec!["IPv4", "IPv6"]][self.family].clone();
        let ips: Vec<&str> =
            families.iter().map(|of| if *of == "IPv4" { &*v4 } else { &*v6 }).collect();
        let annotations = match self.method {
            0 => "{}".to_owned(),
            method => format!(
                "{{rulegen/load-balancing: {}}}",
                ["random", "round-robin", "source-hash"][method - 1]
            ),
        };
        let mut text = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, annotations: {annotations}}}\nspec:\n  \
             type: {kind}\n  clusterIP: \"{}\"\n  clusterIPs: {ips:?}\n  ipFamilies: {families:?}\n  \
             internalTrafficPolicy: {}\n  sessionAffinity: {}\n",
            ips[0],
            policy(self.internal_policy),
            if self.affinity { "ClientIP" } else { "None" },
        );
        let node_port =
            if self.kind > 0 { format!(", nodePort: {}", 30000 + n) } else { String::new() };
        text += &format!("  ports: [{{name: p, port: 80, protocol: {protocol}{node_port}}}]\n");
        if self.kind > 0 || self.external_ip {
            text += &format!("  externalTrafficPolicy: {}\n", policy(self.external_policy));
        }
        if self.external_ip {
            text += &format!("  externalIPs: [198.51.100.{}]\n", n + 1);
        }
        if self.source_ranges {
            text += "  loadBalancerSourceRanges: [10.244.1.0/24, 192.168.1.0/24]\n";
        }
        if self.kind == 2 {
            text +=
                &format!("status: {{loadBalancer: {{ingress: [{{ip: 198.51.101.{}}}]}}}}\n", n + 1);
        }
        families.iter().for_each(|family| text += &self.slice(n, family));
        text
    }

    fn slice(&self, n: usize, family: &str) -> String {
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{n}-{}, \
             labels: {{kubernetes.io/service-name: s{n}}}}}\naddressType: {family}\n\
             ports: [{{name: p, port: 8080, protocol: {}}}]\nendpoints:\n",
            family.to_lowercase(),
            if self.udp { "UDP" } else { "TCP" },
        );
        for (at, (node, condition)) in self.endpoints.iter().enumerate() {
            let conditions = [
                "{}",
                "{ready: true}",
                "{ready: false}",
                "{ready: false, serving: true, terminating: true}",
                "{ready: false, serving: false, terminating: true}",
            ][*condition];
            let host = 10 * n + at + 1;
            let address = match family {
                "IPv4" => format!("10.244.{node}.{host}"),
                _ => format!("fd00:10:244:{node}::{host}"),
            };
            let on = if *node == 0 { String::new() } else { format!(", nodeName: node-{node}") };
            let target = if at % 2 == 0 {
                format!(", targetRef: {{kind: Pod, namespace: default, name: s{n}-{at}}}")
            } else {
                String::new()
            };
            text += &format!(
                "- {{addresses: [\"{address}\"], conditions: {conditions}{on}{target}}}\n"
            );
        }
        text
    }
}

fn inputs(services: &[RandomService], nodes: usize, config: ProxyConfig) -> CaseInputs {
    let mut text = String::new();
    for n in 1..=nodes {
        text += &format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-{n}}}\nspec: {{podCIDRs: [10.244.{n}.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.168.1.{n}}}, {{type: InternalIP, address: \"fd00:192::{n}\"}}]}}\n"
        );
    }
    services.iter().enumerate().for_each(|(n, service)| text += &service.manifest(n));
    let mut objects = Objects::with_details();
    let problems = read_manifest("random", text.as_bytes(), &mut objects);
    assert!(problems.is_empty(), "{problems:?}\n{text}");
    CaseInputs { objects, config }
}

fn config() -> impl Strategy<Value = ProxyConfig> {
    (0..4_usize, any::<[bool; 3]>()).prop_map(|(mode, [all, nftables_all, localhost])| {
        ProxyConfig {
            detect_local_mode: [
                DetectLocalMode::ClusterCidr,
                DetectLocalMode::NodeCidr,
                DetectLocalMode::BridgeInterface,
                DetectLocalMode::InterfaceNamePrefix,
            ][mode],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            bridge_interface: Some("cni0".to_owned()),
            interface_name_prefix: Some("veth".to_owned()),
            masquerade_all: all,
            nftables_masquerade_all: nftables_all,
            localhost_node_ports: localhost,
            ..ProxyConfig::default()
        }
    })
}

/// Generated tests, written as YAML and read again.
fn written_and_read(inputs: &CaseInputs) -> TestFile {
    let files = InputFiles { node: Some("node-1".to_owned()), ..InputFiles::default() };
    let made = generate(inputs, files).unwrap().tests;
    let mut text = Vec::new();
    write_yaml(&mut text, &made).unwrap();
    let text = String::from_utf8(text).unwrap();
    let read = read_test_file(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    assert_eq!(read, made, "{text}");
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn generated_tests_pass_in_both_modes(
        services in prop::collection::vec(service(), 1..5),
        nodes in 1..4_usize,
        config in config(),
    ) {
        let inputs = inputs(&services, nodes, config);
        let tests = written_and_read(&inputs);
        let reports = run(&tests, &inputs);
        prop_assert!(reports.len() >= services.len());
        for report in reports {
            let is_passed = matches!(report.verdict, CaseVerdict::Passed);
            prop_assert!(is_passed, "{report:#?}");
        }
        // Every frontend of each node is tested.
        let frontends: usize = services.iter().map(|service| {
            let of_family = |is_ipv4: bool| 1 + usize::from(service.kind > 0)
                + usize::from(is_ipv4 && service.external_ip) + usize::from(is_ipv4 && service.kind == 2);
            match service.family {
                0 => of_family(true),
                1 => of_family(false),
                _ => of_family(true) + of_family(false),
            }
        }).sum();
        prop_assert!(tests.cases.len() >= frontends, "{} of {frontends}", tests.cases.len());
    }
}

#[test]
fn generated_tests_fail_for_a_cluster_without_its_endpoints() {
    let ready = RandomService {
        kind: 1,
        external_policy: false,
        internal_policy: false,
        affinity: false,
        method: 0,
        udp: false,
        external_ip: false,
        source_ranges: false,
        family: 0,
        endpoints: vec![(1, 1), (2, 1)],
    };
    let before = inputs(std::slice::from_ref(&ready), 2, ProxyConfig::default());
    let tests = written_and_read(&before);
    let gone = RandomService { endpoints: vec![(1, 1)], ..ready };
    let after = inputs(&[gone], 2, ProxyConfig::default());
    let reports = run(&tests, &after);
    assert!(!reports.is_empty());
    assert!(
        reports.iter().all(|report| matches!(report.verdict, CaseVerdict::Failed(_))),
        "{reports:#?}"
    );
}

/// A Service with an endpoint, another one, and a pod on each of three nodes.
const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
- {kind: Node, apiVersion: v1, metadata: {name: node-1}, spec: {podCIDRs: [10.244.1.0/24]}}
- {kind: Node, apiVersion: v1, metadata: {name: node-2}, spec: {podCIDRs: [10.244.2.0/24]}}
- {kind: Node, apiVersion: v1, metadata: {name: node-3}, spec: {podCIDRs: [10.244.3.0/24]}}
- {kind: Service, apiVersion: v1, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}
- {kind: Service, apiVersion: v1, metadata: {name: api}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}
- kind: EndpointSlice
  apiVersion: discovery.k8s.io/v1
  metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{port: 8080}]
  endpoints: [{addresses: [10.244.1.9], nodeName: node-1}]
- {kind: Pod, apiVersion: v1, metadata: {name: a, labels: {app: client}}, spec: {nodeName: node-1}, status: {phase: Running, podIPs: [{ip: 10.244.1.5}]}}
- {kind: Pod, apiVersion: v1, metadata: {name: b, labels: {app: client}}, spec: {nodeName: node-2}, status: {phase: Running, podIPs: [{ip: 10.244.2.5}]}}
- {kind: Pod, apiVersion: v1, metadata: {name: c, labels: {app: client}}, spec: {nodeName: node-3}, status: {phase: Running, podIPs: [{ip: 10.244.3.5}]}}
- {kind: Pod, apiVersion: v1, metadata: {name: d, labels: {app: client}}, spec: {nodeName: node-3}, status: {phase: Running, podIPs: [{ip: 10.244.3.6}]}}
"#;

fn of_cluster(case: &str) -> (TestFile, CaseInputs) {
    let mut objects = Objects::with_details();
    let problems = read_manifest("cluster", CLUSTER.as_bytes(), &mut objects);
    assert_eq!(problems, []);
    let text =
        format!("inputs: {{manifests: [a], node: node-1}}\nmode: nftables\ncases:\n- {case}");
    let tests = read_test_file(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
    (tests, CaseInputs { objects, config: ProxyConfig::default() })
}

/// Cases with the same changes share the changed input and its rules, in whichever order they are.
#[test]
fn cost_of_changes_grows_with_different_changes_not_with_cases() {
    let case = |n: usize, when: &str| {
        format!(
            "- {{name: c{n}, when: {when}, from: outside, to: default/web:80, expect: {{outcome: refused}}}}\n"
        )
    };
    let changes = [
        "{nodeGone: node-2}",
        "{endpointNotReady: 10.244.1.9}",
        "[{nodeGone: node-3}, {nodeGone: node-2}]",
    ];
    let cost = |cases: usize| {
        let cases: String = (0..cases).map(|n| case(n, changes[n % changes.len()])).collect();
        let (tests, inputs) = of_cluster(cases.trim_start_matches("- "));
        let tests = TestFile { mode: Modes::Both, ..tests };
        let (reports, cost) = run_with_cost(&tests, &inputs);
        let names: Vec<&str> = reports.iter().map(|report| &*report.name).collect();
        let expected: Vec<String> =
            (0..reports.len() / 2).flat_map(|n| [format!("c{n}"), format!("c{n}")]).collect();
        assert_eq!(names, expected, "in the order of the file");
        let passed = |report: &CaseReport| matches!(report.verdict, CaseVerdict::Passed);
        let fails: Vec<bool> = reports.iter().map(passed).collect();
        assert!(
            fails.iter().enumerate().all(|(n, passed)| *passed == (n / 2 % 3 == 1)),
            "{fails:?}"
        );
        cost
    };
    // Two modes of one node for each.
    assert_eq!(cost(3), RunCost { changed_inputs: 3, compiled: 6 });
    assert_eq!(cost(300), RunCost { changed_inputs: 3, compiled: 6 });
}

/// A kernel with the compiled rules.
struct CompiledRules {
    host: Host,
}

impl LiveRules for CompiledRules {
    fn mode(&self) -> ProxyMode {
        ProxyMode::Nftables
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn explain(
        &self,
        packet: &LivePacket,
        plan: &Plan,
        complete: &dyn Fn(&mut Explanation),
    ) -> Result<Explanation, String> {
        let LivePacket { from: source, to: destination, protocol, .. } = *packet;
        let origin = Origin::Interface("eth0".to_owned());
        let packet = Packet { origin, source, destination, protocol };
        let rules = rulegen::nftables_rules(plan, "rulegen");
        let mut explanation = rulegen::explain(&rules, &[], &packet, Some(plan));
        complete(&mut explanation);
        explanation.ends.iter_mut().for_each(|end| end.conditions.clear());
        Ok(explanation)
    }
}

#[test]
fn live_case_notes_senders_of_other_nodes_that_are_not_checked() {
    let live = |case: &str| -> CaseReport {
        let (tests, inputs) = of_cluster(case);
        let rules = CompiledRules { host: Host { name: "node-1".to_owned(), ..Host::default() } };
        run_live(&tests, &inputs, &rules, OnConditions::Report).remove(0)
    };
    let report = live(
        "{name: x, from: {pods: {app: client}}, to: default/web:80, expect: {outcome: endpoint}}",
    );
    assert!(matches!(report.verdict, CaseVerdict::Passed), "{report:?}");
    let not_checked = |node: &str, senders| CaseNote::NotChecked { node: node.to_owned(), senders };
    assert_eq!(report.notes, [not_checked("node-2", 1), not_checked("node-3", 2)]);

    let report =
        live("{name: x, from: default/c, to: default/web:80, expect: {outcome: endpoint}}");
    assert!(matches!(report.verdict, CaseVerdict::Ignored(_)), "{report:?}");
    assert_eq!(report.notes, []);
}

/// The API server accepts the address, and kube-proxy gives it to one of both.
#[test]
fn patched_service_with_cluster_ip_of_another_is_evaluated_with_a_note() {
    let case = |outcome: &str, to: &str| {
        let (tests, inputs) = of_cluster(&format!(
            "{{name: x, when: {{patch: {{service: default/web, merge: {{spec: {{externalIPs: \
             [10.96.0.2]}}}}}}}}, from: default/a, to: {to}, expect: {{outcome: {outcome}}}}}"
        ));
        run(&tests, &inputs).remove(0)
    };
    let report = case("rejected", "10.96.0.2:80");
    assert!(matches!(report.verdict, CaseVerdict::Passed), "{report:?}");
    let [CaseNote::Problem(problem)] = &report.notes[..] else { panic!("{report:?}") };
    assert!(problem.contains("10.96.0.2"), "{problem}");
    let report = case("endpoint", "10.96.0.2:80");
    assert!(matches!(report.verdict, CaseVerdict::Failed(_)), "{report:?}");
}
