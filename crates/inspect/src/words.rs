//! The words for outcomes and reasons that several commands and the status page share, and the
//! codes that JSON has for them. Codes are stable, texts may change.

use std::net::IpAddr;

use rulegen_compiler::Refusal;
use rulegen_model::{Availability, NotChosen, UnavailableReason, Unproxied};
use rulegen_net::{IpFamily, ServicePortName, ServiceRef};
use serde::{Serialize, Serializer};

use crate::explain::network::{PathObstacle, RouteFailure, RouteInput};
use crate::explain::no_address::{NoPort, ServiceState};
use crate::explain::outcome::Outcome;

/// Why the source of a packet is replaced by an address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasqueradeReason {
    /// All traffic to cluster IPs is masqueraded.
    All,
    /// It goes to a cluster IP and does not come from a pod.
    NotFromPods,
    /// Its destination is an external address or node port, and its endpoint may be on another node.
    External,
    /// This node sends it to an external address or node port under policy Local.
    FromNode,
    /// The endpoint is also the sender.
    Hairpin,
}

impl MasqueradeReason {
    /// The code in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::All => "masquerade-all",
            Self::NotFromPods => "masquerade-not-from-pods",
            Self::External => "masquerade-external",
            Self::FromNode => "masquerade-from-node",
            Self::Hairpin => "masquerade-hairpin",
        }
    }

    /// The reason. Follows a colon.
    pub fn text(self) -> &'static str {
        match self {
            Self::All => "all traffic to cluster IPs is masqueraded (masqueradeAll)",
            Self::NotFromPods => {
                "it does not come from a pod, so the reply must come back through this node"
            }
            Self::External => {
                "traffic to an external address or node port may go to another node, and the reply \
                 must come back through this one"
            }
            Self::FromNode => "this node sends it, and the reply must come back through the DNAT",
            Self::Hairpin => {
                "the endpoint reaches itself (hairpin): without SNAT the reply would bypass \
                 conntrack"
            }
        }
    }
}

/// The code of a refusal in JSON.
pub fn refusal_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => Code::NoEndpoints.as_str(),
        Refusal::NoLocalEndpoints => Code::NoLocalEndpoints.as_str(),
    }
}

/// The refusal in a few words.
pub(crate) fn refusal_words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => "no endpoint: rejected",
        Refusal::NoLocalEndpoints => "no endpoint on this node: dropped",
    }
}

/// Why a Service refuses traffic. Follows the name of the Service in a sentence.
pub fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => "has no ready endpoint",
        Refusal::NoLocalEndpoints => {
            "has endpoints, but none usable on this node, and its traffic policy is Local"
        }
    }
}

/// The outcome for refused traffic.
pub fn refusal_outcome(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoEndpoints => REJECTED,
        Refusal::NoLocalEndpoints => DROPPED,
    }
}

/// The outcome for a packet that does not reach an endpoint; `None` if it does.
pub fn outcome(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Endpoint { .. } => None,
        Outcome::Passes { masqueraded: true } => Some("goes on, masqueraded"),
        Outcome::Passes { masqueraded: false } => Some("goes on unchanged"),
        Outcome::Rejected => Some(REJECTED),
        Outcome::Dropped => Some(DROPPED),
        Outcome::Unreachable => Some("not routed: the client gets an error or no answer"),
    }
}

/// What becomes of a packet that something else than the rules of Services stops.
pub fn stopped_outcome(stopped: Outcome) -> Option<&'static str> {
    match stopped {
        Outcome::Rejected => Some("rejected: the client gets an error"),
        other => outcome(other),
    }
}

/// The condition of a Service in output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceCondition {
    /// The code in JSON.
    pub code: &'static str,
    /// A few words; empty if there is no problem.
    pub words: &'static str,
    /// A sentence.
    pub sentence: &'static str,
}

