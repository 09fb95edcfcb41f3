//! Whether the kernel drops packets whose way back leads through another interface than they came
//! from (rp_filter 1). With more than one way to the outside these may be clients' of node ports
//! and load balancers, and nothing says so but a counter.

use anyhow::Result;
use rulegen_kernel::netstat::dropped_by_reverse_path;
use rulegen_kernel::sysctl::InterfaceSetting;

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

/// rp_filter of an interface that checks strictly.
const STRICT: u64 = 1;

pub(super) fn run(_: &Rim<'_>) -> Result<Outcome> {
    let interfaces = InterfaceSetting::RpFilter.of_interfaces()?;
    Ok(Outcome::Found(check(&interfaces, dropped_by_reverse_path()?)))
}

/// Strict alone is right where there is one way; that packets were dropped is what tells.
fn check(interfaces: &[(String, u64)], dropped: Option<u64>) -> Vec<Finding> {
    let strict = interfaces.iter().filter(|(_, value)| *value == STRICT);
    let strict: Vec<&str> = strict.map(|(name, _)| name.as_str()).collect();
    match dropped {
        Some(dropped) if dropped > 0 && !strict.is_empty() => vec![Finding::warning(
            format!(
                "{dropped} packets were dropped since boot because their way back leads through \
                 another interface: rp_filter is strict on {}",
                strict.join(", ")
            ),
            "if these interfaces get clients' packets that are answered through others, sysctl -w \
             net.ipv4.conf.all.rp_filter=2, which wins over 1; `nstat -az TcpExtIPReversePathFilter` \
             shows whether more are dropped",
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_wrong_where_it_drops() {
        let interfaces = |value| [("eth0".to_owned(), 2), ("eth1".to_owned(), value)];
        let [finding] = &check(&interfaces(1), Some(7))[..] else { panic!("one is wrong") };
        assert!(finding.what.starts_with("7 packets were dropped"), "{finding:?}");
        assert!(finding.what.ends_with("strict on eth1"), "{finding:?}");
        assert_eq!(check(&interfaces(1), Some(0)), []);
        assert_eq!(check(&interfaces(1), None), []);
        assert_eq!(check(&interfaces(2), Some(7)), []);
        assert_eq!(check(&interfaces(0), Some(7)), []);
    }
}
