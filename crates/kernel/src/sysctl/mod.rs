//! Settings of the kernel below /proc/sys, those of the network namespace of the calling thread.

mod conntrack;
mod interfaces;

use std::fmt::{self, Display, Formatter};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use nix::errno::Errno;

pub use conntrack::ConntrackSettings;
pub use interfaces::InterfaceSetting;

/// A setting of the kernel, by its name as sysctl(8) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl(&'static str);

/// What a sysctl shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// This value.
    Exactly(Sysctl, u64),
    /// This value, unless it is larger already.
    AtLeast(Sysctl, u64),
}

/// A value that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub sysctl: Sysctl,
    /// The value before.
    pub old: u64,
    /// The value since.
    pub new: u64,
}

/// A value that could not be read, or is wrong and could not be written.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    /// Of what.
    pub sysctl: Sysctl,
    /// The value that it has, if that could be read.
    pub old: Option<u64>,
    /// The value that it shall have.
    pub new: u64,
    /// Why it has not.
    pub error: io::Error,
}

/// What became of some settings. Those that were right already are not in it.
#[derive(Debug, Default)]
pub struct Applied {
    /// What was written.
    pub changed: Vec<Change>,
    /// What was not. None of it keeps packets from where they shall go.
    pub failed: Vec<Failure>,
}

/// Writes the settings that are not right yet. Those that are take no permission to write: what
/// a privileged init container has set is right for an agent that has /proc/sys only to read.
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

/// Lets packets be routed to loopback addresses, which node ports at loopback need. Also those
/// from neighbours: a rule must stand against them before this is called (CVE-2020-8558).
/// Returns what was changed, if anything.
///
/// # Errors
/// When it is off and cannot be switched on.
pub fn set_route_localnet() -> Result<Option<Change>, Failure> {
    Setting::Exactly(Sysctl::ROUTE_LOCALNET, 1).apply()
}

impl Sysctl {
    /// Packets to and from loopback addresses may be routed.
    pub const ROUTE_LOCALNET: Self = Self("net.ipv4.conf.all.route_localnet");

    /// Packets of IPv4 are forwarded from one interface to another.
    pub const IP_FORWARD: Self = Self("net.ipv4.ip_forward");
    /// The same of IPv6.
    pub const IPV6_FORWARDING: Self = Self("net.ipv6.conf.all.forwarding");
    /// iptables and nftables see packets of IPv4 that a bridge takes from port to port. The kernel
    /// has it with the module br_netfilter.
    pub const BRIDGE_NF_CALL_IPTABLES: Self = Self("net.bridge.bridge-nf-call-iptables");
    /// The same of IPv6.
    pub const BRIDGE_NF_CALL_IP6TABLES: Self = Self("net.bridge.bridge-nf-call-ip6tables");
    /// TCP packets outside of the window belong to their connection.
    pub const CONNTRACK_TCP_BE_LIBERAL: Self = conntrack::TCP_BE_LIBERAL;
    /// How many connections are tracked at most.
    pub const CONNTRACK_MAX: Self = conntrack::MAX;
    /// How many connections are tracked in this network namespace.
    pub const CONNTRACK_COUNT: Self = Self("net.netfilter.nf_conntrack_count");

    /// Its name, as sysctl(8) has it.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its value.
    ///
    /// # Errors
    /// When the kernel does not have it, or what it has is not a number.
    pub fn read(self) -> io::Result<u64> {
        let text = fs::read_to_string(self.path())?;
        let not_a_number = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        text.trim().parse().map_err(not_a_number)
    }

    /// Its value, `None` if the kernel does not have it.
    ///
    /// # Errors
    /// When it cannot be read, or is not a number.
    pub fn read_if_there(self) -> io::Result<Option<u64>> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// When the kernel does not have it, does not take the value, or may not be told.
    pub fn write(self, value: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.path())?;
        // The kernel takes a value in one piece.
        file.write_all(value.to_string().as_bytes())
    }

    fn path(self) -> PathBuf {
        PathBuf::from("/proc/sys").join(self.0.replace('.', "/"))
    }
}