/// The condition of a Service, from the availability of its worst port. `None` stands for a Service
/// without ports in the rules.
pub fn service_condition(worst: Option<Availability>) -> ServiceCondition {
    let (code, words, sentence) = match worst {
        None => (
            "no-rules",
            "no rules",
            "No rules: it is headless, of type ExternalName, handled by another proxy, or has no \
             valid port.",
        ),
        Some(Availability::NoEndpoints) => (
            Code::NoEndpoints.as_str(),
            "no endpoints",
            "A port has no endpoints; its traffic is rejected.",
        ),
        Some(Availability::NoneUsable { .. }) => (
            "no-ready-endpoints",
            "none ready",
            "A port has no usable endpoint; its traffic is rejected.",
        ),
        Some(Availability::NoneLocal { .. }) => (
            Code::NoLocalEndpoints.as_str(),
            "no local endpoint",
            "A port has traffic policy Local and no usable endpoint on this node.",
        ),
        Some(Availability::OnlyTerminating { .. }) => (
            "only-terminating-endpoints",
            "only terminating",
            "A port has no ready endpoint; terminating endpoints still get its traffic.",
        ),
        Some(Availability::Ready) => ("ready", "", "All ports have usable endpoints."),
    };
    ServiceCondition { code, words, sentence }
}

/// The code in JSON of the reason for missing endpoints. Its text is the reason's `Display`.
pub fn unavailability_code(why: &UnavailableReason) -> &'static str {
    why.code().name()
}

/// The code in JSON and the text of the reason why an endpoint gets no traffic.
pub fn not_chosen(reason: NotChosen) -> (&'static str, &'static str) {
    match reason {
        NotChosen::NotReady => ("not-ready", "not ready"),
        NotChosen::OthersReady => ("other-endpoints-ready", "other endpoints are ready"),
        NotChosen::HintedElsewhere => {
            ("hinted-elsewhere", "topology hints for other zones or nodes")
        }
        NotChosen::OnAnotherNode => ("on-another-node", "on another node"),
    }
}

/// Why a trace shows no end of a packet, if trace events were dropped.
pub(crate) const EVENTS_DROPPED: &str =
    "trace events were dropped, because the receive buffer was full";

/// Why a trace shows no end of a packet whose last event was at this hook.
pub(crate) fn lost_after(hook: &str) -> String {
    let reason = match hook {
        "prerouting" => "no route, or dropped by rp_filter or rules of iptables-legacy",
        _ => "dropped or taken over by rules of iptables-legacy or another part of the kernel",
    };
    format!("no hook saw it after {hook}: {reason}")
}

/// The kernel drops translated packets from loopback addresses, independent of the rules.
pub const ROUTE_LOCALNET_OFF: &str =
    "net.ipv4.conf.all.route_localnet is 0: the kernel drops the packet after these rules";

/// How to change that.
pub const ROUTE_LOCALNET_REMEDY: &str = "sysctl -w net.ipv4.conf.all.route_localnet=1, but only after \
    the rules are applied, because they drop what other hosts send to 127.0.0.1 (an agent does both)";

/// Consequences for the client, at the end of a sentence.
pub(crate) const CLIENT_IS_REJECTED: &str = "the client gets an ICMP port-unreachable";
pub(crate) const CLIENT_IS_DROPPED: &str = "the client gets no answer";

const REJECTED: &str = "rejected: the client gets an ICMP port-unreachable";
const DROPPED: &str = "dropped: the client gets no answer";

/// Addresses of a Service's endpoints are not used.
pub(crate) fn unused_addresses(service: &ServicePortName, addresses: &[String]) -> String {
    let ServicePortName { namespace, service, .. } = service;
    format!(
        "only the first address of each endpoint is used; these of {namespace}/{service} are not: {}",
        addresses.join(", ")
    )
}

/// The packet goes to an unused address of an endpoint.
pub(crate) fn unused_address(service: &ServiceRef, address: IpAddr, first: &str) -> String {
    let ServiceRef { namespace, name, .. } = service;
    format!(
        "{address} is not the first address of an endpoint of {namespace}/{name} ({first} is), so \
         the Service does not use it: the packet goes there directly"
    )
}

/// The condition of rules that were not read from a kernel.
pub(crate) const UNKNOWN_HOST: &str = "the rest of the host changes that: other tables, routes, \
                                       rp_filter, bridges, tc, XDP, a full conntrack table (not \
                                       followed here)";

