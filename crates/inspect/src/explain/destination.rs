//! The destination of a packet, as written by the user.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use rulegen_net::{IpFamily, Protocol, ServicePortName, ServiceRef};

use super::no_address::{NamedPort, NoPort, ServiceState, UnresolvedReason, UnresolvedService};

/// The destination of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An address and port.
    Address(SocketAddr, Protocol),
    /// The cluster IP of a Service, at one of its ports. If there is no such Service, a pod.
    Service(ServiceRef),
    /// An address without a port, which no Service can translate.
    WithoutPort(IpAddr, NoPort),
    /// ICMP to the cluster IP of a Service. If there is no such Service, to a pod.
    Ping(ServiceRef),
    /// A pod by its name behind a headless Service.
    Pod(ServiceRef),
}

/// A text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidDestination {
    /// The protocol behind an address and port is unknown.
    UnknownProtocol(String),
    /// ICMP to a port. Holds the destination without it.
    IcmpWithPort(String),
    /// Anything else. Holds the text.
    Malformed(String),
}

impl Display for InvalidDestination {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProtocol(protocol) => {
                write!(f, "unknown protocol {protocol:?} (use tcp, udp or sctp)")
            }
            Self::IcmpWithPort(to) => write!(f, "ICMP has no ports: use {to}"),
            Self::Malformed(text) => write!(
                f,
                "invalid IP:PORT[/PROTO] (IPv6: [IP]:PORT) or NAMESPACE/NAME[:PORT][/PROTO] {text:?}"
            ),
        }
    }
}

impl std::error::Error for InvalidDestination {}

impl Destination {
    /// The protocol and port with which rules are followed for a packet without a port. Services
    /// have no port 0, and rules of other programs seldom name SCTP.
    pub const STAND_IN: (u16, Protocol) = (0, Protocol::Sctp);

    /// The address and protocol with which rules are followed for a packet without a port.
    pub fn stand_in(ip: IpAddr) -> (SocketAddr, Protocol) {
        let (port, protocol) = Self::STAND_IN;
        (SocketAddr::new(ip, port), protocol)
    }

    /// Why the packet has no port, if so.
    pub fn no_port(&self) -> Option<NoPort> {
        match self {
            Self::Address(..) | Self::Service(_) | Self::Pod(_) => None,
            Self::WithoutPort(_, no_port) => Some(*no_port),
            Self::Ping(_) => Some(NoPort::Icmp),
        }
    }
}

impl Destination {
    /// Reads `IP:PORT[/PROTOCOL]`, TCP by default, `NAMESPACE/NAME[:PORT][/PROTOCOL]`, the DNS name
    /// of a Service or of a pod in place of `NAMESPACE/NAME`, `IP` or `IP/icmp`, or
    /// `NAMESPACE/NAME/icmp`. Names are read without regard to case, as DNS does.
    ///
    /// # Errors
    /// See [`InvalidDestination`].
    pub fn parse(text: &str) -> Result<Self, InvalidDestination> {
        let (first, second) = text.split_once('/').unwrap_or((text, "tcp"));
        if let Ok(address) = first.parse::<SocketAddr>() {
            return match Protocol::from_name(&second.to_lowercase()) {
                Some(protocol) => Ok(Self::Address(address, protocol)),
                None if is_icmp(second) => Err(icmp_with_port(&address.ip().to_string(), second)),
                None => Err(InvalidDestination::UnknownProtocol(second.to_owned())),
            };
        }
        if let Some(destination) = without_port(text) {
            return Ok(destination);
        }
        // A wrong address is no namespace.
        let is_namespace = !first.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let text = &*text.to_ascii_lowercase();
        if let Some(pod) = of_pod_name(text) {
            return Ok(Self::Pod(pod));
        }
        let named = |text: &str| of_dns_name(text).or_else(|| text.parse().ok());
        let pinged = text.rsplit_once('/').filter(|(_, protocol)| is_icmp(protocol));
        let pinged = pinged.and_then(|(name, _)| named(name));
        let is_bare = |service: &ServiceRef| service.port.is_none() && service.protocol.is_none();
        match pinged.filter(|_| is_namespace) {
            Some(service) if is_bare(&service) => return Ok(Self::Ping(service)),
            Some(ServiceRef { namespace, name, port: Some(_), .. }) => {
                return Err(icmp_with_port(&format!("{namespace}/{name}"), "icmp"));
            }
            _ => {}
        }
        let service = named(text).filter(|_| is_namespace).map(Self::Service);
        service.ok_or_else(|| InvalidDestination::Malformed(text.to_owned()))
    }
}

