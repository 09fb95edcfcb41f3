//! Rate limits of ICMP errors (Documentation/networking/ip-sysctl.rst).

use std::fs;

/// The setting that limits how often the kernel sends the error "destination unreachable", if it
/// does. What cannot be read has its default, which limits.
pub fn error_limit(is_ipv6: bool) -> Option<&'static str> {
    let (mask, limit) = match is_ipv6 {
        false => ("ipv4/icmp_ratemask", "net.ipv4.icmp_ratelimit"),
        true => ("ipv6/icmp/ratemask", "net.ipv6.icmp.ratelimit"),
    };
    let mask = fs::read_to_string(format!("/proc/sys/net/{mask}"));
    let is_limited = mask.map_or(Some(true), |mask| is_limited(&mask, is_ipv6));
    is_limited.unwrap_or(true).then_some(limit)
}

/// IPv4 has a bit for each type, IPv6 a list of ranges.
fn is_limited(mask: &str, is_ipv6: bool) -> Option<bool> {
    const UNREACHABLE: u32 = 3;
    const UNREACHABLE_IPV6: u32 = 1;
    if !is_ipv6 {
        return Some(mask.trim().parse::<u64>().ok()? & (1 << UNREACHABLE) != 0);
    }
    let mut ranges = mask.trim().split(',').filter(|range| !range.is_empty());
    ranges.try_fold(false, |is_limited, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = first.parse::<u32>().ok()?..=last.parse().ok()?;
        Some(is_limited || range.contains(&UNREACHABLE_IPV6))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icmp_error_limit_is_that_of_the_type_unreachable() {
        for (mask, is_ipv6, desired) in [
            ("6168\n", false, Some(true)),
            ("0\n", false, Some(false)),
            ("6160", false, Some(false)),
            ("x", false, None),
            ("0-1,3-127\n", true, Some(true)),
            ("0,3-127", true, Some(false)),
            ("\n", true, Some(false)),
            ("1", true, Some(true)),
            ("1-x", true, None),
        ] {
            assert_eq!(is_limited(mask, is_ipv6), desired, "{mask}");
        }
    }
}