/// What a chain of another table may do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TableEffect {
    /// Drops it.
    Drops,
    /// Rejects it with an error.
    Rejects,
    /// Replaces an address or port.
    Changes,
    /// Excludes it from connection tracking.
    DoesNotTrack,
    /// Is not understood.
    Unknown,
}

impl TableEffect {
    fn verb(self) -> &'static str {
        match self {
            Self::Drops => "drops",
            Self::Rejects => "rejects",
            Self::Changes => "changes",
            Self::DoesNotTrack => "does not track",
            Self::Unknown => "does something that is not understood with",
        }
    }
}

/// The condition of another table.
pub(crate) fn other_table(table: &str, effects: &[TableEffect], chains: &[String]) -> String {
    let verbs: Vec<&str> = effects.iter().map(|effect| effect.verb()).collect();
    format!("table {table} {} it: {}", verbs.join(" or "), chains.join(", "))
}

/// The condition of a rule that could not be evaluated.
pub(crate) fn other_rule(place: &str, rule: &str) -> String {
    format!("a rule that is not understood matches it, {place}: {rule}")
}

/// The condition of routes and settings.
pub(crate) const HOST_NETWORK: &str = "the host's routes or rp_filter stop it";

/// The condition of something on the way of a packet, or of an error about it.
pub(crate) fn obstacle(obstacle: &PathObstacle, packet: &str) -> (Code, String) {
    match obstacle {
        PathObstacle::Xdp(on) => {
            (Code::Xdp, format!("an XDP program on {} drops or changes {packet}", some(on)))
        }
        PathObstacle::Filters(on) => {
            (Code::TcFilter, format!("a tc filter on {} drops or changes {packet}", some(on)))
        }
        PathObstacle::UnlistedFilters => (
            Code::TcFilter,
            format!(
                "a tc program drops or changes {packet} (this process may not list them: bpf(2) \
                 and rtnetlink need CAP_NET_ADMIN)"
            ),
        ),
        PathObstacle::Shapers { interfaces, kinds } => (
            Code::Qdisc,
            format!(
                "the queueing discipline {} on {} drops {packet}",
                some(kinds),
                some(interfaces)
            ),
        ),
        PathObstacle::NoCarrier(interface) => {
            (Code::NoCarrier, format!("interface {interface} has no carrier"))
        }
        PathObstacle::InterfaceDown(interface) => {
            (Code::InterfaceDown, format!("interface {interface} is down"))
        }
        PathObstacle::Tunnel(interface) => (
            Code::Tunnel,
            format!("the packet into which tunnel {interface} puts {packet} is stopped"),
        ),
        PathObstacle::Encapsulation(to) => (
            Code::Tunnel,
            format!("the packet into which the route to {to} puts {packet} is stopped"),
        ),
        PathObstacle::Master { interface, master } => (
            Code::MasterDevice,
            format!("{master}, to which {interface} belongs, drops or changes {packet}"),
        ),
        PathObstacle::NextHops { to, interfaces } => (
            Code::Multipath,
            format!(
                "the next hop that is chosen for {packet} does not deliver it: the route to {to} \
                 has several ({})",
                interfaces.join(", ")
            ),
        ),
        PathObstacle::NoNeighbour { ip, interface } => (
            Code::NoNeighbour,
            format!("{ip} does not answer on {interface} (it has no valid neighbour entry)"),
        ),
        PathObstacle::UnknownRoute(to) => (
            Code::HostNetwork,
            format!("the route to {to}, which the kernel did not show, does not deliver {packet}"),
        ),
        PathObstacle::Ipsec => {
            (Code::Ipsec, format!("an IPsec policy drops or encrypts {packet} (ip xfrm policy)"))
        }
        PathObstacle::Ipvs => {
            (Code::Ipvs, format!("IPVS, which has services, takes {packet} over (ipvsadm -L -n)"))
        }
        PathObstacle::UnreadIpvs => {
            (Code::Ipvs, format!("IPVS takes {packet} over (/proc/net/ip_vs cannot be read)"))
        }
        PathObstacle::SocketPrograms => (
            Code::SocketPrograms,
            "an eBPF program changes or refuses it in the socket of a process on this node \
             (bpftool cgroup tree)"
                .to_owned(),
        ),
        PathObstacle::UnreadSocketPrograms => (
            Code::SocketPrograms,
            "an eBPF program changes or refuses it in the socket of a process on this node (the \
             programs of the root cgroup cannot be read)"
                .to_owned(),
        ),
        PathObstacle::FullTable { count, max } => (
            Code::ConntrackFull,
            format!("the conntrack table is full: it has {count} of at most {max} entries"),
        ),
        PathObstacle::ErrorRate(setting) => {
            (Code::IcmpRateLimit, format!("the rate limit of ICMP errors is reached ({setting})"))
        }
    }
}

