//! What the kernel counted of packets in this network namespace (/proc/net/netstat).

use std::{fs, io};

/// How many packets were dropped because the way back to their source leads elsewhere, by
/// `rp_filter`; `None` if this kernel does not tell.
///
/// # Errors
/// When the counters cannot be read.
pub fn dropped_by_reverse_path() -> io::Result<Option<u64>> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    Ok(counter(&text, "TcpExt:", "IPReversePathFilter"))
}

/// A line of names, and behind it one of numbers, both after the group's name.
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
    fn a_counter_is_found_by_its_name() {
        let text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 22 3\nIpExt: A\nIpExt: 4\n";
        assert_eq!(counter(text, "TcpExt:", "IPReversePathFilter"), Some(22));
        assert_eq!(counter(text, "IpExt:", "A"), Some(4));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt:", "A"), None);
    }

    #[test]
    fn this_kernel_counts() {
        assert!(dropped_by_reverse_path().is_ok_and(|dropped| dropped.is_some()));
    }
}
