//! Where a packet shall go, as people write it.

use std::net::SocketAddr;

use rulegen_net::Protocol;

use crate::packet_trace::ServiceTarget;

/// Where a packet shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To an address.
    Address(SocketAddr, Protocol),
    /// To a Service's cluster IP, by the name or number of its port.
    Service(ServiceTarget),
}

impl Destination {
    /// Reads `IP:PORT[/PROTOCOL]`, over TCP unless it says another, or `NAMESPACE/NAME[:PORT]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, second) = text.split_once('/').unwrap_or((text, "tcp"));
        if let Ok(address) = first.parse() {
            return match Protocol::from_name(&second.to_lowercase()) {
                Some(protocol) => Ok(Self::Address(address, protocol)),
                None => Err(format!("{second:?} is none of tcp, udp, sctp")),
            };
        }
        // An address without a port is no namespace.
        let is_namespace = !first.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        ServiceTarget::parse(text).filter(|_| is_namespace).map(Self::Service).ok_or_else(|| {
            format!("{text:?} is no IP:PORT (IPv6: [IP]:PORT) and no NAMESPACE/NAME[:PORT]")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_services_are_told_apart() {
        let address = |text: &str, over| Ok(Destination::Address(text.parse().unwrap(), over));
        assert_eq!(Destination::parse("10.96.0.1:80"), address("10.96.0.1:80", Protocol::Tcp));
        assert_eq!(Destination::parse("[fd00::1]:53/UDP"), address("[fd00::1]:53", Protocol::Udp));
        let service = |port: Option<&str>| {
            let (namespace, name) = ("default".to_owned(), "web.v2".to_owned());
            Ok(Destination::Service(ServiceTarget {
                namespace,
                name,
                port: port.map(str::to_owned),
            }))
        };
        assert_eq!(Destination::parse("default/web.v2"), service(None));
        assert_eq!(Destination::parse("default/web.v2:http"), service(Some("http")));
        for wrong in ["", "web", "/web", "default/", "10.96.0.1", "10.96.0.1/tcp", "a/b:", "a/<b>"]
        {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Destination::parse("10.96.0.1:80/icmp").unwrap_err().contains("tcp, udp, sctp"));
    }
}
