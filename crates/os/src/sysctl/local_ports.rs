//! Ports that the kernel assigns to sockets.

use std::ops::RangeInclusive;
use std::{fs, io};

/// The ephemeral ports: those that the kernel assigns to sockets of outgoing connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPorts {
    /// net.ipv4.ip_local_port_range, which IPv6 uses too.
    pub range: RangeInclusive<u16>,
    /// net.ipv4.ip_local_reserved_ports: ports of the range that are not assigned.
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl LocalPorts {
    /// Reads both settings.
    ///
    /// # Errors
    /// /proc cannot be read, or has another format.
    pub fn read() -> io::Result<Self> {
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let range = read("ip_local_port_range")?;
        let reserved = read("ip_local_reserved_ports")?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "unknown format");
        Self::parse(&range, &reserved).ok_or_else(unknown)
    }

    /// Whether the kernel may assign this port.
    pub fn assigns(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|range| range.contains(&port))
    }

    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace();
        let range = ends.next()?.parse().ok()?..=ends.next()?.parse().ok()?;
        let reserved = reserved.trim().split(',').filter(|part| !part.is_empty());
        let reserved = reserved.map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Self { range, reserved: reserved.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ports_are_those_of_the_range_that_are_not_reserved() {
        let ports = LocalPorts::parse("32768\t60999\n", "32770,40000-40010\n").unwrap();
        let assigned = |port| ports.assigns(port);
        assert!([32_768, 60_999, 39_999, 40_011].into_iter().all(assigned));
        assert!(![32_767, 61_000, 32_770, 40_000, 40_010].into_iter().any(assigned));
        assert_eq!(LocalPorts::parse("1 2", "").unwrap().reserved, []);
        assert_eq!(LocalPorts::parse("1", ""), None);
        assert_eq!(LocalPorts::parse("1 2", "x"), None);
        LocalPorts::read().unwrap();
    }
}
