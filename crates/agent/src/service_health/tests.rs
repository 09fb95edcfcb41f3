use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use rulegen_net::IpFamily;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::health::Health;
use crate::http::Quota;
use crate::http::tests::get;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn healthy() -> SharedHealth {
    SharedHealth::new(Health::new(&IpFamily::BOTH, Health::PATIENCE, Instant::now()))
}

fn unhealthy() -> SharedHealth {
    SharedHealth::new(Health::new(&IpFamily::BOTH, std::time::Duration::ZERO, Instant::now()))
}

fn service_health(health: SharedHealth) -> ServiceHealth {
    let quota = Quota::of_ports(64);
    ServiceHealth::new(health, Admission::new(quota, quota), 100)
}

fn check(name: &str, port: u16, local_ready_endpoints: usize) -> ServiceCheck {
    let port = NonZeroU16::new(port).unwrap();
    let local_ready_endpoints = PerFamily::from_iter([(IpFamily::Ipv4, local_ready_endpoints)]);
    ServiceCheck { namespace: "shop".into(), name: name.into(), port, local_ready_endpoints }
}

/// A free port that the kernel does not give to another socket that asks for any port.
async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn health_check_node_port_answer_equals_that_of_kube_proxy() {
    for (health, endpoints, expected) in
        [(healthy(), 2, "200"), (healthy(), 0, "503"), (unhealthy(), 2, "503")]
    {
        let is_healthy = health.is_healthy();
        let mut service_health = service_health(health);
        let port = free_port().await;
        let failures = service_health.update(vec![check("web", port, endpoints)], &[LOCALHOST]);
        assert!(failures.await.is_empty());
        let response = get((LOCALHOST, port).into(), "/any/path").await;
        assert_eq!(status(&response), expected);
        let (headers, body) = response.split_once("\r\n\r\n").unwrap();
        let weight = format!("x-load-balancing-endpoint-weight: {endpoints}");
        for header in ["content-type: application/json", "x-content-type-options: nosniff", &weight]
        {
            assert!(headers.lines().any(|line| line == header), "{header} missing in {headers}");
        }
        let desired = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t}},\n\
             \t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {is_healthy}\n}}"
        );
        assert_eq!(body, desired);
    }
}

/// As in kube-proxy: a load balancer that probes an address sends traffic of its family.
#[tokio::test]
async fn each_family_is_counted_and_listened_for_by_itself() {
    const LOCALHOST6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut service_health = service_health(healthy());
    let port = free_port().await;
    let mut dual = check("dual", port, 0);
    dual.local_ready_endpoints.insert(IpFamily::Ipv6, 2);
    let addresses = [LOCALHOST, LOCALHOST6];
    assert!(service_health.update(vec![dual], &addresses).await.is_empty());
    let answer = get((LOCALHOST, port).into(), "/").await;
    assert!(status(&answer) == "503" && answer.contains("\"localEndpoints\": 0"), "{answer}");
    let answer = get((LOCALHOST6, port).into(), "/").await;
    assert!(status(&answer) == "200" && answer.contains("\"localEndpoints\": 2"), "{answer}");
    assert!(service_health.update(vec![check("four", port, 1)], &addresses).await.is_empty());
    assert_eq!(status(&get((LOCALHOST, port).into(), "/").await), "200");
    assert!(TcpStream::connect((LOCALHOST6, port)).await.is_err(), "IPv4 Service listens on IPv6");
}

#[tokio::test]
async fn health_check_node_port_listeners_follow_services_and_addresses() {
    let mut service_health = service_health(healthy());
    let (a, b) = (free_port().await, free_port().await);
    let (at_a, at_b) = (SocketAddr::new(LOCALHOST, a), SocketAddr::new(LOCALHOST, b));
    let desired = vec![check("a", a, 1), check("b", b, 1)];
    assert!(service_health.update(desired, &[LOCALHOST]).await.is_empty());
    assert_eq!(status(&get(at_a, "/").await), "200");
    assert_eq!(status(&get(at_b, "/").await), "200");

    // The first keeps its port with other endpoints, and a third Service gets the port of the
    // second.
    let desired = vec![check("a", a, 0), check("c", b, 1)];
    assert!(service_health.update(desired, &[LOCALHOST]).await.is_empty());
    assert_eq!(status(&get(at_a, "/").await), "503");
    assert!(get(at_b, "/").await.contains("\"name\": \"c\""));

    // From one address to all addresses and back: each listener blocks the port for the other.
    for addresses in [vec![ALL, ALL6], vec![LOCALHOST]] {
        let failures = service_health.update(vec![check("a", a, 1)], &addresses).await;
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(status(&get(at_a, "/").await), "200");
        assert!(TcpStream::connect(at_b).await.is_err(), "closed");
    }
    assert!(service_health.update(Vec::new(), &[LOCALHOST]).await.is_empty());
    assert!(TcpStream::connect(at_a).await.is_err(), "closed");
}

