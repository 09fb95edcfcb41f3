use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Protocol;

/// One port of one Service. It prints as `namespace/name:port`, or `namespace/name` if the port
/// has no name, as in kube-proxy's comments and hashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The namespace of the Service.
    pub namespace: Arc<str>,
    /// The name of the Service.
    pub service: Arc<str>,
    /// The name of the port, empty if it has none.
    pub port: Arc<str>,
    /// The protocol. Two ports of different protocols may have one name.
    pub protocol: Protocol,
}

impl ServicePortName {
    /// The service port at the start of the comment of a rule or element, such as `default/web:http
    /// cluster IP`. Comments do not contain the protocol. `None` for other comments.
    pub fn from_comment(comment: &str, protocol: Protocol) -> Option<Self> {
        let (namespace, service, port) = split(comment.split(' ').next()?)?;
        Some(Self::new(namespace, service, port.unwrap_or_default(), protocol))
    }

    /// The service port of a path of namespace, Service, protocol and port, as in the names of
    /// rulegen's objects and of kube-proxy's nftables chains. The port may be empty.
    pub fn from_path([namespace, service, protocol, port]: [&str; 4]) -> Option<Self> {
        let is_valid = is_name(namespace) && is_name(service) && (port.is_empty() || is_name(port));
        let protocol = Protocol::from_name(protocol).filter(|_| is_valid)?;
        Some(Self::new(namespace, service, port, protocol))
    }

    fn new(namespace: &str, service: &str, port: &str, protocol: Protocol) -> Self {
        let (namespace, service) = (namespace.into(), service.into());
        Self { namespace, service, port: port.into(), protocol }
    }
}

/// Namespace, name and port of `namespace/name[:port]`.
pub(crate) fn split(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (namespace, rest) = text.split_once('/')?;
    let (service, port) = match rest.split_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (rest, None),
    };
    let is_valid = is_name(namespace) && is_name(service) && port.is_none_or(is_name);
    is_valid.then_some((namespace, service, port))
}

/// The characters of object names in the Kubernetes API. Other characters in a comment might be
/// terminal control sequences.
fn is_name(text: &str) -> bool {
    let is_valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    !text.is_empty() && text.bytes().all(is_valid)
}

impl Display for ServicePortName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Serialized like its `Display` text, without the protocol.
impl Serialize for ServicePortName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_port_names_are_parsed_from_comments_of_both_backends() {
        for comment in ["default/web:http", "default/web:http cluster IP", "default/web:http -> x"]
        {
            let name = ServicePortName::from_comment(comment, Protocol::Udp);
            assert_eq!(name.map(|name| name.to_string()).as_deref(), Some("default/web:http"));
        }
        let unnamed = ServicePortName::from_comment("default/web", Protocol::Tcp);
        assert_eq!(unnamed, Some(ServicePortName::new("default", "web", "", Protocol::Tcp)));
    }

    #[test]
    fn service_port_names_are_not_parsed_from_other_comments() {
        for comment in
            ["", "kubernetes service portals", "a/", "/b", "a/b:", "a/b/c", "a/\u{1b}[1m"]
        {
            assert_eq!(ServicePortName::from_comment(comment, Protocol::Tcp), None, "{comment}");
        }
    }
}