fn icmp_with_port(to: &str, protocol: &str) -> InvalidDestination {
    InvalidDestination::IcmpWithPort(format!("{to}/{protocol}"))
}

fn without_port(text: &str) -> Option<Destination> {
    let (address, protocol) = text.split_once('/').unwrap_or((text, ""));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = bare.unwrap_or(address).parse().ok()?;
    match protocol.to_ascii_lowercase().as_str() {
        icmp if is_icmp(icmp) => Some(Destination::WithoutPort(ip, NoPort::Icmp)),
        "" => Some(Destination::WithoutPort(ip, NoPort::Absent)),
        other => Protocol::from_name(other).map(|_| Destination::WithoutPort(ip, NoPort::Absent)),
    }
}

fn is_icmp(protocol: &str) -> bool {
    let names = ["icmp", "icmpv6", "ipv6-icmp"];
    names.iter().any(|name| name.eq_ignore_ascii_case(protocol))
}

/// Reads `NAME.NAMESPACE.svc`, with or without the cluster's domain (`cluster.local`), then as the
/// other form.
fn of_dns_name(text: &str) -> Option<ServiceRef> {
    let (labels, rest) = labels(text);
    let [name, namespace, "svc", ..] = *labels else { return None };
    format!("{namespace}/{name}{rest}").parse().ok()
}

/// Reads `HOSTNAME.NAME.NAMESPACE.svc`, the name of a pod of a headless Service. The host name of a
/// StatefulSet's pod is its name.
fn of_pod_name(text: &str) -> Option<ServiceRef> {
    let (labels, rest) = labels(text);
    let [pod, _, namespace, "svc", ..] = *labels else { return None };
    format!("{namespace}/{pod}{rest}").parse().ok()
}

/// The labels of a DNS name, and the port and protocol behind it.
fn labels(text: &str) -> (Vec<&str>, &str) {
    let (host, rest) = text.split_at(text.find([':', '/']).unwrap_or(text.len()));
    (host.trim_end_matches('.').split('.').collect(), rest)
}

/// The cluster IP, port and protocol of a Service's name. `cluster_ips` are those of all Services
/// of the family, or at least of this one. `state` is asked only if there is none.
///
/// # Errors
/// If no port of the Service matches, or several do.
pub fn resolve<'a>(
    service: &ServiceRef,
    family: IpFamily,
    cluster_ips: impl IntoIterator<Item = (&'a ServicePortName, SocketAddr)>,
    state: impl FnOnce() -> ServiceState,
) -> Result<(SocketAddr, Protocol), UnresolvedService> {
    let of_service = cluster_ips
        .into_iter()
        .filter(|(name, at)| service.is_service_of(name) && IpFamily::of(at.ip()) == family);
    let all: BTreeMap<&ServicePortName, SocketAddr> = of_service.collect();
    let meant: Vec<(&&ServicePortName, &SocketAddr)> =
        all.iter().filter(|(name, at)| service.means(name, &[at.port()])).collect();
    let ports = || all.iter().map(|(name, at)| named_port(name, *at)).collect();
    let reason = match meant.as_slice() {
        [(name, at)] => return Ok((**at, name.protocol)),
        _ if all.is_empty() => UnresolvedReason::NoClusterIp(state()),
        [] => UnresolvedReason::NoSuchPort(ports()),
        _ => UnresolvedReason::SeveralPorts(ports()),
    };
    Err(UnresolvedService { service: service.clone(), family, reason })
}

/// The cluster IP of a Service's name, as [`resolve`] without a port.
///
/// # Errors
/// If the Service has no cluster IP of the family.
pub fn resolve_ip<'a>(
    service: &ServiceRef,
    family: IpFamily,
    cluster_ips: impl IntoIterator<Item = (&'a ServicePortName, SocketAddr)>,
    state: impl FnOnce() -> ServiceState,
) -> Result<IpAddr, UnresolvedService> {
    let is_meant = |(name, at): &(&ServicePortName, SocketAddr)| {
        service.is_service_of(name) && IpFamily::of(at.ip()) == family
    };
    let found = cluster_ips.into_iter().find(is_meant);
    found.map(|(_, at)| at.ip()).ok_or_else(|| UnresolvedService {
        service: service.clone(),
        family,
        reason: UnresolvedReason::NoClusterIp(state()),
    })
}

