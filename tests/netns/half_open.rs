//! Clients that hold connections open do not keep probers from getting an answer.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rulegen_os::descriptors;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::namespace::{Namespace, StopOnDrop};
use crate::running_agent::{Agent, HEALTH_PORT, METRICS_PORT, Manifests, eventually};

/// The timeout of a prober.
const DEADLINE: Duration = Duration::from_secs(1);

const NODE: &str = "192.0.2.1";
const CHECKS: [u16; 2] = [31_001, 31_002];

/// The first of the attacker's addresses.
const ATTACKER: &str = "192.0.3.1";

/// How a client holds its connections.
#[derive(Clone, Copy)]
struct Attack {
    name: &'static str,
    /// The bytes that it sends after connecting.
    bytes: &'static [u8],
    /// Whether it sends one more byte per second.
    sends_slowly: bool,
    ports: &'static [u16],
    /// Number of source addresses.
    sources: u8,
}

const PARTIAL_REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\n";
const ONE_CHECK: &[u16] = &[CHECKS[0]];
const ALL: &[u16] = &[HEALTH_PORT, CHECKS[0], CHECKS[1], METRICS_PORT];
const FULL_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n";

const ATTACKS: [Attack; 6] = [
    Attack {
        name: "half",
        bytes: PARTIAL_REQUEST,
        sends_slowly: false,
        ports: &[HEALTH_PORT],
        sources: 1,
    },
    Attack { name: "silent", bytes: b"", sends_slowly: false, ports: &[HEALTH_PORT], sources: 1 },
    Attack {
        name: "dribbling",
        bytes: b"G",
        sends_slowly: true,
        ports: &[HEALTH_PORT],
        sources: 1,
    },
    Attack {
        name: "one check",
        bytes: PARTIAL_REQUEST,
        sends_slowly: false,
        ports: ONE_CHECK,
        sources: 1,
    },
    Attack {
        name: "all, of many",
        bytes: PARTIAL_REQUEST,
        sends_slowly: false,
        ports: ALL,
        sources: 200,
    },
    Attack { name: "unread", bytes: FULL_REQUEST, sends_slowly: false, ports: ALL, sources: 4 },
];

/// Number of simultaneous connections. Each is reopened when it is closed.
const CONNECTIONS: usize = 2000;

#[test]
fn health_checks_are_answered_within_a_second_beside_http_flood() {
    descriptors::raise_limit().unwrap();
    let node = Namespace::new("probed");
    let elsewhere = Namespace::new("elsewhere");
    node.run(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}; ip link set eth0 up; \
         ip addr add {NODE}/16 dev eth0",
        elsewhere.name
    ));
    let addresses = (1..=200).map(|n| format!("ip addr add 192.0.3.{n}/16 dev eth0"));
    let addresses: Vec<String> = addresses.collect();
    elsewhere.run(&format!(
        "ip link set eth0 up; {}; ip addr add 192.0.4.1/16 dev eth0",
        addresses.join("; ")
    ));
    let manifests = Manifests::new(&node);
    let services: Vec<String> = CHECKS.into_iter().enumerate().map(load_balancer).collect();
    manifests.put("services.yaml", &services.concat());
    let flags = "--metrics-bind-address 0.0.0.0 --healthz-bind-address 0.0.0.0";
    let agent = Agent::start(&node, &manifests, flags);
    agent.wait_until_in_sync();
    // At the primary address, as node ports.
    let at = SocketAddr::new(NODE.parse().unwrap(), CHECKS[1]);
    eventually("load balancers are answered", || {
        node.inside(|| ask(NODE.parse().unwrap(), at, "/").is_ok())
    });
    for attack in ATTACKS {
        let stop = AtomicBool::new(false);
        let opened = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| elsewhere.inside(|| hold(attack, &stop, &opened)));
            let stop = StopOnDrop(&stop);
            eventually("enough connections are open", || {
                opened.load(Ordering::Relaxed) >= CONNECTIONS
            });
            for _ in 0..10 {
                probe_all(&node, &elsewhere, attack.name);
            }
            drop(stop);
        });
    }
    assert!(agent.get(HEALTH_PORT, "/livez").is_some());
}

fn load_balancer((n, check): (usize, u16)) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: lb{n}}}, spec: {{\
         type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: {check}, \
         clusterIP: 10.96.1.{n}, clusterIPs: [10.96.1.{n}], ports: [{{port: 80}}]}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: lb{n}, labels: {{kubernetes.io/service-name: lb{n}}}}}, \
         ports: [{{port: 8080}}], endpoints: [{{addresses: [10.0.0.{n}], nodeName: node-1}}]}}\n"
    )
}

/// Probes as the kubelet, as a load balancer at each port, and from one of the attacker's own
/// addresses.
fn probe_all(node: &Namespace, elsewhere: &Namespace, attack: &str) {
    let at = |port| SocketAddr::new(NODE.parse().unwrap(), port);
    node.inside(|| probe("kubelet", attack, NODE, at(HEALTH_PORT), "/livez"));
    elsewhere.inside(|| {
        for source in ["192.0.4.1", ATTACKER] {
            probe(source, attack, source, at(HEALTH_PORT), "/healthz");
            for check in CHECKS {
                probe(source, attack, source, at(check), "/");
            }
        }
        probe("scraper", attack, "192.0.4.1", at(METRICS_PORT), "/metrics");
    });
}

fn probe(prober: &str, attack: &str, from: &str, at: SocketAddr, path: &str) {
    let start = Instant::now();
    let answer = ask(from.parse().unwrap(), at, path);
    let duration = start.elapsed();
    let status = answer.as_ref().map(|text| text.split(' ').nth(1).unwrap_or("closed"));
    assert_eq!(status.map_err(ToString::to_string), Ok("200"), "{attack}: {prober} at {at}{path}");
    assert!(duration < DEADLINE, "{attack}: {prober} at {at}{path} took {duration:?}");
}

fn ask(from: IpAddr, at: SocketAddr, path: &str) -> std::io::Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    if from.to_string() == ATTACKER {
        // The agent keeps the last 64 connections of a source, and the attacker opens as many within
        // milliseconds. So the request has to come with the end of the handshake, however long this
        // thread waits for a processor in between.
        socket.set_tcp_quickack(false)?;
    }
    socket.connect_timeout(&at.into(), DEADLINE)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut stream = std::net::TcpStream::from(socket);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {NODE}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Holds connections, and reopens each when it is closed.
fn hold(attack: Attack, stop: &AtomicBool, opened: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clients = (0..CONNECTIONS).map(|n| async move {
            let source = n % usize::from(attack.sources) + 1;
            let from: IpAddr = format!("192.0.3.{source}").parse().unwrap();
            let port = attack.ports[n % attack.ports.len()];
            loop {
                let at = SocketAddr::new(NODE.parse().unwrap(), port);
                let _ = hold_one(attack, from, at, opened).await;
                // A refused client does not retry in a busy loop.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = stopped => {}
            _ = futures::future::join_all(clients) => {}
        }
    });
}

async fn hold_one(
    attack: Attack,
    from: IpAddr,
    at: SocketAddr,
    opened: &AtomicUsize,
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(at).await?;
    stream.write_all(attack.bytes).await?;
    opened.fetch_add(1, Ordering::Relaxed);
    if attack.sends_slowly {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(b"x").await?;
        }
    }
    if attack.bytes == FULL_REQUEST {
        // The client does not read the response.
        stream.readable().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        return Ok(());
    }
    let _closed = stream.read(&mut [0]).await?;
    Ok(())
}
