//! IP addresses and networks in the form that kube-proxy accepts.

use std::net::IpAddr;

use ipnet::IpNet;

/// The kind of a special-use address in words, such as "a loopback address"; `None` for other
/// addresses. A special-use address can be neither an endpoint nor an address of a Service, because
/// packets to it stay on this host or link, or go to several hosts. The API server refuses these
/// too, except broadcast and multicast beyond the local link.
pub fn special_use(ip: IpAddr) -> Option<&'static str> {
    let (is_link_local, is_broadcast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    match () {
        () if ip.is_unspecified() => Some("the unspecified address"),
        () if ip.is_loopback() => Some("a loopback address"),
        () if is_link_local => Some("a link-local address"),
        () if ip.is_multicast() => Some("a multicast address"),
        () if is_broadcast => Some("the broadcast address"),
        () => None,
    }
}

/// Parses an address. Zero-padded numbers are decimal (`172.30.0.041` is 172.30.0.41), because
/// objects from before Kubernetes 1.22 may have them. An IPv4-mapped IPv6 address becomes IPv4.
/// `None` if it is not an address.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    parse_padded(text).map(|address| address.to_canonical())
}

fn parse_padded(text: &str) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) if text.len() <= 64 => without_padding(text).parse().ok(),
        Err(_) => None,
    }
}

/// Parses `address/length` and clears the host bits. Zero-padded numbers are decimal. `None` if it
/// is not a network.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || length.len() > 8 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let address = parse_padded(address)?;
    // Go, and so kube-proxy, reads IPv4-mapped networks as IPv6. The intent is ambiguous.
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return None;
    }
    let network = IpNet::new(address, length.parse().ok()?).ok()?;
    Some(network.trunc())
}

/// Removes the leading zeros of each group of digits.
fn without_padding(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for group in text.split_inclusive(['.', ':']) {
        let digits = group.trim_end_matches(['.', ':']);
        let stripped = digits.trim_start_matches('0');
        out.push_str(if stripped.is_empty() && !digits.is_empty() { "0" } else { stripped });
        out.push_str(group.get(digits.len()..).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_padded_addresses_are_parsed_as_decimal() {
        for (text, want) in [
            ("172.30.0.041", "172.30.0.41"),
            ("010.000.000.001", "10.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("fd00:0096::0001", "fd00:96::1"),
            ("::", "::"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(parse_address(text).map(|a| a.to_string()).as_deref(), Some(want), "{text}");
        }
        assert_eq!(
            parse_network("203.0.113.000/025").map(|n| n.to_string()).as_deref(),
            Some("203.0.113.0/25")
        );
    }

    #[test]
    fn invalid_addresses_and_networks_are_not_parsed() {
        for text in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "a.b.c.d", "fe80::1%eth0", "1.2.3.4 "] {
            assert_eq!(parse_address(text), None, "{text}");
        }
        for text in [
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert_eq!(parse_network(text), None, "{text}");
        }
    }
}