/// A remark about some of the endpoints.
pub(crate) fn of_endpoints(endpoints: &[String], text: &str) -> String {
    const SHOWN: usize = 3;
    let names = endpoints.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match endpoints.len().saturating_sub(SHOWN) {
        0 => format!("{names}: {text}"),
        1 => format!("{names} and 1 other: {text}"),
        others => format!("{names} and {others} others: {text}"),
    }
}

/// At most three names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut all: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    if names.len() > SHOWN {
        all.push("others");
    }
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

/// The condition of an error that cannot be sent to the client.
pub(crate) fn no_way_back(client: IpAddr) -> String {
    format!("the error does not reach {client}: this node has no route back to it")
}

/// The condition of a reply that does not take the way of the packet.
pub(crate) fn asymmetric_route(client: IpAddr, interface: &str, back: &[String]) -> String {
    format!(
        "the reply gets lost: it leaves to {client} through {}, and the packet came in through \
         {interface} (asymmetric routing)",
        some(back)
    )
}

/// The condition of a reply that has no route.
pub(crate) fn no_reply(client: IpAddr) -> String {
    format!("the reply gets lost: this node does not route it to {client}")
}

/// The condition if the kernel has no single route back to the source.
pub(crate) const UNKNOWN_INTERFACE: &str = "rp_filter, routes or filters of its input interface stop it \
    (this node has no single route back to its source, so that interface is not known: give --interface)";

/// The condition if pods are detected by their interfaces, and the packet's is not known.
pub(crate) fn interface_of_pods(pods: &str) -> String {
    format!("it comes in through {pods}, as packets of local pods do (if so, give --interface)")
}

/// The condition if rules ask for these input interfaces, and the packet's is not known.
pub(crate) fn interface_of_rules(names: &[String]) -> String {
    format!(
        "it comes in through {}, for which there are rules (if so, give --interface)",
        some(names)
    )
}

/// A rule or policy of another table refuses the packet.
pub(crate) fn refused_by_table(table: &str, hit: &str, outcome: Outcome) -> String {
    let verb = if outcome == Outcome::Rejected { "rejects" } else { "drops" };
    format!("table {table} {verb} it, {hit}")
}

/// A rule excludes the packet from connection tracking.
pub(crate) fn not_tracked(table: &str, hit: &str) -> String {
    format!(
        "table {table} excludes the packet from connection tracking, so no Service translates it, {hit}"
    )
}

/// The host does not route the packet.
pub(crate) fn not_routed(
    failure: &RouteFailure,
    to: IpAddr,
    input: RouteInput<'_>,
) -> (Code, String) {
    let interface = match input {
        RouteInput::Interface(name) => name,
        RouteInput::UnknownInterface => "any interface",
        RouteInput::Host => "lo",
    };
    match failure {
        RouteFailure::NoRoute(error) => {
            (Code::NoRoute, format!("this node has no route to {to} ({error})"))
        }
        RouteFailure::ReversePath => (
            Code::ReversePath,
            format!(
                "the reverse-path filter of {interface} drops it: replies to its source leave \
                 through another interface (rp_filter)"
            ),
        ),
        RouteFailure::Martian => (
            Code::Martian,
            format!(
                "the kernel does not accept its source or the destination {to} there (a martian \
                 address, or a blackhole route)"
            ),
        ),
        RouteFailure::ForwardingOff => (
            Code::ForwardingOff,
            format!("this node does not forward packets that come in through {interface}"),
        ),
        RouteFailure::Ipv6Disabled => {
            (Code::Ipv6Disabled, format!("IPv6 is off on {interface} (disable_ipv6)"))
        }
        RouteFailure::LinkLocalSource => {
            (Code::NoRoute, "packets from a link-local address are not forwarded (IPv6)".to_owned())
        }
    }
}

