//! Checks whether the conntrack table is nearly full. When it is full, the kernel drops new
//! connections.

use crate::error::FactResult;
use rulegen_kernel::conntrack::Fill;
use rulegen_os::sysctl::Sysctl;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding, FindingSeverity};
use crate::node_facts::NodeFacts;

/// Report earlier drops from this fill level. The kernel does not reset its counters: after the remedy,
/// which doubles the size, a table that was full is half full.
const WAS_FULL_PERCENT: u64 = 51;

pub(crate) fn run(_: &NodeFacts) -> FactResult<CheckResult> {
    Ok(match Fill::read()? {
        Some(fill) => CheckResult::Found(check(fill)),
        None => CheckResult::NotChecked(
            "connection tracking is not active (nf_conntrack is not loaded)".to_owned(),
        ),
    })
}

fn check(fill: Fill) -> Vec<Finding> {
    let Fill { count, max, dropped, early_dropped } = fill;
    let sysctl = Sysctl::CONNTRACK_MAX;
    let lost = match (dropped, early_dropped) {
        (0, 0) => String::new(),
        _ => format!(
            "; since boot {dropped} packets were dropped because the table was full, and \
             {early_dropped} entries were evicted early"
        ),
    };
    let percent = count.saturating_mul(100).checked_div(max).unwrap_or_default();
    let (code, severity, state) = if max > 0 && count >= max {
        let state = "is full, and the kernel drops new connections";
        (FindingCode::ConntrackTableFull, FindingSeverity::Error, state)
    } else if fill.is_nearly_full() {
        (FindingCode::ConntrackTableNearlyFull, FindingSeverity::Warning, "is nearly full")
    } else if percent >= WAS_FULL_PERCENT && (dropped > 0 || early_dropped > 0) {
        (FindingCode::ConntrackTableWasFull, FindingSeverity::Note, "was full")
    } else {
        return Vec::new();
    };
    vec![Finding::new(
        code,
        severity,
        format!(
            "the conntrack table {state}: it has {count} of at most {max} entries ({percent} %, \
             {sysctl}){lost}"
        ),
        format!(
            "sysctl -w {sysctl}={} in the host's network namespace; the agent sets it from \
             conntrack.maxPerCore and conntrack.min. `conntrack -L` lists the connections",
            max.saturating_mul(2)
        ),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(count: u64) -> Fill {
        Fill { count, max: 1000, dropped: 0, early_dropped: 0 }
    }

    #[test]
    fn conntrack_table_nearly_full_is_a_warning_and_full_an_error() {
        use FindingCode::{ConntrackTableFull, ConntrackTableNearlyFull, ConntrackTableWasFull};
        let of = |fill| check(fill).first().map(|finding| (finding.code, finding.severity));
        assert_eq!(of(fill(899)), None);
        assert_eq!(of(fill(900)), Some((ConntrackTableNearlyFull, FindingSeverity::Warning)));
        assert_eq!(of(fill(1000)), Some((ConntrackTableFull, FindingSeverity::Error)));
        let was_full = Fill { dropped: 3, ..fill(510) };
        assert_eq!(of(was_full), Some((ConntrackTableWasFull, FindingSeverity::Note)));
        let after_remedy = Fill { dropped: 3, max: 2000, ..fill(1000) };
        assert_eq!(of(after_remedy), None, "the counter stays");
        assert_eq!(of(Fill { max: 0, ..fill(7) }), None);
    }

    #[test]
    fn conntrack_table_finding_suggests_twice_the_limit() {
        let [finding] = &check(Fill { dropped: 3, ..fill(950) })[..] else {
            panic!("one is wrong")
        };
        assert_eq!(
            finding.what,
            "the conntrack table is nearly full: it has 950 of at most 1000 entries (95 %, \
             net.netfilter.nf_conntrack_max); since boot 3 packets were dropped because the table was \
             full, and 0 entries were evicted early"
        );
        assert!(finding.remedy.starts_with("sysctl -w net.netfilter.nf_conntrack_max=2000"));
    }
}
