//! Finds service ports without endpoints, with the reason.

use anyhow::Result;
use rulegen_model::{LocalPolicyScope, Shortage, Why, shortages};

use crate::commands::doctor::finding::{Finding, Outcome, Severity};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    rim.with_cluster(|cluster| {
        Ok(Outcome::Found(check(&shortages(&cluster.snapshot, &cluster.objects))))
    })
}

fn check(shortages: &[Shortage]) -> Vec<Finding> {
    let finding = |shortage: &Shortage| {
        let severity = severity(&shortage.why);
        Finding::new(severity, shortage.to_string(), shortage.why.remedy(&shortage.port))
    };
    shortages.iter().map(finding).collect()
}

fn severity(why: &Why) -> Severity {
    match why {
        // Load balancers skip such nodes, and draining endpoints still serve.
        Why::NoneLocal { kept: LocalPolicyScope::External, .. } | Why::Draining { .. } => {
            Severity::Note
        }
        Why::NoneLocal { .. }
        | Why::NoSlice
        | Why::EmptySlices
        | Why::NoSuchPort { .. }
        | Why::NoneReady { .. } => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use rulegen_net::{IpFamily, Protocol, ServicePortName};

    use super::*;

    #[test]
    fn missing_endpoints_are_a_warning_unless_expected() {
        let port = ServicePortName {
            namespace: "default".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        let found = |why| check(&[Shortage { port: port.clone(), family: IpFamily::Ipv4, why }]);
        let [finding] = &found(Why::NoSlice)[..] else { panic!("one is lacking") };
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.what, "Service default/web:http (IPv4) has no EndpointSlice");
        assert!(finding.remedy.contains("kubectl -n default describe service web"), "{finding:?}");
        let local = |kept| Why::NoneLocal { elsewhere: 1, kept };
        assert_eq!(found(local(LocalPolicyScope::External))[0].severity, Severity::Note);
        assert_eq!(found(local(LocalPolicyScope::Internal))[0].severity, Severity::Warning);
        assert_eq!(check(&[]), []);
    }
}
