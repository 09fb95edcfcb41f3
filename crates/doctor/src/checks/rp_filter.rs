//! Checks whether the strict reverse-path filter (rp_filter 1) drops packets whose reply would leave
//! through another interface. On a node with several uplinks these may come from clients of node
//! ports and load balancers; only a counter shows the drops.

use crate::error::FactResult;
use rulegen_os::netstat::dropped_by_reverse_path;
use rulegen_os::sysctl::InterfaceSetting;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Value of rp_filter for strict filtering.
const STRICT: u64 = 1;

pub(crate) fn run(_: &NodeFacts) -> FactResult<CheckResult> {
    let interfaces = InterfaceSetting::RpFilter.of_interfaces()?;
    Ok(CheckResult::Found(check(&interfaces, dropped_by_reverse_path()?)))
}

/// Strict filtering is fine with one uplink, so only dropped packets are a finding.
fn check(interfaces: &[(String, u64)], dropped: Option<u64>) -> Vec<Finding> {
    let strict = interfaces.iter().filter(|(_, value)| *value == STRICT);
    let strict: Vec<&str> = strict.map(|(name, _)| name.as_str()).collect();
    match dropped {
        Some(dropped) if dropped > 0 && !strict.is_empty() => vec![Finding::warning(
            FindingCode::ReversePathDrops,
            format!(
                "the reverse-path filter dropped {dropped} packets since boot: rp_filter is strict \
                 on {}",
                strict.join(", ")
            ),
            "if replies to clients on these interfaces leave through others, sysctl -w \
             net.ipv4.conf.all.rp_filter=2, which overrides 1; `nstat -az \
             TcpExtIPReversePathFilter` shows whether more packets are dropped",
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rp_filter_strict_with_drops_is_a_warning() {
        let interfaces = |value| [("eth0".to_owned(), 2), ("eth1".to_owned(), value)];
        let [finding] = &check(&interfaces(1), Some(7))[..] else { panic!("one is wrong") };
        assert!(finding.what.contains("dropped 7 packets"), "{finding:?}");
        assert!(finding.what.ends_with("strict on eth1"), "{finding:?}");
        assert_eq!(check(&interfaces(1), Some(0)), []);
        assert_eq!(check(&interfaces(1), None), []);
        assert_eq!(check(&interfaces(2), Some(7)), []);
        assert_eq!(check(&interfaces(0), Some(7)), []);
    }
}
