//! Settings of connection tracking.

use std::time::Duration;

use super::{Setting, Sysctl};

/// Settings of net.netfilter that kube-proxy also makes, with its defaults. Zero leaves a setting
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// Maximum number of tracked connections per CPU.
    pub max_per_core: u32,
    /// Lower bound of the maximum, unless `max_per_core` is zero.
    pub min: u32,
    /// Timeout of idle TCP connections.
    pub tcp_established: Duration,
    /// Timeout of half-closed TCP connections (CLOSE_WAIT).
    pub tcp_close_wait: Duration,
    /// True to accept TCP packets outside the window; false leaves the setting unchanged.
    pub tcp_be_liberal: bool,
    /// Timeout of UDP flows without a reply.
    pub udp_timeout: Duration,
    /// Timeout of UDP flows with replies.
    pub udp_stream_timeout: Duration,
}

impl ConntrackSettings {
    /// Upper bound of the maximum computed from the number of CPUs. With the defaults it is reached
    /// at 32 CPUs.
    pub const MOST_BY_CORES: u64 = 1 << 20;

    /// The settings for a machine with this number of CPUs.
    pub fn desired(&self, cpus: usize) -> Vec<Setting> {
        let timeout = |sysctl, time| Some(Setting::Exactly(sysctl, seconds(time)?));
        let [max, buckets] = self.table(cpus).map_or([None, None], |settings| settings.map(Some));
        [
            max,
            buckets,
            timeout(TCP_ESTABLISHED, self.tcp_established),
            timeout(TCP_CLOSE_WAIT, self.tcp_close_wait),
            self.tcp_be_liberal.then_some(Setting::Exactly(Sysctl::CONNTRACK_TCP_BE_LIBERAL, 1)),
            timeout(UDP, self.udp_timeout),
            timeout(UDP_STREAM, self.udp_stream_timeout),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The maximum number of connections, and one hash bucket for every four of them. Both are
    /// minimums: if someone made the table larger, reducing it would drop connections.
    fn table(&self, cpus: usize) -> Option<[Setting; 2]> {
        let max_per_core = Some(u64::from(self.max_per_core)).filter(|max| *max > 0)?;
        let cpus = u64::try_from(cpus.max(1)).unwrap_or(u64::MAX);
        let by_cores = max_per_core.saturating_mul(cpus).min(Self::MOST_BY_CORES);
        // A configured minimum applies, however high it is.
        let max = by_cores.max(u64::from(self.min));
        Some([Setting::AtLeast(Sysctl::CONNTRACK_MAX, max), Setting::AtLeast(BUCKETS, max / 4)])
    }
}

impl Default for ConntrackSettings {
    fn default() -> Self {
        Self {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(86_400),
            tcp_close_wait: Duration::from_secs(3_600),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        }
    }
}

/// Same value as the module parameter `hashsize`, which only root may read.
const BUCKETS: Sysctl = Sysctl("net.netfilter.nf_conntrack_buckets");

const TCP_ESTABLISHED: Sysctl = Sysctl("net.netfilter.nf_conntrack_tcp_timeout_established");
const TCP_CLOSE_WAIT: Sysctl = Sysctl("net.netfilter.nf_conntrack_tcp_timeout_close_wait");
const UDP: Sysctl = Sysctl("net.netfilter.nf_conntrack_udp_timeout");
const UDP_STREAM: Sysctl = Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream");

/// Rounded up to a second: zero would drop connections at once.
fn seconds(time: Duration) -> Option<u64> {
    let part = u64::from(time.subsec_nanos() > 0);
    Some(time.as_secs().saturating_add(part)).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: ConntrackSettings = ConntrackSettings {
        max_per_core: 0,
        min: 131_072,
        tcp_established: Duration::ZERO,
        tcp_close_wait: Duration::ZERO,
        tcp_be_liberal: false,
        udp_timeout: Duration::ZERO,
        udp_stream_timeout: Duration::ZERO,
    };

    fn max(max_per_core: u32, min: u32, cpus: usize) -> Option<u64> {
        let settings = ConntrackSettings { max_per_core, min, ..NOTHING };
        settings.desired(cpus).first().map(|setting| setting.value())
    }

    #[test]
    fn conntrack_defaults_are_those_of_kube_proxy() {
        let desired = ConntrackSettings::default().desired(8);
        let expected = [
            Setting::AtLeast(Sysctl::CONNTRACK_MAX, 262_144),
            Setting::AtLeast(BUCKETS, 65_536),
            Setting::Exactly(TCP_ESTABLISHED, 86_400),
            Setting::Exactly(TCP_CLOSE_WAIT, 3_600),
        ];
        assert_eq!(desired, expected);
    }

    #[test]
    fn conntrack_setting_of_zero_is_left_unchanged() {
        assert_eq!(NOTHING.desired(8), []);
    }

    #[test]
    fn conntrack_settings_are_applied_when_configured() {
        let settings = ConntrackSettings {
            tcp_be_liberal: true,
            udp_timeout: Duration::from_millis(1),
            udp_stream_timeout: Duration::from_millis(120_500),
            ..NOTHING
        };
        let expected = [
            Setting::Exactly(Sysctl::CONNTRACK_TCP_BE_LIBERAL, 1),
            Setting::Exactly(UDP, 1),
            Setting::Exactly(UDP_STREAM, 121),
        ];
        assert_eq!(settings.desired(8), expected);
    }

    #[test]
    fn conntrack_minimum_wins_over_cpu_count_and_upper_bound() {
        assert_eq!(max(32_768, 131_072, 1), Some(131_072));
        assert_eq!(max(32_768, 131_072, 32), Some(1 << 20));
        assert_eq!(max(32_768, 131_072, 256), Some(1 << 20));
        assert_eq!(max(32_768, 2_000_000, 256), Some(2_000_000));
        assert_eq!(max(32_768, 0, 0), Some(32_768));
        assert_eq!(max(u32::MAX, u32::MAX, usize::MAX), Some(u64::from(u32::MAX)));
    }
}
