//! Metrics of the process that client_golang has and the crate prometheus does not, for dashboards
//! of Kubernetes components.

use std::fs;

use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};
use prometheus::{Opts, Result};

const RECEIVED: (&str, &str) =
    ("process_network_receive_bytes_total", "Bytes received over the network by this host");
const SENT: (&str, &str) =
    ("process_network_transmit_bytes_total", "Bytes sent over the network by this host");
const MOST_MEMORY: (&str, &str) =
    ("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes");
const GOROUTINES: (&str, &str) =
    ("go_goroutines", "Threads; rulegen has no goroutines, but dashboards show this name");

/// Reads /proc at each scrape.
pub(super) struct ProcessMetrics(Vec<Desc>);

impl ProcessMetrics {
    pub(super) fn new() -> Result<Self> {
        let all = [RECEIVED, SENT, MOST_MEMORY, GOROUTINES];
        let describe = |(name, help)| Opts::new(name, help).describe();
        all.into_iter().map(describe).collect::<Result<_>>().map(Self)
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.iter().collect()
    }

    /// Omits values that cannot be read.
    fn collect(&self) -> Vec<MetricFamily> {
        let read = |path| fs::read_to_string(path).ok();
        let network = read("/proc/self/net/netstat");
        let octets = |name| ip_extension(network.as_deref()?, name);
        let limits = read("/proc/self/limits");
        let threads = fs::read_dir("/proc/self/task").ok().map(|tasks| tasks.count() as f64);
        [
            (RECEIVED, MetricType::COUNTER, octets("InOctets")),
            (SENT, MetricType::COUNTER, octets("OutOctets")),
            (MOST_MEMORY, MetricType::GAUGE, limits.as_deref().and_then(address_space)),
            (GOROUTINES, MetricType::GAUGE, threads),
        ]
        .into_iter()
        .filter_map(|(names, kind, value)| Some(family(names, kind, value?)))
        .collect()
    }
}

fn family((name, help): (&str, &str), kind: MetricType, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

/// A counter of the lines `IpExt:` in /proc/net/netstat: one has the names, the next the values.
fn ip_extension(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|of| of == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// RLIMIT_AS of /proc/PID/limits; unlimited is the largest number, as in client_golang.
fn address_space(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        bytes => bytes.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let netstat =
            "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: A InOctets OutOctets\nIpExt: 3 4 5\n";
        assert_eq!(ip_extension(netstat, "InOctets"), Some(4.0));
        assert_eq!(ip_extension(netstat, "OutOctets"), Some(5.0));
        assert_eq!(ip_extension(netstat, "B"), None);
        let limits =
            |value| format!("Max cpu time  1  1  s\nMax address space  {value}  x  bytes\n");
        assert_eq!(address_space(&limits("4096")), Some(4096.0));
        assert_eq!(address_space(&limits("unlimited")), Some(18_446_744_073_709_551_615.0));
    }
}
