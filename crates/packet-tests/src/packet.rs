//! The packets of a case: names become addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_inspect::explain::{Destination, NoPort, resolve, resolve_ip, service_state};
use rulegen_model::{NodeObject, Objects, PodDetails, nearest};
use rulegen_net::{IpFamily, Protocol, ServicePortName, ServiceRef};

use crate::file::{Case, FamilyName, ReceiverFields, SenderFields, Transport};
use crate::flexible::TextOr;
use crate::no_node::no_node;
use crate::node_rules::{NodeRules, TestPacket};
use crate::problem::FileProblem;

/// The short form of a client outside the cluster.
pub(crate) const OUTSIDE: &str = "outside";

/// The packets of a case, at least one. They differ only in their senders.
pub(crate) fn packets(
    case: &Case,
    objects: &Objects,
    node_rules: &NodeRules,
) -> Result<Vec<TestPacket>, FileProblem> {
    let packets = Packets { case, objects, node_rules };
    match case.ip_family {
        Some(family) => packets.of(ip_family(family)),
        None => packets
            .of(IpFamily::Ipv4)
            .or_else(|error| packets.of(IpFamily::Ipv6).map_err(|_| error)),
    }
}

fn ip_family(family: FamilyName) -> IpFamily {
    match family {
        FamilyName::Ipv4 => IpFamily::Ipv4,
        FamilyName::Ipv6 => IpFamily::Ipv6,
    }
}

struct Packets<'a> {
    case: &'a Case,
    objects: &'a Objects,
    node_rules: &'a NodeRules,
}

/// An address, and the node that it is on, if that is known.
type SenderOnNode = (IpAddr, Option<String>);

/// A destination without its sender.
struct To {
    address: SocketAddr,
    protocol: Protocol,
    no_port: Option<NoPort>,
}