#[tokio::test]
async fn health_check_node_port_of_deleted_service_answers_404() {
    let mut service_health = service_health(healthy());
    let port = free_port().await;
    service_health.update(vec![check("web", port, 1)], &[LOCALHOST]).await;
    // Two of them: only an answer to the second shows that the first was accepted.
    let mut stream = TcpStream::connect((LOCALHOST, port)).await.unwrap();
    assert_eq!(status(&get((LOCALHOST, port).into(), "/").await), "200");
    service_health.update(Vec::new(), &[LOCALHOST]).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert_eq!(status(&response), "404", "{response}");
}

#[tokio::test]
async fn health_check_node_port_in_use_is_reported_and_retried() {
    let mut service_health = service_health(healthy());
    let holder = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = holder.local_addr().unwrap();
    let desired = || vec![check("web", address.port(), 1)];
    let failures = service_health.update(desired(), &[LOCALHOST]).await;
    let failed: Vec<_> = failures.iter().map(|of| (of.name.as_str(), of.address)).collect();
    assert_eq!(failed, [("web", address)]);
    drop(holder);
    assert!(service_health.update(desired(), &[LOCALHOST]).await.is_empty());
    assert_eq!(status(&get(address, "/").await), "200");
}

#[tokio::test]
async fn health_check_node_port_of_two_services_goes_to_first_by_name() {
    let mut service_health = service_health(healthy());
    let port = free_port().await;
    let desired = vec![check("b", port, 1), check("a", port, 1)];
    let failures = service_health.update(desired, &[LOCALHOST]).await;
    let failed: Vec<_> =
        failures.iter().map(|of| (of.name.as_str(), of.error.to_string())).collect();
    assert_eq!(failed, [("b", "port already used by shop/a".to_owned())]);
    assert!(get((LOCALHOST, port).into(), "/").await.contains("\"name\": \"a\""));
}

#[test]
fn health_check_node_port_limit_is_shared_fairly_between_namespaces() {
    let of = |namespace: &str, name: &str, port: u16| {
        let port = NonZeroU16::new(port).unwrap();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let local_ready_endpoints = PerFamily::from_iter([(IpFamily::Ipv4, 1)]);
        (port, ServiceCheck { namespace, name, port, local_ready_endpoints })
    };
    let many = (0..500).map(|n| of("evil", &format!("{n:03}"), 30_000 + n));
    let few = [of("shop", "web", 31_001), of("shop", "api", 31_000), of("zoo", "ape", 31_002)];
    let checks: BTreeMap<NonZeroU16, ServiceCheck> = many.chain(few).collect();
    assert_eq!(beyond(503, &[ALL, ALL6], &checks), [], "listens only on addresses of its family");
    let beyond = beyond(21, &[ALL, LOCALHOST], &checks);
    assert_eq!(beyond.len(), 493);
    assert!(beyond.iter().all(|check| check.namespace == "evil"));
    assert_eq!(beyond[0].name, "007", "ten minus the three Services of other namespaces");
}

#[tokio::test]
async fn health_check_node_port_listeners_are_limited() {
    let quota = Quota::of_ports(8);
    let mut service_health = ServiceHealth::new(healthy(), Admission::new(quota, quota), 3);
    let ports = [free_port().await, free_port().await, free_port().await];
    let desired = |ports: &[u16]| -> Vec<ServiceCheck> {
        ports.iter().enumerate().map(|(n, port)| check(&n.to_string(), *port, 1)).collect()
    };
    let addresses = [LOCALHOST, "127.0.0.2".parse().unwrap()];
    let failures = service_health.update(desired(&ports), &addresses).await;
    assert_eq!(failures.len(), 4, "a Service gets all listeners or none");
    assert!(failures.iter().all(|of| of.error.to_string().contains("LimitNOFILE")));
    assert_eq!(service_health.listeners.len(), 2);
    assert_eq!(status(&get((LOCALHOST, ports[0]).into(), "/").await), "200");
    assert!(TcpStream::connect((LOCALHOST, ports[1])).await.is_err());
    assert_eq!(service_health.update(desired(&ports[1..2]), &addresses).await.len(), 0);
    assert_eq!(status(&get((LOCALHOST, ports[1]).into(), "/").await), "200");
}
