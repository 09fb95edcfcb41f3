//! Checks whether a session affinity set is nearly full. Only in nftables mode: iptables mode keeps
//! clients in lists of xt_recent.

use crate::error::Result;
use rulegen_compiler::nftables::affinity_service;
use rulegen_config::ProxyMode;
use rulegen_kernel::nftables::SetFill;
use rulegen_net::IpFamily;

use crate::code::FindingCode;
use crate::finding::{Finding, Outcome};
use crate::node_facts::{NodeFacts, nf_tables};

/// The same limit as for the metric `rulegen_affinity_full_sets`.
const NEARLY_FULL_PERCENT: u32 = 95;

pub(crate) fn run(node: &NodeFacts) -> Result<Outcome> {
    if node.config().mode != ProxyMode::Nftables {
        return Ok(Outcome::Found(Vec::new()));
    }
    let Some(mut kernel) = nf_tables()? else { return Ok(Outcome::Found(Vec::new())) };
    let mut found = Vec::new();
    for (family, table) in node.tables()?.iter().filter(|(_, table)| table == node.table()) {
        let fills = kernel.fills(*family, table)?;
        found.extend(fills.iter().filter_map(|fill| check(*family, fill)));
    }
    Ok(Outcome::Found(found))
}

fn check(family: IpFamily, fill: &SetFill) -> Option<Finding> {
    let service = affinity_service(&fill.name)?;
    if fill.percent() < NEARLY_FULL_PERCENT {
        return None;
    }
    let (protocol, family) = (service.protocol.api_name(), family.api_name());
    let SetFill { count, size, .. } = fill;
    Some(Finding::warning(
        FindingCode::AffinitySetNearlyFull,
        format!(
            "session affinity of Service {service} ({protocol}, {family}) is nearly full: {count} of \
             {size} clients. Without a free entry, new clients have no affinity: each of their \
             connections may get another endpoint"
        ),
        "reduce spec.sessionAffinityConfig.clientIP.timeoutSeconds of the Service so that entries \
         expire earlier, or spread the clients over several Services",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(name: &str, count: u32) -> SetFill {
        SetFill { name: name.into(), count, size: 65_535 }
    }

    #[test]
    fn affinity_set_nearly_full_warns_with_its_service() {
        let of = |count| check(IpFamily::Ipv6, &fill("affinity/default/web/udp/dns", count));
        assert_eq!(of(62_258), None);
        let found = of(62_259).unwrap().what;
        let wanted = "session affinity of Service default/web:dns (UDP, IPv6) is nearly full: 62259 \
                      of 65535 clients";
        assert!(found.starts_with(wanted), "{found}");
        assert_eq!(check(IpFamily::Ipv4, &fill("somebody-elses", 65_535)), None);
    }
}
