//! Fill level of the conntrack table.

use std::{fs, io};

use rulegen_os::sysctl::Sysctl;

/// Fill level of the conntrack table, and packets lost to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Number of entries of this network namespace.
    pub count: u64,
    /// Maximum number of entries.
    pub max: u64,
    /// Packets dropped because no entry could be created, since boot.
    pub dropped: u64,
    /// Entries evicted early to make room for others, since boot.
    pub early_dropped: u64,
}

impl Fill {
    /// The fill level in percent at which the table counts as nearly full.
    const NEARLY_FULL_PERCENT: u64 = 90;

    /// Whether the table is full, or nearly so. When it is full, the kernel drops new connections.
    pub fn is_nearly_full(&self) -> bool {
        let limit = self.max.saturating_mul(Self::NEARLY_FULL_PERCENT);
        self.max > 0 && self.count.saturating_mul(100) >= limit
    }

    /// Reads the fill level; `None` if the kernel does not track connections.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn read() -> io::Result<Option<Self>> {
        let count = Sysctl::CONNTRACK_COUNT.read_if_there()?;
        let max = Sysctl::CONNTRACK_MAX.read_if_there()?;
        let (Some(count), Some(max)) = (count, max) else { return Ok(None) };
        // Kernels without CONFIG_NF_CONNTRACK_PROCFS lack this file; the counters are then 0.
        let stat =
            fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default();
        let [dropped, early_dropped] = ["drop", "early_drop"].map(|name| sum(&stat, name));
        Ok(Some(Self { count, max, dropped, early_dropped }))
    }
}

/// A line of names is followed by a line of hexadecimal values for each CPU.
fn sum(stat: &str, name: &str) -> u64 {
    let mut lines = stat.lines();
    let names = lines.next().unwrap_or_default();
    let Some(at) = names.split_ascii_whitespace().position(|named| named == name) else { return 0 };
    let value = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(at)?, 16).ok();
    lines.filter_map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_counters_are_summed_over_cpus() {
        let stat = "entries  drop early_drop\n00000001  0000000a 00000000\n00000001  10 01\n";
        assert_eq!(["drop", "early_drop", "none"].map(|name| sum(stat, name)), [26, 1, 0]);
        assert_eq!(sum("", "drop"), 0);
    }
}
