//! Flows of clients that keep their ports while an agent runs: existing flows soon follow the
//! rules, as new flows do.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rulegen_net::{IpFamily, Protocol};
use rulegen_ruleset::Flow;

use crate::conntrack::{conntrack, flows};
use crate::running_agent::{Agent, HEALTH_PORT, Manifests, SOON, eventually};
use crate::topology::{From, POD_IPS, Topology};
use crate::traffic::{Answer, parse_answer, serve};

const FIRST: [&str; 2] = POD_IPS[0];
const SECOND: [&str; 2] = POD_IPS[1];
const CLUSTER_IPS: [&str; 2] = ["10.96.2.1", "fd00:10:96::21"];
const NODE_IPS: [&str; 2] = ["192.168.50.1", "fd00:50::1"];
const OUTSIDE_IPS: [&str; 2] = ["192.168.50.254", "fd00:50::fe"];

const NODE_PORT: u16 = 30053;
/// The TCP port of the endpoints. The tests hold connections to it open.
const TCP_PORT: u16 = 8090;

/// Node ports are open at the node's addresses on the client's network.
const FLAGS: &str = "--nodeport-addresses 192.168.50.0/24,fd00:50::/64";

/// How long a client waits for an answer. A later answer would count for its next request.
const TIMEOUT: Duration = Duration::from_millis(200);

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A Service of both families for UDP and TCP, with at most one endpoint per family.
fn service(endpoint: Option<[&str; 2]>) -> String {
    let [v4, v6] = CLUSTER_IPS;
    let mut text = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: it}}, spec: {{type: NodePort, \
         clusterIP: {v4}, clusterIPs: [{v4}, '{v6}'], ports: [\
         {{name: udp, protocol: UDP, port: 53, nodePort: {NODE_PORT}}}, \
         {{name: tcp, protocol: TCP, port: 80}}]}}}}\n"
    );
    for (place, kind) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let endpoint =
            endpoint.map_or(String::new(), |ips| format!("{{addresses: ['{}']}}", ips[place]));
        text += &format!(
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: {kind}, \
             metadata: {{name: it-{place}, labels: {{kubernetes.io/service-name: it}}}}, \
             ports: [{{name: udp, protocol: UDP, port: 8080}}, \
             {{name: tcp, protocol: TCP, port: {TCP_PORT}}}], endpoints: [{endpoint}]}}\n"
        );
    }
    text
}