impl Packets<'_> {
    fn of(&self, family: IpFamily) -> Result<Vec<TestPacket>, FileProblem> {
        let To { address, protocol, no_port } =
            self.to(family).map_err(|message| FileProblem::of("to", message))?;
        if IpFamily::of(address.ip()) != family {
            return Err(FileProblem::of("to", format!("not an {} address", family.api_name())));
        }
        let senders = self.from(family, address.ip());
        let senders = senders.map_err(|message| FileProblem::of("from", message))?;
        let interface = match &self.case.from {
            TextOr::Fields(fields) => fields.interface.clone(),
            TextOr::Text(_) => None,
        };
        let sent = |(from, sender_node)| TestPacket {
            from,
            interface: interface.clone(),
            to: address,
            protocol,
            no_port,
            sender_node,
        };
        Ok(senders.into_iter().map(sent).collect())
    }

    fn to(&self, family: IpFamily) -> Result<To, String> {
        let text = match &self.case.to {
            TextOr::Text(text) => text,
            TextOr::Fields(ReceiverFields { node_port, protocol }) => {
                let ip = self.node_ip(family)?;
                let protocol = protocol.map_or(Protocol::Tcp, transport);
                return Ok(To {
                    address: SocketAddr::new(ip, *node_port),
                    protocol,
                    no_port: None,
                });
            }
        };
        let destination = Destination::parse(text).map_err(|error| error.to_string())?;
        let no_port = destination.no_port();
        let (address, protocol) = match &destination {
            Destination::Address(address, protocol) => (*address, *protocol),
            Destination::WithoutPort(ip, _) => Destination::stand_in(*ip),
            Destination::Ping(service) => {
                let state = || service_state(service, self.objects, &self.node_rules.snapshot);
                match resolve_ip(service, family, self.cluster_ips(service, family), state) {
                    Ok(ip) => Destination::stand_in(ip),
                    Err(error) if error.is_unknown() => Destination::stand_in(
                        self.pod_ip(service, family).ok_or(error.to_string())?,
                    ),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Destination::Pod(pod) => self.pod_port(pod, family)?.ok_or_else(|| {
                format!("the input has no {} address of pod {pod}", family.api_name())
            })?,
            Destination::Service(service) => {
                let state = || service_state(service, self.objects, &self.node_rules.snapshot);
                match resolve(service, family, self.cluster_ips(service, family), state) {
                    Ok(to) => to,
                    Err(error) if error.is_unknown() => self
                        .pod_port(service, family)?
                        .ok_or_else(|| format!("{error}{}", self.similar(service)))?,
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        Ok(To { address, protocol, no_port })
    }

    fn cluster_ips(
        &self,
        of: &ServiceRef,
        family: IpFamily,
    ) -> impl Iterator<Item = (&ServicePortName, SocketAddr)> {
        let snapshot = &self.node_rules.snapshot;
        let ports = snapshot.ports_of_service(&of.namespace, &of.name, family);
        ports.map(|port| (&port.name, SocketAddr::new(port.cluster_ip, port.port)))
    }

    /// A suggestion for the name of a Service.
    fn similar(&self, of: &ServiceRef) -> String {
        let services = self.objects.services.iter().map(|service| &service.object.metadata);
        let names: Vec<String> =
            services.map(|of| format!("{}/{}", of.namespace(), of.name)).collect();
        let name = format!("{}/{}", of.namespace, of.name);
        let similar = nearest(&name, names.iter().map(String::as_str));
        similar.map(|of| format!(", did you mean {of:?}?")).unwrap_or_default()
    }

    fn pod_ip(&self, of: &ServiceRef, family: IpFamily) -> Option<IpAddr> {
        let addresses = self.objects.pod_addresses(&of.namespace, &of.name);
        addresses.into_iter().find(|ip| IpFamily::of(*ip) == family)
    }

    fn pod_port(
        &self,
        of: &ServiceRef,
        family: IpFamily,
    ) -> Result<Option<(SocketAddr, Protocol)>, String> {
        let Some(ip) = self.pod_ip(of, family) else { return Ok(None) };
        let port = of.port.as_ref().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| {
            format!("{of} is a pod: give the number of its port, as in {of}:8080")
        })?;
        Ok(Some((SocketAddr::new(ip, port), of.protocol.unwrap_or(Protocol::Tcp))))
    }

    /// The primary address of the node under test.
    fn node_ip(&self, family: IpFamily) -> Result<IpAddr, String> {
        let node = &self.node_rules.snapshot.node;
        let ip = node.addresses(family).primary;
        match ip.is_loopback() {
            true => Err(format!(
                "the input has no {} address of node {:?}: add its Node object to the manifests",
                family.api_name(),
                node.name
            )),
            false => Ok(ip),
        }
    }

    /// The senders with their nodes, as far as these are known.
    fn from(&self, family: IpFamily, to: IpAddr) -> Result<Vec<SenderOnNode>, String> {
        let fields = match &self.case.from {
            TextOr::Text(text) if text == OUTSIDE => return Ok(vec![(outside(family, to), None)]),
            TextOr::Text(text) if text.parse::<IpAddr>().is_ok() => {
                SenderFields { address: Some(text.clone()), ..SenderFields::default() }
            }
            TextOr::Text(text) => {
                SenderFields { pod: Some(text.clone()), ..SenderFields::default() }
            }
            TextOr::Fields(fields) => fields.clone(),
        };
        let addresses = match fields {
            SenderFields { address: Some(text), pod: None, pods: None, node: None, .. } => {
                vec![(text.parse().map_err(|_| format!("{text:?} is not an IP address"))?, None)]
            }
            SenderFields { address: None, pod: Some(text), pods: None, node: None, .. } => {
                self.pod(&text)?
            }
            SenderFields {
                address: None,
                pod: None,
                pods: Some(labels),
                node: None,
                namespace,
                ..
            } => {
                let details = self.objects.details.iter();
                let pods = details.flat_map(|details| &details.pods).filter(|(key, pod)| {
                    namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
                        && labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
                });
                let with_node = |ip: &IpAddr, pod: &PodDetails| (*ip, pod.node.clone());
                let found =
                    pods.flat_map(|(_, pod)| pod.addresses.iter().map(|ip| with_node(ip, pod)));
                let found: Vec<SenderOnNode> = found.collect();
                if found.is_empty() {
                    return Err("no running Pod in the input has these labels".to_owned());
                }
                found
            }
            SenderFields { address: None, pod: None, pods: None, node: Some(name), .. } => {
                let addresses = self.node(&name, family)?.into_iter();
                addresses.map(|ip| (ip, Some(name.clone()))).collect()
            }
            _ => return Err("give exactly one of address, pod, pods and node".to_owned()),
        };
        let of_family: Vec<SenderOnNode> =
            addresses.into_iter().filter(|(ip, _)| IpFamily::of(*ip) == family).collect();
        match of_family.is_empty() {
            true => Err(format!("has no {} address, as the destination has", family.api_name())),
            false => Ok(of_family),
        }
    }

    fn pod(&self, text: &str) -> Result<Vec<SenderOnNode>, String> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| {
            let hint = nearest(text, [OUTSIDE].into_iter());
            let hint = hint.map(|of| format!(", did you mean {of:?}?")).unwrap_or_default();
            format!("{text:?} is not \"outside\", an IP address or NAMESPACE/NAME of a pod{hint}")
        })?;
        let addresses = self.objects.pod_addresses(namespace, name);
        match addresses.is_empty() {
            true => Err(format!(
                "no Pod or EndpointSlice (targetRef) in the input has an address of pod {text:?}"
            )),
            false => {
                let node = self.objects.pod_node(namespace, name);
                Ok(addresses.into_iter().map(|ip| (ip, node.map(str::to_owned))).collect())
            }
        }
    }

    fn node(&self, name: &str, family: IpFamily) -> Result<Vec<IpAddr>, String> {
        if *name == self.node_rules.snapshot.node.name {
            return self.node_ip(family).map(|ip| vec![ip]);
        }
        let mut nodes = self.objects.nodes.iter().map(|node| &node.object);
        match nodes.find(|node| node.metadata.name == name) {
            Some(node) => Ok(internal_ips(node)),
            None => Err(no_node(name, self.objects)),
        }
    }
}

fn internal_ips(node: &NodeObject) -> Vec<IpAddr> {
    let addresses = node.status.addresses.iter().filter(|of| of.kind == "InternalIP");
    addresses.filter_map(|of| of.address.parse().ok()).collect()
}

/// Addresses that are reserved for documentation (RFC 5737 and RFC 3849), so that no cluster has
/// them. The second is used if a test sends to the first.
fn outside(family: IpFamily, to: IpAddr) -> IpAddr {
    let [first, second]: [IpAddr; 2] = match family {
        IpFamily::Ipv4 => {
            [Ipv4Addr::new(203, 0, 113, 254).into(), Ipv4Addr::new(203, 0, 113, 253).into()]
        }
        IpFamily::Ipv6 => [
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xffff, 0xfffe).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xffff, 0xfffd).into(),
        ],
    };
    if first == to { second } else { first }
}

fn transport(of: Transport) -> Protocol {
    match of {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Sctp => Protocol::Sctp,
    }
}