fn named_port(name: &ServicePortName, at: SocketAddr) -> NamedPort {
    NamedPort { name: name.port.clone(), port: at.port(), protocol: name.protocol }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_destination_is_address_or_service() {
        let address = |text: &str, over| Ok(Destination::Address(text.parse().unwrap(), over));
        assert_eq!(Destination::parse("10.96.0.1:80"), address("10.96.0.1:80", Protocol::Tcp));
        assert_eq!(Destination::parse("[fd00::1]:53/UDP"), address("[fd00::1]:53", Protocol::Udp));
        for text in ["default/web.v2", "default/web.v2:http", "default/web.v2:http/udp"] {
            let service = text.parse().map(Destination::Service).unwrap();
            assert_eq!(Destination::parse(text), Ok(service));
        }
        for text in ["web.default.svc", "web.default.svc.cluster.local", "web.default.svc.a.b."] {
            for rest in ["", ":http", ":53/udp", "/udp"] {
                let service = format!("default/web{rest}").parse().map(Destination::Service);
                assert_eq!(Destination::parse(&format!("{text}{rest}")), Ok(service.unwrap()));
            }
        }
        for (text, ip, no_port) in [
            ("10.96.0.1", "10.96.0.1", NoPort::Absent),
            ("10.96.0.1/tcp", "10.96.0.1", NoPort::Absent),
            ("10.96.0.1/ICMP", "10.96.0.1", NoPort::Icmp),
            ("fd00::1", "fd00::1", NoPort::Absent),
            ("[fd00::1]/icmpv6", "fd00::1", NoPort::Icmp),
        ] {
            let wanted = Destination::WithoutPort(ip.parse().unwrap(), no_port);
            assert_eq!(Destination::parse(text), Ok(wanted), "{text}");
        }
        for text in ["default/web", "web.default.svc", "web.default.svc.cluster.local"] {
            for protocol in ["icmp", "ICMP", "icmpv6"] {
                let service = "default/web".parse().map(Destination::Ping).unwrap();
                assert_eq!(Destination::parse(&format!("{text}/{protocol}")), Ok(service));
            }
        }
        let service = "default/icmp".parse().map(Destination::Service).unwrap();
        assert_eq!(Destination::parse("default/icmp"), Ok(service), "a Service of this name");
        for wrong in [
            "default/web:80/icmp",
            "default/web/udp/icmp",
            "web.default.svc:80/icmp",
            "",
            "web",
            "/web",
            "default/",
            "10.96.0.1/gre",
            "a/b:",
            "a/<b>",
            "web.default.pod:80",
        ] {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
        let unknown = Err(InvalidDestination::UnknownProtocol("gre".to_owned()));
        assert_eq!(Destination::parse("10.96.0.1:80/gre"), unknown);
        for (text, instead) in [
            ("10.96.0.1:80/icmp", "10.96.0.1/icmp"),
            ("default/web:80/icmp", "default/web/icmp"),
            ("web.default.svc:80/icmp", "default/web/icmp"),
        ] {
            let error = Destination::parse(text).unwrap_err();
            assert_eq!(error, InvalidDestination::IcmpWithPort(instead.to_owned()));
        }
        for text in ["WEB.Default.svc:HTTP", "Default/Web:http"] {
            let service = "default/web:http".parse().map(Destination::Service).unwrap();
            assert_eq!(Destination::parse(text), Ok(service), "{text}");
        }
        for text in ["echo-0.db.shop.svc:80", "Echo-0.db.shop.SVC.cluster.local:80"] {
            let pod = "shop/echo-0:80".parse().map(Destination::Pod).unwrap();
            assert_eq!(Destination::parse(text), Ok(pod), "{text}");
        }
    }

    #[test]
    fn explain_destination_port_name_with_two_protocols_needs_protocol() {
        let at = SocketAddr::from(([10, 96, 0, 10], 53));
        let port = |protocol| ServicePortName {
            namespace: "kube-system".into(),
            service: "dns".into(),
            port: "dns".into(),
            protocol,
        };
        let ports = [Protocol::Tcp, Protocol::Udp].map(port);
        let resolved = |text: &str| {
            let ports = ports.iter().map(|name| (name, at));
            let unknown = || ServiceState::Unknown;
            resolve(&text.parse().unwrap(), IpFamily::Ipv4, ports, unknown)
                .map_err(|e| e.to_string())
        };
        assert_eq!(resolved("kube-system/dns:dns/udp"), Ok((at, Protocol::Udp)));
        assert_eq!(resolved("kube-system/dns/tcp"), Ok((at, Protocol::Tcp)));
        let error = resolved("kube-system/dns:53").unwrap_err();
        let all = "several ports at its IPv4 cluster IP; it has dns 53/tcp, dns 53/udp";
        let hint = "name one, as in kube-system/dns:53/tcp";
        assert!(error.ends_with(&format!("{all}: {hint}")), "{error}");
        assert!(resolved("kube-system/dns:54").unwrap_err().contains("has no such port"));
        assert!(resolved("default/dns").unwrap_err().contains("does not exist"));
    }
}