impl Setting {
    /// Whose value it is.
    pub fn sysctl(self) -> Sysctl {
        let (Self::Exactly(sysctl, _) | Self::AtLeast(sysctl, _)) = self;
        sysctl
    }

    /// The value to write where it is not met.
    pub fn value(self) -> u64 {
        let (Self::Exactly(_, value) | Self::AtLeast(_, value)) = self;
        value
    }

    /// Whether a value will do.
    pub fn is_met_by(self, value: u64) -> bool {
        match self {
            Self::Exactly(_, wanted) => value == wanted,
            Self::AtLeast(_, least) => value >= least,
        }
    }

    fn apply(self) -> Result<Option<Change>, Failure> {
        let (sysctl, new) = (self.sysctl(), self.value());
        let failure = |old, error| Failure { sysctl, old, new, error };
        let old = sysctl.read().map_err(|error| failure(None, error))?;
        if self.is_met_by(old) {
            return Ok(None);
        }
        sysctl.write(new).map_err(|error| failure(Some(old), error))?;
        Ok(Some(Change { sysctl, old, new }))
    }
}

impl Display for Sysctl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {} and is {}", self.sysctl, self.old, self.new)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { sysctl, old, new, error } = self;
        match old {
            Some(old) => write!(f, "{sysctl} is {old} and cannot be set to {new}: {error}")?,
            None => write!(f, "{sysctl} cannot be read, and shall be {new}: {error}")?,
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
        Some(Errno::ENOENT) => " (the kernel has it not; for nf_conntrack: modprobe nf_conntrack)",
        Some(Errno::EINVAL | Errno::ERANGE) => " (the kernel does not take this value)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSCTL: Sysctl = Sysctl("net.netfilter.nf_conntrack_max");

    fn told(old: Option<u64>, errno: Errno) -> String {
        Failure { sysctl: SYSCTL, old, new: 7, error: errno.into() }.to_string()
    }

    #[test]
    fn a_name_is_a_path() {
        let path = SYSCTL.path();
        assert_eq!(path.to_str(), Some("/proc/sys/net/netfilter/nf_conntrack_max"));
    }

    #[test]
    fn a_floor_is_met_by_more_and_a_value_only_by_itself() {
        assert!(Setting::AtLeast(SYSCTL, 7).is_met_by(8));
        assert!(Setting::AtLeast(SYSCTL, 7).is_met_by(7));
        assert!(!Setting::AtLeast(SYSCTL, 7).is_met_by(6));
        assert!(Setting::Exactly(SYSCTL, 7).is_met_by(7));
        assert!(!Setting::Exactly(SYSCTL, 7).is_met_by(8));
    }

    #[test]
    fn a_failure_names_the_sysctl_the_values_and_the_remedy() {
        let told_of_write = told(Some(5), Errno::EROFS);
        let start = "net.netfilter.nf_conntrack_max is 5 and cannot be set to 7: Read-only";
        assert!(told_of_write.starts_with(start), "{told_of_write}");
        assert!(told_of_write.contains("`rulegen agent --init-only`"), "{told_of_write}");
        let told_of_read = told(None, Errno::ENOENT);
        let start = "net.netfilter.nf_conntrack_max cannot be read, and shall be 7: No such";
        assert!(told_of_read.starts_with(start), "{told_of_read}");
        assert!(told_of_read.contains("modprobe nf_conntrack"), "{told_of_read}");
    }

    #[test]
    fn what_the_kernel_has_not_fails_and_stops_nothing() {
        let missing = Setting::Exactly(Sysctl("net.netfilter.none"), 1);
        let name = Setting::AtLeast(Sysctl("kernel.pid_max"), 1);
        let applied = apply(&[missing, name]);
        let failed: Vec<Sysctl> = applied.failed.iter().map(|failure| failure.sysctl).collect();
        assert_eq!(failed, [Sysctl("net.netfilter.none")]);
        assert_eq!(applied.changed, []);
    }
}
