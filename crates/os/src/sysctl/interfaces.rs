//! Per-interface settings.

use std::{fs, io};

/// A per-interface setting (Documentation/networking/ip-sysctl.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceSetting {
    /// Reverse-path filter: 0 off, 1 strict, 2 loose.
    RpFilter,
    /// Routing of packets to and from loopback addresses: 0 off, 1 on.
    RouteLocalnet,
    /// Forwarding of IPv4 packets that arrive on the interface: 0 off, 1 on.
    Forwarding,
}

impl InterfaceSetting {
    /// Name within `net.ipv4.conf.INTERFACE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RpFilter => "rp_filter",
            Self::RouteLocalnet => "route_localnet",
            Self::Forwarding => "forwarding",
        }
    }

    /// Effective value for each interface except loopback, ordered by name.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn of_interfaces(self) -> io::Result<Vec<(String, u64)>> {
        let mut values = Vec::new();
        for entry in fs::read_dir("/proc/sys/net/ipv4/conf")? {
            let interface = entry?.file_name().to_string_lossy().into_owned();
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/{}", self.name());
            // An interface may disappear during the read.
            let Ok(text) = fs::read_to_string(path) else { continue };
            values.extend(text.trim().parse().ok().map(|value: u64| (interface, value)));
        }
        Ok(self.in_force(values))
    }

    /// The larger of an interface's own value and that of `all`; for forwarding only its own, as
    /// writing `all` writes each interface (IN_DEV_MAXCONF, IN_DEV_ORCONF and IN_DEV_FORWARD of
    /// linux/inetdevice.h).
    fn in_force(self, mut values: Vec<(String, u64)>) -> Vec<(String, u64)> {
        let of_all = match self {
            Self::Forwarding => 0,
            Self::RpFilter | Self::RouteLocalnet => {
                values.iter().find(|(name, _)| name == "all").map_or(0, |(_, value)| *value)
            }
        };
        values.retain(|(name, _)| !matches!(name.as_str(), "all" | "default" | "lo"));
        values.iter_mut().for_each(|(_, value)| *value = of_all.max(*value));
        values.sort_unstable();
        values
    }
}

/// The value of `net.ipv6.conf.INTERFACE.NAME`; `None` if the kernel does not have it.
pub fn ipv6_interface_setting(interface: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"));
    text.ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_setting_is_the_larger_of_own_and_all_except_for_forwarding() {
        let values = [("eth1", 2), ("all", 1), ("eth0", 0), ("lo", 0), ("default", 9)];
        let values = values.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let in_force = InterfaceSetting::RpFilter.in_force(values.clone());
        assert_eq!(in_force, [("eth0".to_owned(), 1), ("eth1".to_owned(), 2)]);
        let in_force = InterfaceSetting::Forwarding.in_force(values);
        assert_eq!(in_force, [("eth0".to_owned(), 0), ("eth1".to_owned(), 2)]);
    }
}