/// A bridge does not return the packet.
pub(crate) fn hairpin_off(bridge: &str, port: &str) -> String {
    format!(
        "hairpin mode is off on port {port} of bridge {bridge}: the packet would leave by the port \
         that it came in by"
    )
}

/// A bridge does not forward the packet between these ports.
pub(crate) fn ports_isolated(bridge: &str, from: &str, to: &str) -> String {
    let ports = if from == to { format!("port {from}") } else { format!("ports {from} and {to}") };
    format!("{ports} of bridge {bridge}: isolated, so the bridge does not forward between them")
}

/// A bridge may not return the packet.
pub(crate) fn hairpin_unknown(bridge: &str) -> String {
    format!(
        "bridge {bridge} drops it: hairpin mode is off on the port that it came in by, or ports are isolated"
    )
}

/// The probability of an end that is the only one.
pub fn certainty(has_conditions: bool) -> &'static str {
    if has_conditions { "expected" } else { "always" }
}

/// A packet without a port is not translated.
pub(crate) fn without_port(no_port: NoPort) -> (Code, &'static str) {
    match no_port {
        NoPort::Icmp => (
            Code::Icmp,
            "Services have rules for TCP, UDP and SCTP ports only: an ICMP packet is not translated, \
             so a Service cannot be pinged",
        ),
        NoPort::Absent => (
            Code::NoPort,
            "Services have rules for TCP, UDP and SCTP ports only: a packet to no port of a Service \
             is not translated",
        ),
    }
}

/// Packets of a port come in through its bridge or bond.
pub fn port_of(port: &str, master: &str) -> String {
    format!("{port} belongs to {master}: its packets come in through {master}")
}

/// Why a Service's name has no address of a family.
pub(crate) fn unresolved(state: ServiceState, family: IpFamily) -> (Code, String) {
    let family = family.api_name();
    match state {
        ServiceState::Unknown => (Code::UnknownService, "does not exist in the input".to_owned()),
        ServiceState::NoObjects => (
            Code::UnknownService,
            format!(
                "has no {family} cluster IP in the rules (with -f or --kubeconfig, explain shows why)"
            ),
        ),
        ServiceState::Unproxied(Unproxied::Headless) => (
            Code::Headless,
            "is headless (clusterIP: None): it has no cluster IP and no rules. DNS answers with the \
             addresses of its pods, and clients connect to them directly"
                .to_owned(),
        ),
        ServiceState::Unproxied(Unproxied::ExternalName) => (
            Code::ExternalName,
            "is of type ExternalName: it has no cluster IP and no rules. DNS answers with an alias \
             for spec.externalName, and clients connect to that host directly"
                .to_owned(),
        ),
        ServiceState::Unproxied(Unproxied::OtherProxy) => (
            Code::OtherProxy,
            "is left to another proxy (label service.kubernetes.io/service-proxy-name): there are \
             no rules for it here"
                .to_owned(),
        ),
        ServiceState::OtherFamily => (
            Code::OtherFamily,
            format!("has no {family} cluster IP, only one of the other IP family: a packet needs a source address of that family"),
        ),
        ServiceState::Unusable => (
            Code::UnusableService,
            "has no rules because it is invalid or too large: see the warnings about it".to_owned(),
        ),
    }
}

