//! What of a KubeProxyConfiguration says how a proxy runs, not which rules there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rulegen_model::Problem;
use rulegen_net::{IpFamily, parse_address};

use crate::rules::{ProxyMode, Reader, Section};

/// How a node agent runs. What the file does not say, or says with its default, is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct RunningConfig {
    pub kubeconfig: Option<PathBuf>,
    pub healthz_bind_address: Option<BindAddress>,
    pub metrics_bind_address: Option<BindAddress>,
    pub bind_address_hard_fail: bool,
    pub oom_score_adj: Option<i16>,
    /// `minSyncPeriod` of the mode.
    pub min_sync_period: Option<Duration>,
    /// `syncPeriod` of the mode.
    pub sync_period: Option<Duration>,
    pub conntrack: ConntrackConfig,
}

/// The section `conntrack`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are kube-proxy's own; its reference documents them")]
pub struct ConntrackConfig {
    pub max_per_core: Option<u32>,
    pub min: Option<u32>,
    pub tcp_established_timeout: Option<Duration>,
    pub tcp_close_wait_timeout: Option<Duration>,
    pub udp_timeout: Option<Duration>,
    pub udp_stream_timeout: Option<Duration>,
    /// Ours: whether connections to endpoints that are gone are reset.
    pub tcp_reset_removed: bool,
}