/// Starts an agent and waits for its first sync.
fn ready_agent<'a>(lab: &'a Topology, manifests: &Manifests, flags: &str) -> Agent<'a> {
    let agent = Agent::start(&lab.node, manifests, &format!("{FLAGS} {flags}"));
    eventually("the agent is ready", || {
        agent.get(HEALTH_PORT, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    agent
}

/// A client that keeps its port, and therefore its flow.
struct Client {
    to: SocketAddr,
    socket: UdpSocket,
}

impl Client {
    fn new(lab: &Topology, from: From, to: SocketAddr) -> Self {
        let (namespace, source) = lab.source(from, to);
        let own = SocketAddr::new(source, namespace.next_port());
        let socket = namespace.inside(|| UdpSocket::bind(own).unwrap());
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { to, socket }
    }

    fn ask(&self) -> Answer {
        let mut buffer = [0; 64];
        let answer = self.socket.send(b"?").and_then(|_| self.socket.recv(&mut buffer));
        match answer {
            Ok(length) => parse_answer(&String::from_utf8_lossy(&buffer[..length])).unwrap(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
            Err(_) => Answer::Silence,
        }
    }

    fn is_answered_by(&self, endpoint: [&str; 2]) -> bool {
        let endpoint = endpoint[usize::from(self.to.is_ipv6())];
        matches!(self.ask(), Answer::From { endpoint: from, .. } if from == at(endpoint, 8080))
    }

    /// The flow in the node's conntrack table.
    fn flow(&self, lab: &Topology) -> Option<Flow> {
        let own = self.socket.local_addr().unwrap();
        flow(lab, Protocol::Udp, own, self.to)
    }
}

/// The flow between two addresses in the node's conntrack table.
fn flow(lab: &Topology, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Option<Flow> {
    let listed = flows(&mut conntrack(&lab.node), IpFamily::of(to.ip()), protocol);
    listed.into_iter().find(|flow| (flow.source, flow.destination) == (from, to))
}

/// Clients of both families: a pod that uses the cluster IP, and an outside client of the node
/// port.
fn clients(lab: &Topology) -> Vec<Client> {
    let of_family = |place: usize| {
        [
            Client::new(lab, From::BridgedPod, at(CLUSTER_IPS[place], 53)),
            Client::new(lab, From::Outside, at(NODE_IPS[place], NODE_PORT)),
        ]
    };
    [0, 1].into_iter().flat_map(of_family).collect()
}

fn wait_until_answered(clients: &[Client], endpoint: [&str; 2]) {
    for client in clients {
        eventually(&format!("{endpoint:?} answers at {}", client.to), || {
            client.is_answered_by(endpoint)
        });
    }
}

/// Number of flows that the agent has deleted, per family.
fn deleted_flows(agent: &Agent<'_>) -> [f64; 2] {
    ["IPv4", "IPv6"].map(|family| {
        agent.metric(&format!(
            r#"kubeproxy_conntrack_reconciler_deleted_entries_total{{ip_family="{family}"}}"#
        ))
    })
}

/// The agent counts flows after it has deleted them.
fn wait_until_deleted(agent: &Agent<'_>, flows: f64) {
    eventually(&format!("{flows} deleted flows per family are counted"), || {
        deleted_flows(agent) == [flows; 2]
    });
}

#[test]
fn conntrack_udp_clients_with_fixed_port_follow_service() {
    let lab = Topology::new("agent-flows");
    let manifests = Manifests::new(&lab.node);
    manifests.put("it.yaml", &service(Some(FIRST)));
    let agent = ready_agent(&lab, &manifests, "");
    let clients = clients(&lab);
    wait_until_answered(&clients, FIRST);
    assert_eq!(deleted_flows(&agent), [0.0; 2], "nothing has changed");

    manifests.put("it.yaml", &service(Some(SECOND)));
    wait_until_answered(&clients, SECOND);
    wait_until_deleted(&agent, 2.0);

    manifests.put("it.yaml", &service(None));
    for client in &clients {
        eventually(&format!("{} refuses", client.to), || client.ask() == Answer::Refused);
    }
    wait_until_deleted(&agent, 4.0);
    manifests.put("it.yaml", &service(Some(FIRST)));
    wait_until_answered(&clients, FIRST);
}

#[test]
fn conntrack_udp_flows_are_deleted_with_service_and_before_it() {
    let lab = Topology::new("agent-flows-gone");
    let manifests = Manifests::new(&lab.node);
    manifests.put("it.yaml", &service(Some(FIRST)));
    let agent = ready_agent(&lab, &manifests, "");
    let clients = clients(&lab);
    wait_until_answered(&clients, FIRST);
    assert!(clients.iter().all(|client| client.flow(&lab).is_some()));

    // No client sends now, because that would create a new flow.
    manifests.remove("it.yaml");
    for client in &clients {
        eventually(&format!("the flow to {} is gone", client.to), || client.flow(&lab).is_none());
    }
    wait_until_deleted(&agent, 2.0);

    for client in &clients {
        assert!(!client.is_answered_by(FIRST));
        assert!(client.flow(&lab).is_some_and(|flow| !flow.is_translated()));
    }
    manifests.put("it.yaml", &service(Some(SECOND)));
    wait_until_answered(&clients, SECOND);
    wait_until_deleted(&agent, 4.0);
}

#[test]
fn conntrack_changes_while_agent_is_down_are_caught_up() {
    let lab = Topology::new("agent-flows-away");
    let manifests = Manifests::new(&lab.node);
    manifests.put(
        "cidrs.yaml",
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: it}, \
         spec: {cidrs: [10.96.0.0/16, 'fd00:10:96::/112']}}\n",
    );
    manifests.put("it.yaml", &service(Some(FIRST)));
    let mut agent = ready_agent(&lab, &manifests, "");
    let clients = clients(&lab);
    wait_until_answered(&clients, FIRST);

    agent.kill();
    manifests.put("it.yaml", &service(Some(SECOND)));
    assert!(clients.iter().all(|client| client.is_answered_by(FIRST)), "no agent deletes flows");
    let mut agent = ready_agent(&lab, &manifests, "");
    wait_until_answered(&clients, SECOND);
    wait_until_deleted(&agent, 2.0);

    // After a restart the old node ports are unknown. The cluster IPs are known from the ServiceCIDR.
    agent.kill();
    manifests.remove("it.yaml");
    let agent = ready_agent(&lab, &manifests, "");
    for client in clients.iter().filter(|client| client.to.port() != NODE_PORT) {
        eventually(&format!("the flow to {} is gone", client.to), || client.flow(&lab).is_none());
    }
    wait_until_deleted(&agent, 1.0);
}

#[test]
fn conntrack_flow_to_node_port_number_of_another_host_is_kept() {
    let lab = Topology::new("agent-flows-foreign");
    let manifests = Manifests::new(&lab.node);
    manifests.put("it.yaml", &service(Some(FIRST)));
    let agent = ready_agent(&lab, &manifests, "");
    let foreign = OUTSIDE_IPS.map(|ip| {
        let host = at(ip, NODE_PORT);
        serve(&lab.client, host);
        let client = Client::new(&lab, From::BridgedPod, host);
        eventually(
            &format!("{host} answers"),
            || matches!(client.ask(), Answer::From { endpoint, .. } if endpoint == host),
        );
        client
    });
    let clients = clients(&lab);
    wait_until_answered(&clients, FIRST);
    let flow_ids =
        || foreign.each_ref().map(|client| client.flow(&lab).expect("the flow is gone").id);
    let before = flow_ids();

    for (place, endpoint) in [SECOND, FIRST].into_iter().enumerate() {
        manifests.put("it.yaml", &service(Some(endpoint)));
        wait_until_answered(&clients, endpoint);
        wait_until_deleted(&agent, 2.0 * (place + 1) as f64);
        assert_eq!(flow_ids(), before, "a new flow of the same addresses");
    }
    manifests.remove("it.yaml");
    wait_until_deleted(&agent, 6.0);
    assert_eq!(flow_ids(), before, "a new flow of the same addresses");
}

/// A connection from a pod through a cluster IP to the first endpoint, open at both ends.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    to: SocketAddr,
}

impl Connection {
    fn new(lab: &Topology, place: usize) -> Self {
        let listener =
            lab.pods[0].inside(|| TcpListener::bind(at(FIRST[place], TCP_PORT)).unwrap());
        let to = at(CLUSTER_IPS[place], 80);
        let client = lab.pods[2].inside(|| TcpStream::connect_timeout(&to, SOON).unwrap());
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(SOON)).unwrap();
        }
        Self { client, server, to }
    }

    fn flow(&self, lab: &Topology) -> Option<Flow> {
        flow(lab, Protocol::Tcp, self.client.local_addr().unwrap(), self.to)
    }

    fn round_trip(&mut self) -> io::Result<()> {
        let mut byte = [0];
        self.client.write_all(b"?")?;
        self.server.read_exact(&mut byte)?;
        self.server.write_all(b"!")?;
        self.client.read_exact(&mut byte)
    }
}