/// The statement of a remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Policy Cluster: endpoints of all nodes.
    PolicyCluster,
    /// Policy Local: endpoints of this node.
    PolicyLocal,
    /// Policy Local, but the sender is on this node: endpoints of all nodes.
    PolicyLocalFromNode,
    /// Session affinity has an endpoint for the client.
    AffinityHit,
    /// A hash of the client's address chooses.
    Maglev,
    /// A hash of the client's address and source port chooses.
    Maglev5Tuple,
    /// Endpoints take turns.
    RoundRobin,
    /// An endpoint is chosen at random.
    Random,
    /// The packet is masqueraded, for this reason.
    Masquerade(MasqueradeReason),
    /// A rule of another program masquerades it.
    MasqueradedByOthers,
    /// It is marked for masquerading, but no rule masquerades it.
    NotMasqueraded,
    /// The source address is preserved.
    SourceKept,
    /// No endpoint is usable.
    NoEndpoints,
    /// No endpoint is on this node, and the policy is Local.
    NoLocalEndpoints,
    /// The policy is Local, and no slice names the node of an endpoint.
    EndpointsWithoutNode,
    /// Endpoints of the Service have several addresses, of which the first is used.
    UnusedAddresses,
    /// The packet goes to an address of an endpoint that is not its first.
    UnusedAddress,
    /// The Service is not in the input, or no rule is for it.
    UnknownService,
    /// The Service has no cluster IP.
    Headless,
    /// The Service is an alias for a host name.
    ExternalName,
    /// Another proxy serves the Service.
    OtherProxy,
    /// The Service has no cluster IP of the packet's family.
    OtherFamily,
    /// The Service is invalid, or too large.
    UnusableService,
    /// The destination has no port.
    NoPort,
    /// The packet is ICMP, which Services do not translate.
    Icmp,
    /// Another table may change the end.
    OtherTable,
    /// A rule of another program that could not be evaluated may change the end.
    OtherRule,
    /// The packet is excluded from connection tracking.
    NotTracked,
    /// The host has no route to the destination.
    NoRoute,
    /// The reverse-path filter drops the packet.
    ReversePath,
    /// The kernel does not accept the source or destination on the interface.
    Martian,
    /// Packets from the interface are not forwarded.
    ForwardingOff,
    /// The input interface does not accept IPv6 packets.
    Ipv6Disabled,
    /// A bridge does not return a packet through the port that it came from.
    HairpinOff,
    /// The ports of a bridge are isolated from each other.
    PortsIsolated,
    /// Routes and settings of the host may change the end.
    HostNetwork,
    /// An XDP program may drop or change the packet.
    Xdp,
    /// A filter or program of traffic control may drop or change the packet.
    TcFilter,
    /// A queueing discipline that shapes traffic may drop the packet.
    Qdisc,
    /// The input or output interface has no carrier.
    NoCarrier,
    /// The input or output interface is down.
    InterfaceDown,
    /// The packet is put into another one, which is not followed.
    Tunnel,
    /// An interface belongs to a VRF or a switch, which is not followed.
    MasterDevice,
    /// The route has several next hops.
    Multipath,
    /// The next hop or the destination did not answer yet, or not lately.
    NoNeighbour,
    /// The reply leaves through another interface than the one that the packet came in through.
    AsymmetricRoute,
    /// IPVS may take over the packet.
    Ipvs,
    /// An eBPF program at sockets may change or refuse the packet.
    SocketPrograms,
    /// An IPsec policy may drop or encrypt the packet.
    Ipsec,
    /// The conntrack table is full, or nearly so.
    ConntrackFull,
    /// The kernel limits the rate of ICMP errors.
    IcmpRateLimit,
    /// The input interface is not known.
    UnknownInterface,
    /// The named input interface is a port of a bridge or bond, which packets come in through.
    PortOfMaster,
    /// Nothing is known about the host, which may change the end.
    UnknownHost,
    /// The Service has several ports, and none was named.
    SeveralPorts,
    /// The client is in none of the source ranges.
    SourceRange,
    /// The Service does not have the port at its cluster IP.
    NoSuchPort,
    /// No Service has the cluster IP.
    NoSuchClusterIp,
    /// Traffic from other hosts to loopback addresses is dropped.
    LoopbackGuard,
    /// The kernel drops translated packets from loopback addresses: route_localnet is off.
    RouteLocalnet,
    /// A rule or policy of another program refuses the packet.
    RefusedByOthers,
    /// The address is not this node's, or node ports are not open at it.
    NodePortElsewhere,
    /// The packet goes to an endpoint directly.
    DirectToEndpoint,
    /// No Service has the address.
    NoService,
    /// Rules are missing.
    MissingRules,
    /// Trace events were dropped, so that the end of the packet is unknown.
    EventsDropped,
    /// The trace has no event after a hook: another part of the kernel dropped the packet or took it
    /// over.
    NoFurtherEvent,
    /// Traffic of this node to the address goes to the load balancer.
    LeftToLoadBalancer,
}

