//! Kernel settings in /proc/sys, for the network namespace of the calling thread.

mod conntrack;
mod icmp;
mod interfaces;
mod local_ports;

use std::fmt::{self, Display, Formatter};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use nix::errno::Errno;

pub use conntrack::ConntrackSettings;
pub use icmp::error_limit;
pub use interfaces::{InterfaceSetting, ipv6_interface_setting};
pub use local_ports::LocalPorts;

/// A kernel setting, by its name in sysctl(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl(&'static str);

/// A desired value of a sysctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Exactly this value.
    Exactly(Sysctl, u64),
    /// This value or more.
    AtLeast(Sysctl, u64),
}

/// A written value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysctlChange {
    /// The sysctl that was set.
    pub sysctl: Sysctl,
    /// Value before.
    pub old: u64,
    /// Value after.
    pub new: u64,
}

/// A value that could not be read, or is wrong and could not be written.
#[derive(Debug, thiserror::Error)]
pub struct SysctlFailure {
    /// The sysctl that could not be set.
    pub sysctl: Sysctl,
    /// Current value, if it could be read.
    pub old: Option<u64>,
    /// Wanted value.
    pub new: u64,
    /// The system error.
    pub error: io::Error,
}

/// Result of applying settings. Those that were right already are left out.
#[derive(Debug, Default)]
pub struct Applied {
    /// Written values.
    pub changed: Vec<SysctlChange>,
    /// Failures. None of them breaks forwarding.
    pub failed: Vec<SysctlFailure>,
}

/// Writes the settings that are wrong. Right ones need no write permission: an agent with read-only
/// /proc/sys can rely on a privileged init container.
pub fn apply(settings: &[Setting]) -> Applied {
    let mut applied = Applied::default();
    for setting in settings {
        match setting.apply() {
            Ok(change) => applied.changed.extend(change),
            Err(failure) => applied.failed.push(failure),
        }
    }
    applied
}

/// Enables routing to loopback addresses, which node ports on loopback need. It also lets
/// neighbours send such packets, so add a rule against that first (CVE-2020-8558). Returns the
/// change, or `None` if it was enabled already.
///
/// # Errors
/// It is disabled and cannot be enabled.
pub fn set_route_localnet() -> Result<Option<SysctlChange>, SysctlFailure> {
    Setting::Exactly(Sysctl::ROUTE_LOCALNET, 1).apply()
}

impl Sysctl {
    /// Allows routing of packets to and from loopback addresses.
    pub const ROUTE_LOCALNET: Self = Self("net.ipv4.conf.all.route_localnet");

    /// Forwards IPv4 packets between interfaces.
    pub const IP_FORWARD: Self = Self("net.ipv4.ip_forward");
    /// Forwards IPv6 packets between interfaces.
    pub const IPV6_FORWARDING: Self = Self("net.ipv6.conf.all.forwarding");
    /// Passes bridged IPv4 packets to iptables and nftables. Exists with the module br_netfilter.
    pub const BRIDGE_NF_CALL_IPTABLES: Self = Self("net.bridge.bridge-nf-call-iptables");
    /// Passes bridged IPv6 packets to iptables and nftables.
    pub const BRIDGE_NF_CALL_IP6TABLES: Self = Self("net.bridge.bridge-nf-call-ip6tables");
    /// Accepts TCP packets outside the window as part of their connection.
    pub const CONNTRACK_TCP_BE_LIBERAL: Self = Self("net.netfilter.nf_conntrack_tcp_be_liberal");
    /// Maximum number of tracked connections.
    pub const CONNTRACK_MAX: Self = Self("net.netfilter.nf_conntrack_max");
    /// Number of tracked connections of this network namespace.
    pub const CONNTRACK_COUNT: Self = Self("net.netfilter.nf_conntrack_count");

    /// Name as in sysctl(8).
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Reads the value.
    ///
    /// # Errors
    /// The kernel does not have the setting, or the value is not a number.
    pub fn read(self) -> io::Result<u64> {
        let text = fs::read_to_string(self.path())?;
        let not_a_number = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        text.trim().parse().map_err(not_a_number)
    }

    /// Reads the value; `None` if the kernel does not have the setting.
    ///
    /// # Errors
    /// The value cannot be read or is not a number.
    pub fn read_if_there(self) -> io::Result<Option<u64>> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// The kernel does not have the setting, refuses the value, or denies permission.
    pub fn write(self, value: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.path())?;
        // The kernel requires the value in a single write.
        file.write_all(value.to_string().as_bytes())
    }

    fn path(self) -> PathBuf {
        PathBuf::from("/proc/sys").join(self.0.replace('.', "/"))
    }
}

