//! Packet counters of this network namespace (/proc/net/netstat).

use std::{fs, io};

/// Number of packets dropped by reverse-path filtering (`rp_filter`); `None` if this kernel does
/// not count them.
///
/// # Errors
/// The counters cannot be read.
pub fn dropped_by_reverse_path() -> io::Result<Option<u64>> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    Ok(counter(&text, "TcpExt:", "IPReversePathFilter"))
}

/// A line of names is followed by a line of values; both start with the group's name.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|named| named == name)?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstat_counter_is_parsed_by_name() {
        let text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 22 3\nIpExt: A\nIpExt: 4\n";
        assert_eq!(counter(text, "TcpExt:", "IPReversePathFilter"), Some(22));
        assert_eq!(counter(text, "IpExt:", "A"), Some(4));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt:", "A"), None);
    }

    #[test]
    fn netstat_counter_of_this_kernel_is_readable() {
        assert!(dropped_by_reverse_path().is_ok_and(|dropped| dropped.is_some()));
    }
}