impl Code {
    /// The code in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::PolicyCluster => "policy-cluster",
            Code::PolicyLocal => "policy-local",
            Code::PolicyLocalFromNode => "policy-local-from-node",
            Code::AffinityHit => "affinity-hit",
            Code::Maglev => "maglev",
            Code::Maglev5Tuple => "maglev-5tuple",
            Code::RoundRobin => "round-robin",
            Code::Random => "random",
            Code::Masquerade(reason) => reason.code(),
            Code::MasqueradedByOthers => "masqueraded-by-others",
            Code::NotMasqueraded => "not-masqueraded",
            Code::SourceKept => "source-kept",
            Code::NoEndpoints => "no-endpoints",
            Code::NoLocalEndpoints => "no-local-endpoints",
            Code::EndpointsWithoutNode => "endpoints-without-node",
            Code::UnusedAddresses => "unused-addresses",
            Code::UnusedAddress => "unused-address",
            Code::UnknownService => "unknown-service",
            Code::Headless => "headless",
            Code::ExternalName => "external-name",
            Code::OtherProxy => "other-proxy",
            Code::OtherFamily => "other-family",
            Code::UnusableService => "unusable-service",
            Code::NoPort => "no-port",
            Code::Icmp => "icmp",
            Code::OtherTable => "other-table",
            Code::OtherRule => "other-rule",
            Code::NotTracked => "not-tracked",
            Code::NoRoute => "no-route",
            Code::ReversePath => "reverse-path",
            Code::Martian => "martian",
            Code::ForwardingOff => "forwarding-off",
            Code::Ipv6Disabled => "ipv6-disabled",
            Code::HairpinOff => "hairpin-off",
            Code::PortsIsolated => "ports-isolated",
            Code::HostNetwork => "host-network",
            Code::Xdp => "xdp",
            Code::TcFilter => "tc-filter",
            Code::Qdisc => "qdisc",
            Code::NoCarrier => "no-carrier",
            Code::InterfaceDown => "interface-down",
            Code::Tunnel => "tunnel",
            Code::MasterDevice => "master-device",
            Code::Multipath => "multipath",
            Code::NoNeighbour => "no-neighbour",
            Code::AsymmetricRoute => "asymmetric-route",
            Code::Ipvs => "ipvs",
            Code::SocketPrograms => "socket-programs",
            Code::Ipsec => "ipsec",
            Code::ConntrackFull => "conntrack-full",
            Code::IcmpRateLimit => "icmp-rate-limit",
            Code::UnknownInterface => "unknown-interface",
            Code::PortOfMaster => "port-of-master",
            Code::UnknownHost => "unknown-host",
            Code::SeveralPorts => "several-ports",
            Code::SourceRange => "source-range",
            Code::NoSuchPort => "no-such-port",
            Code::NoSuchClusterIp => "no-such-cluster-ip",
            Code::LoopbackGuard => "loopback-guard",
            Code::RouteLocalnet => "route-localnet",
            Code::RefusedByOthers => "refused-by-others",
            Code::NodePortElsewhere => "node-port-elsewhere",
            Code::DirectToEndpoint => "direct-to-endpoint",
            Code::NoService => "no-service",
            Code::MissingRules => "missing-rules",
            Code::EventsDropped => "events-dropped",
            Code::NoFurtherEvent => "no-further-event",
            Code::LeftToLoadBalancer => "left-to-load-balancer",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
