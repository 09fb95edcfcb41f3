//! Finds the service port whose connections a counter counts.

use std::collections::HashMap;
use std::net::SocketAddr;

use rulegen_net::ServicePortName;
use rulegen_ruleset::nftables::{Comment, Key, Name, Value};

use super::service_path;

/// The number of connections per service port and endpoint, since their rules were written.
pub type ConnectionCounts = HashMap<(ServicePortName, SocketAddr), u64>;

/// The service port of a counting element: its comment has the name, its key the protocol.
pub fn counted_by_element(key: &Key, comment: &Comment) -> Option<ServicePortName> {
    let protocol = key.values().find_map(|value| match value {
        Value::Protocol(protocol) => Some(protocol),
        _ => None,
    })?;
    ServicePortName::from_comment(comment.as_str(), protocol)
}

/// The service port of a counting rule, by the name of its chain.
pub fn counted_by_rule(chain: &Name) -> Option<ServicePortName> {
    ServicePortName::from_path(service_path::counted(chain.as_str())?)
}

/// The endpoint of a counting rule.
pub fn counted_endpoint(chain: &Name) -> Option<SocketAddr> {
    let (path, port) = chain.as_str().strip_prefix("endpoint/")?.rsplit_once('/')?;
    let (_, ip) = path.rsplit_once('/')?;
    // Names cannot contain colons.
    let ip = ip.parse().or_else(|_| ip.replace('.', ":").parse()).ok()?;
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

/// The service port whose clients a set contains (session affinity).
pub fn affinity_service(set: &Name) -> Option<ServicePortName> {
    set.as_str().strip_prefix("affinity/")?;
    ServicePortName::from_path(service_path::owner_path(set.as_str())?)
}

#[cfg(test)]
mod tests {
    use rulegen_net::Protocol;

    use super::*;

    fn name(namespace: &str, service: &str, protocol: Protocol, port: &str) -> ServicePortName {
        ServicePortName {
            namespace: namespace.into(),
            service: service.into(),
            port: port.into(),
            protocol,
        }
    }

    #[test]
    fn counter_names_are_parsed_back_to_service_ports_and_endpoints() {
        let desired = name("default", "web", Protocol::Udp, "dns");
        let key = Key::from([
            Value::Address("10.96.0.10".parse().unwrap()),
            Value::Protocol(Protocol::Udp),
            Value::Port(53),
            Value::Number(0),
        ]);
        assert_eq!(counted_by_element(&key, &"default/web:dns".into()), Some(desired.clone()));
        let chain = Name::from("endpoint/default/web/udp/dns/10.244.1.5/53");
        assert_eq!(counted_by_rule(&chain), Some(desired.clone()));
        assert_eq!(affinity_service(&Name::from("affinity/default/web/udp/dns")), Some(desired));
        assert_eq!(affinity_service(&Name::from("cluster/default/web/udp/dns")), None);
        assert_eq!(counted_endpoint(&chain), "10.244.1.5:53".parse().ok());
        let chain6 = Name::from("endpoint/default/web/udp/dns/fd00..5/53");
        assert_eq!(counted_endpoint(&chain6), "[fd00::5]:53".parse().ok());
        let unnamed = name("default", "web", Protocol::Tcp, "");
        let chain = Name::from("endpoint/default/web/tcp//10.244.1.5/8080");
        assert_eq!(counted_by_rule(&chain), Some(unnamed));
        assert_eq!(counted_by_rule(&Name::from("nat-prerouting")), None);
        assert_eq!(counted_endpoint(&Name::from("nat-prerouting")), None);
    }
}
