//! Checks the Host header, so that names, addresses and settings are not exposed by DNS rebinding.
//!
//! A web site can make its own name resolve to any address, including 127.0.0.1. To a browser the
//! agent's pages then belong to that site, and its scripts can read them. But the browser sends
//! that name in the Host header.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::StatusCode;

use super::{Request, Response};

/// The error response for a request with a foreign Host header; `None` if the header is acceptable.
/// `node` is the node's name.
pub(super) fn misdirected(request: &Request<'_>, node: &str) -> Option<Response> {
    let is_meant = request.host.is_none_or(|host| is_address(host) || is_name(host, node));
    (!is_meant).then(|| Response::text(StatusCode::MISDIRECTED_REQUEST, WHY))
}

const WHY: &str = "421 misdirected request: unrecognised Host header; use an IP address, \
                   localhost or the node name (DNS-rebinding protection)\n";

fn is_address(host: &str) -> bool {
    let bracketed = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    host.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok() || bracketed().is_some()
}

fn is_name(host: &str, node: &str) -> bool {
    let name = match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_answered(host: Option<&str>) -> bool {
        let request = Request { path: "/", query: "", wants_json: false, host };
        misdirected(&request, "node-1.example").is_none()
    }

    #[test]
    fn host_header_allows_ip_localhost_and_node_name_only() {
        assert!(is_answered(None), "HTTP/1.0, which browsers do not use");
        for host in [
            "127.0.0.1",
            "127.0.0.1:10249",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:10249",
            "localhost",
            "LocalHost:8001",
            "node-1.example",
            "Node-1.example:10249",
        ] {
            assert!(is_answered(Some(host)), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:10249",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "node-1.example.evil.example:10249",
            "node-1",
            "[evil.example]",
            "[::1].evil.example",
            "localhost:port",
            "::1 evil.example",
        ] {
            assert!(!is_answered(Some(host)), "{host}");
        }
    }
}
