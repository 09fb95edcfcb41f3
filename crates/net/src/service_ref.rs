use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::service_port_name::split;
use crate::{Protocol, ServicePortName};

/// A Service, or one port of it, as people write it:
/// `NAMESPACE/NAME[:PORT][/PROTOCOL]`, with the name or the number of the port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
    /// The name or the number of the port; any port if absent.
    pub port: Option<String>,
    /// The protocol of the port; any if absent.
    pub protocol: Option<Protocol>,
}

/// The text does not have the form of a [`ServiceRef`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidServiceRef;

impl ServiceRef {
    /// The Service of a service port.
    pub fn of_service(name: &ServicePortName) -> Self {
        let (namespace, name) = (name.namespace.to_string(), name.service.to_string());
        Self { namespace, name, port: None, protocol: None }
    }

    /// The Service and port that the comment of a rule or element begins with:
    /// `default/web:http cluster IP`. Comments do not show the protocol.
    pub fn from_comment(comment: &str) -> Option<Self> {
        let (namespace, name, port) = split(comment.split(' ').next()?)?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Some(Self { namespace, name, port: port.map(str::to_owned), protocol: None })
    }

    /// True if a service port belongs to this Service, whichever port is requested.
    pub fn is_service_of(&self, of: &ServicePortName) -> bool {
        *of.namespace == *self.namespace && *of.service == *self.name
    }

    /// True if this refers to a service port, which also has these port numbers.
    pub fn means(&self, of: &ServicePortName, numbers: &[u16]) -> bool {
        let is_port = |port: &String| {
            *of.port == **port || numbers.iter().any(|number| number.to_string() == *port)
        };
        self.is_service_of(of)
            && self.port.as_ref().is_none_or(is_port)
            && self.protocol.is_none_or(|protocol| protocol == of.protocol)
    }
}

impl FromStr for ServiceRef {
    type Err = InvalidServiceRef;

    fn from_str(text: &str) -> Result<Self, InvalidServiceRef> {
        let (name, protocol) = match text.match_indices('/').nth(1) {
            Some((at, _)) => {
                let (name, protocol) = text.split_at(at);
                let protocol = protocol.get(1..).unwrap_or_default().to_ascii_lowercase();
                (name, Some(Protocol::from_name(&protocol).ok_or(InvalidServiceRef)?))
            }
            None => (text, None),
        };
        let (namespace, name, port) = split(name).ok_or(InvalidServiceRef)?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Self { namespace, name, port: port.map(str::to_owned), protocol })
    }
}

impl Display for ServiceRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.port.iter().try_for_each(|port| write!(f, ":{port}"))?;
        self.protocol.iter().try_for_each(|protocol| write!(f, "/{}", protocol.name()))
    }
}

impl Display for InvalidServiceRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("expected NAMESPACE/NAME[:PORT][/PROTOCOL]")
    }
}

impl std::error::Error for InvalidServiceRef {}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: Option<&str>, protocol: Option<Protocol>) -> ServiceRef {
        let (namespace, name) = ("default".to_owned(), "web.v2".to_owned());
        ServiceRef { namespace, name, port: port.map(str::to_owned), protocol }
    }

    #[test]
    fn service_refs_have_an_optional_port_and_protocol() {
        for (text, expected) in [
            ("default/web.v2", service(None, None)),
            ("default/web.v2:http", service(Some("http"), None)),
            ("default/web.v2:80/udp", service(Some("80"), Some(Protocol::Udp))),
            ("default/web.v2/sctp", service(None, Some(Protocol::Sctp))),
        ] {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        assert_eq!("default/web.v2:53/UDP".parse(), Ok(service(Some("53"), Some(Protocol::Udp))));
    }

    #[test]
    fn service_refs_that_are_invalid_are_rejected() {
        for text in [
            "",
            "web",
            "/web",
            "default/",
            "default/web:",
            "default/Web",
            "a/b/c",
            "a/b/icmp",
            "a/b/udp/tcp",
            "a/<b>",
            "10.0.0.1:80",
            "a/\u{1b}[1m",
        ] {
            assert_eq!(text.parse::<ServiceRef>(), Err(InvalidServiceRef), "{text}");
        }
    }

    #[test]
    fn service_refs_mean_ports_by_name_number_and_protocol() {
        let port = |protocol| ServicePortName {
            namespace: "default".into(),
            service: "dns".into(),
            port: "dns".into(),
            protocol,
        };
        let means = |text: &str, protocol| {
            text.parse::<ServiceRef>().is_ok_and(|of| of.means(&port(protocol), &[53]))
        };
        for text in ["default/dns", "default/dns:dns", "default/dns:53", "default/dns:53/udp"] {
            assert!(means(text, Protocol::Udp), "{text}");
        }
        assert!(!means("default/dns:53/udp", Protocol::Tcp));
        assert!(!means("default/dns:54", Protocol::Udp));
        assert!(!means("other/dns", Protocol::Udp));
    }
}
