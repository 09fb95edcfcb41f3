//! Names of service ports in comments.

use rulegen_net::{Protocol, ServicePortName};

/// The service port that a comment names, which begins with it: `namespace/name:port` and what
/// the rule is for.
pub(super) fn named(comment: &str, protocol: Protocol) -> Option<ServicePortName> {
    let [namespace, service, port] = parts(comment)?;
    Some(ServicePortName {
        namespace: namespace.into(),
        service: service.into(),
        port: port.into(),
        protocol,
    })
}

/// Namespace, name and port of the name that a comment begins with.
pub(super) fn parts(comment: &str) -> Option<[&str; 3]> {
    let name = comment.split(' ').next()?;
    let (namespace, rest) = name.split_once('/')?;
    let (service, port) = match rest.split_once(':') {
        Some((service, port)) if is_name(port) => (service, port),
        Some(_) => return None,
        None => (rest, ""),
    };
    (is_name(namespace) && is_name(service)).then_some([namespace, service, port])
}

/// What is no name of Kubernetes' is none of a Service, and might hold anything.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_comments_of_either_backend() {
        for comment in ["default/web:http", "default/web:http cluster IP", "default/web:http -> x"]
        {
            let name = named(comment, Protocol::Udp).map(|name| name.to_string());
            assert_eq!(name.as_deref(), Some("default/web:http"), "{comment}");
        }
        assert_eq!(named("default/web", Protocol::Tcp).unwrap().port.len(), 0);
    }

    #[test]
    fn what_is_no_name_names_nobody() {
        for comment in
            ["", "kubernetes service portals", "a/", "/b", "a/b:", "a/b/c", "a/\u{1b}[1m"]
        {
            assert_eq!(named(comment, Protocol::Tcp), None, "{comment}");
        }
    }
}