impl Setting {
    /// Which sysctl the setting is for.
    pub fn sysctl(self) -> Sysctl {
        let (Self::Exactly(sysctl, _) | Self::AtLeast(sysctl, _)) = self;
        sysctl
    }

    /// The value to write if the setting is not met.
    pub fn value(self) -> u64 {
        let (Self::Exactly(_, value) | Self::AtLeast(_, value)) = self;
        value
    }

    /// True if a current value meets the setting.
    pub fn is_met_by(self, value: u64) -> bool {
        match self {
            Self::Exactly(_, desired) => value == desired,
            Self::AtLeast(_, least) => value >= least,
        }
    }

    fn apply(self) -> Result<Option<SysctlChange>, SysctlFailure> {
        let (sysctl, new) = (self.sysctl(), self.value());
        let failure = |old, error| SysctlFailure { sysctl, old, new, error };
        let old = sysctl.read().map_err(|error| failure(None, error))?;
        if self.is_met_by(old) {
            return Ok(None);
        }
        sysctl.write(new).map_err(|error| failure(Some(old), error))?;
        Ok(Some(SysctlChange { sysctl, old, new }))
    }
}

impl Display for Sysctl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Display for SysctlFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { sysctl, old, new, error } = self;
        match old {
            Some(old) => write!(f, "cannot set {sysctl} to {new} (current value {old}): {error}")?,
            None => write!(f, "cannot read {sysctl} (should be {new}): {error}")?,
        }
        f.write_str(remedy(error))
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
            " (run `rulegen agent --init-only` in a privileged init container, in the network \
             namespace of the node)"
        }
        Some(Errno::ENOENT) => {
            " (not supported by this kernel; for nf_conntrack: modprobe nf_conntrack)"
        }
        Some(Errno::EINVAL | Errno::ERANGE) => " (value refused by the kernel)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSCTL: Sysctl = Sysctl("net.netfilter.nf_conntrack_max");

    fn failure_text(old: Option<u64>, errno: Errno) -> String {
        SysctlFailure { sysctl: SYSCTL, old, new: 7, error: errno.into() }.to_string()
    }

    #[test]
    fn sysctl_name_becomes_a_path() {
        let path = SYSCTL.path();
        assert_eq!(path.to_str(), Some("/proc/sys/net/netfilter/nf_conntrack_max"));
    }

    #[test]
    fn sysctl_minimum_accepts_larger_values_and_exact_setting_does_not() {
        assert!(Setting::AtLeast(SYSCTL, 7).is_met_by(8));
        assert!(Setting::AtLeast(SYSCTL, 7).is_met_by(7));
        assert!(!Setting::AtLeast(SYSCTL, 7).is_met_by(6));
        assert!(Setting::Exactly(SYSCTL, 7).is_met_by(7));
        assert!(!Setting::Exactly(SYSCTL, 7).is_met_by(8));
    }

    #[test]
    fn sysctl_failure_names_the_setting_the_values_and_the_remedy() {
        let write_failure = failure_text(Some(5), Errno::EROFS);
        let start = "cannot set net.netfilter.nf_conntrack_max to 7 (current value 5): Read-only";
        assert!(write_failure.starts_with(start), "{write_failure}");
        assert!(write_failure.contains("`rulegen agent --init-only`"), "{write_failure}");
        let read_failure = failure_text(None, Errno::ENOENT);
        let start = "cannot read net.netfilter.nf_conntrack_max (should be 7): No such";
        assert!(read_failure.starts_with(start), "{read_failure}");
        assert!(read_failure.contains("modprobe nf_conntrack"), "{read_failure}");
    }

    #[test]
    fn sysctl_missing_in_the_kernel_fails_without_stopping_the_others() {
        let missing = Setting::Exactly(Sysctl("net.netfilter.none"), 1);
        let name = Setting::AtLeast(Sysctl("kernel.pid_max"), 1);
        let applied = apply(&[missing, name]);
        let failed: Vec<Sysctl> = applied.failed.iter().map(|failure| failure.sysctl).collect();
        assert_eq!(failed, [Sysctl("net.netfilter.none")]);
        assert_eq!(applied.changed, []);
    }
}
