//! How full the table of connections is.

use std::{fs, io};

use crate::sysctl::Sysctl;

/// How full the table of connections is, and what that did already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Connections that this network namespace has in it.
    pub count: u64,
    /// How many it may have.
    pub max: u64,
    /// Packets that were dropped because no entry could be made for them, since boot.
    pub dropped: u64,
    /// Entries that were given up before their time, to make room for others, since boot.
    pub early_dropped: u64,
}

impl Fill {
    /// Reads it; `None` where the kernel does not track connections.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read() -> io::Result<Option<Self>> {
        let count = Sysctl::CONNTRACK_COUNT.read_if_there()?;
        let max = Sysctl::CONNTRACK_MAX.read_if_there()?;
        let (Some(count), Some(max)) = (count, max) else { return Ok(None) };
        // Kernels without CONFIG_NF_CONNTRACK_PROCFS have no such file, and nothing is lost by it.
        let stat =
            fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default();
        let [dropped, early_dropped] = ["drop", "early_drop"].map(|name| sum(&stat, name));
        Ok(Some(Self { count, max, dropped, early_dropped }))
    }
}

/// A line of names, and behind it one of hexadecimal numbers for each CPU.
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
    fn the_counters_of_all_cpus_are_summed() {
        let stat = "entries  drop early_drop\n00000001  0000000a 00000000\n00000001  10 01\n";
        assert_eq!(["drop", "early_drop", "none"].map(|name| sum(stat, name)), [26, 1, 0]);
        assert_eq!(sum("", "drop"), 0);
    }
}