/// Where a server listens, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAddress {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl BindAddress {
    /// kube-proxy's port for `/healthz`, at all addresses.
    pub const HEALTHZ_PORT: u16 = 10256;
    /// kube-proxy's port for `/metrics`, at loopback.
    pub const METRICS_PORT: u16 = 10249;

    /// Reads `IP` or `IP:PORT`; nothing and port 0 switch it off, as in kube-proxy.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Off);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = match parse_address(bare) {
            Some(ip) => SocketAddr::new(ip, default_port),
            None => text
                .parse()
                .map_err(|_| format!("{text:?} is no IP:PORT such as 0.0.0.0:{default_port}"))?,
        };
        Ok(if address.port() == 0 { Self::Off } else { Self::At(address) })
    }

    /// Where probers ask, of the family of the primary address that was given.
    pub fn healthz(primary: Option<IpAddr>) -> Self {
        let ip = match primary.map(IpFamily::of) {
            Some(IpFamily::Ipv6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Self::At(SocketAddr::new(ip, Self::HEALTHZ_PORT))
    }

    /// Where metrics are, of the family of the primary address that was given.
    pub fn metrics(primary: Option<IpAddr>) -> Self {
        let ip = match primary.map(IpFamily::of) {
            Some(IpFamily::Ipv6) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        Self::At(SocketAddr::new(ip, Self::METRICS_PORT))
    }
}

/// Reads how to run; what is of the wrong type is told by [`read_config`](crate::read_config).
pub fn read_running_config(
    file: &str,
    text: &[u8],
    mode: ProxyMode,
) -> (RunningConfig, Vec<Problem>) {
    let mut reader = Reader::new(file);
    let Some(root) = reader.root(text) else {
        // Why there is none was told before.
        return (RunningConfig::default(), Vec::new());
    };
    let root = Section::root(&root);
    let of_mode = root.section(mode.word());
    let conntrack = root.section("conntrack");
    let bind = |port| move |text: &str| BindAddress::parse(text, port);
    let config = RunningConfig {
        kubeconfig: root.section("clientConnection").text("kubeconfig").map(PathBuf::from),
        healthz_bind_address: reader.parsed(
            root,
            "healthzBindAddress",
            bind(BindAddress::HEALTHZ_PORT),
        ),
        metrics_bind_address: reader.parsed(
            root,
            "metricsBindAddress",
            bind(BindAddress::METRICS_PORT),
        ),
        bind_address_hard_fail: root.bool("bindAddressHardFail").unwrap_or_default(),
        oom_score_adj: root.number("oomScoreAdj"),
        // Zero means kube-proxy's default, and so ours.
        min_sync_period: reader.duration(of_mode, "minSyncPeriod").filter(|d| !d.is_zero()),
        sync_period: reader.duration(of_mode, "syncPeriod").filter(|d| !d.is_zero()),
        conntrack: ConntrackConfig {
            max_per_core: conntrack.number("maxPerCore"),
            min: conntrack.number("min"),
            tcp_established_timeout: reader.duration(conntrack, "tcpEstablishedTimeout"),
            tcp_close_wait_timeout: reader.duration(conntrack, "tcpCloseWaitTimeout"),
            udp_timeout: reader.duration(conntrack, "udpTimeout"),
            udp_stream_timeout: reader.duration(conntrack, "udpStreamTimeout"),
            tcp_reset_removed: root
                .section("rulegen")
                .bool("conntrackTCPResetRemoved")
                .unwrap_or_default(),
        },
    };
    (config, reader.into_problems())
}

/// Reads one of Go's durations, such as `1h15m30.5s`. It may have a sign.
pub(crate) fn go_duration(text: &str) -> Option<GoDuration> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if text == "0" {
        return Some(GoDuration { is_negative, length: Duration::ZERO });
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = rest.get(..rest.len() - behind.len())?.parse().ok()?;
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        seconds += number * length;
        rest = behind.strip_prefix(unit)?;
    }
    let length = Duration::try_from_secs_f64(seconds).ok()?;
    (!text.is_empty()).then_some(GoDuration { is_negative, length })
}

/// A length of time, forward or back.
pub(crate) struct GoDuration {
    pub(crate) is_negative: bool,
    pub(crate) length: Duration,
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// Reads one of Go's durations that is a length of time.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match go_duration(text) {
        Some(GoDuration { is_negative: false, length }) => Ok(length),
        Some(_) => Err(format!("{text:?} is less than nothing")),
        None => Err(format!("{text:?} is no duration such as 30s or 1h15m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_does() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("1h15m", 4500.0),
            ("1.5s", 1.5),
            ("100ms", 0.1),
            ("0", 0.0),
            (".5m", 30.0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in
            ["", "30", "s", "1h-2m", "1 s", "-3s", "1.2.3s", "1e400s", "9999999999999999999h"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_addresses_as_kube_proxy_does() {
        let at = |text: &str| Ok(BindAddress::At(text.parse().unwrap()));
        assert_eq!(BindAddress::parse("", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("0.0.0.0:0", 1), Ok(BindAddress::Off));
        assert_eq!(BindAddress::parse("10.0.0.1", 1), at("10.0.0.1:1"));
        assert_eq!(BindAddress::parse("::", 1), at("[::]:1"));
        assert_eq!(BindAddress::parse("[::1]", 1), at("[::1]:1"));
        assert_eq!(BindAddress::parse("[::1]:2", 1), at("[::1]:2"));
        assert!(BindAddress::parse("localhost:1", 1).is_err());
    }

    #[test]
    fn reads_how_to_run() {
        let text = b"{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration,
            clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf},
            healthzBindAddress: '', metricsBindAddress: 0.0.0.0, oomScoreAdj: -999,
            nftables: {minSyncPeriod: 2s, syncPeriod: 0s}, iptables: {minSyncPeriod: 1s},
            conntrack: {maxPerCore: 0, udpTimeout: 10s, tcpCloseWaitTimeout: -1s},
            rulegen: {conntrackTCPResetRemoved: true}}";
        let (config, problems) = read_running_config("file", text, ProxyMode::Nftables);
        let expected = RunningConfig {
            kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
            metrics_bind_address: Some(BindAddress::At("0.0.0.0:10249".parse().unwrap())),
            oom_score_adj: Some(-999),
            min_sync_period: Some(Duration::from_secs(2)),
            conntrack: ConntrackConfig {
                max_per_core: Some(0),
                udp_timeout: Some(Duration::from_secs(10)),
                tcp_reset_removed: true,
                ..ConntrackConfig::default()
            },
            ..RunningConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