/// A cluster whose agent has cleaned up after the removal of the first endpoint, and connections to
/// that endpoint from before.
fn connections_to_a_removed_endpoint(
    label: &str,
    flags: &str,
    flows: f64,
) -> (Topology, [Connection; 2]) {
    let lab = Topology::new(label);
    let manifests = Manifests::new(&lab.node);
    manifests.put("it.yaml", &service(Some(FIRST)));
    let agent = ready_agent(&lab, &manifests, flags);
    let clients = clients(&lab);
    wait_until_answered(&clients, FIRST);
    let mut connections = [0, 1].map(|place| Connection::new(&lab, place));
    for connection in &mut connections {
        connection.round_trip().unwrap();
        assert!(connection.flow(&lab).is_some());
    }
    manifests.put("it.yaml", &service(Some(SECOND)));
    wait_until_answered(&clients, SECOND);
    wait_until_deleted(&agent, flows);
    drop(agent);
    (lab, connections)
}

#[test]
fn tcp_connection_to_removed_endpoint_is_kept() {
    let (lab, connections) = connections_to_a_removed_endpoint("agent-tcp-stays", "", 2.0);
    for mut connection in connections {
        connection.round_trip().unwrap();
        assert!(connection.flow(&lab).is_some());
    }
}

/// The next packet starts a flow to the current endpoint, which does not know the connection.
#[test]
fn tcp_connection_to_removed_endpoint_is_reset_if_configured() {
    let flags = "--conntrack-tcp-reset-removed";
    let (lab, connections) = connections_to_a_removed_endpoint("agent-tcp-reset", flags, 3.0);
    for mut connection in connections {
        assert_eq!(connection.flow(&lab), None);
        connection.client.write_all(b"?").unwrap();
        let error = connection.client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
