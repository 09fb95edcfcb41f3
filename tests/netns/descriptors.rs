//! An agent with a low limit of open files, and many Services that each need some.

use std::fs;
use std::thread;

use crate::namespace::Namespace;
use crate::running_agent::{
    Agent, HEALTH_PORT, METRICS_PORT, Manifests, eventually, service, within,
};

const SERVICES: usize = 1100;
const FIRST_CHECK: usize = 30_000;

#[test]
fn descriptor_shortage_closes_health_check_listeners_but_keeps_rules() {
    let modes = ["nftables", "iptables"];
    thread::scope(|scope| {
        modes.iter().for_each(|mode| drop(scope.spawn(|| with_a_limit_of_1024(mode))));
    });
}

fn with_a_limit_of_1024(mode: &str) {
    let node = Namespace::new(&format!("fds-{mode}"));
    let manifests = Manifests::new(&node);
    manifests.put("victim.yaml", &service(1, &["10.0.0.1"]));
    let flags = format!("--iptables-min-sync-period 0 --proxy-mode {mode}");
    let limits = "prlimit --nofile=500:1024";
    let agent = Agent::start_with_runner(limits, &node, &manifests, &flags);
    agent.wait_until_in_sync();
    let limits = fs::read_to_string(agent.process().join("limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(files[3..5], ["1024", "1024"], "the soft limit is raised");

    let load_balancers: Vec<String> = (0..SERVICES).map(load_balancer).collect();
    manifests.put("many.yaml", &load_balancers.concat());
    let deadline = crate::running_agent::SOON * 4;
    within(deadline, "some listeners are closed", || {
        agent.metric("rulegen_unanswered_health_check_addresses") > 0.0
    });
    within(deadline, "all rules are written", || agent.is_in_sync());
    for (port, path) in [(HEALTH_PORT, "/livez"), (METRICS_PORT, "/metrics"), (30_000, "/")] {
        assert_eq!(agent.get(port, path).map(|answer| answer.0), Some(200), "{port}{path}");
    }
    assert!(agent.get(u16::try_from(FIRST_CHECK + SERVICES - 1).unwrap(), "/").is_none());
    manifests.put("victim.yaml", &service(1, &["10.0.0.3"]));
    within(deadline, "a change of another Service is written", || agent.is_in_sync());
    let open = fs::read_dir(agent.process().join("fd")).unwrap().count();
    assert!(open < 1024 - 100, "{open} descriptors are open");
    assert!(!agent.log().contains("cannot accept"), "{}", agent.log());

    // When descriptors are free again, the remaining ports answer.
    let few: Vec<String> = (SERVICES - 10..SERVICES).map(load_balancer).collect();
    manifests.put("many.yaml", &few.concat());
    eventually("the last health check port answers", || {
        let port = u16::try_from(FIRST_CHECK + SERVICES - 1).unwrap();
        agent.get(port, "/").is_some_and(|answer| answer.0 == 200)
    });
}

#[test]
fn descriptor_shortage_delays_accept_and_keeps_port_open() {
    let node = Namespace::new("no-fds");
    let manifests = Manifests::new(&node);
    let agent = Agent::start(&node, &manifests, "-v=4");
    eventually("the health port answers", || agent.get(HEALTH_PORT, "/livez").is_some());
    let limit_to = |files: &str| {
        let pid = agent.process();
        let pid = pid.file_name().unwrap().to_str().unwrap();
        node.run(&format!("prlimit --pid {pid} --nofile={files}:"));
    };
    // No descriptor below this number is free.
    limit_to("3");
    thread::scope(|scope| {
        let answers = [(); 3].map(|()| scope.spawn(|| agent.get(HEALTH_PORT, "/livez")));
        agent.wait_for_log("still cannot accept connections");
        limit_to("1000");
        for answer in answers {
            assert_eq!(answer.join().unwrap().map(|answer| answer.0), Some(200));
        }
    });
    let log = agent.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("accept"));
    assert_eq!(warnings.count(), 1, "several warnings: {log}");
}

fn load_balancer(n: usize) -> String {
    let (a, b, check) = (n / 250, n % 250 + 1, FIRST_CHECK + n);
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: lb{n:04}, namespace: evil}}, spec: \
         {{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: {check}, \
         clusterIP: 10.97.{a}.{b}, clusterIPs: [10.97.{a}.{b}], ports: [{{port: 80}}]}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
         {{name: lb{n:04}, namespace: evil, labels: {{kubernetes.io/service-name: lb{n:04}}}}}, \
         ports: [{{port: 8080}}], endpoints: [{{addresses: [10.98.{a}.{b}], nodeName: node-1}}]}}\n"
    )
}
