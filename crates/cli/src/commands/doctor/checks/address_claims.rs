//! Addresses and ports that several Services claim.

use anyhow::Result;
use rulegen_model::{Contest, Place, Role, contests};

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    rim.with_cluster(|cluster| Ok(Outcome::Found(check(&contests(&cluster.snapshot)))))
}

fn check(contests: &[Contest]) -> Vec<Finding> {
    contests.iter().filter_map(finding).collect()
}

fn finding(contest: &Contest) -> Option<Finding> {
    let Contest { place, protocol, families, claimants } = contest;
    let (first, others) = claimants.split_first()?;
    let protocol = protocol.api_name();
    let over = match (place, families.as_slice()) {
        (Place::NodePort(_), [family]) => format!("{protocol}, {}", family.api_name()),
        _ => protocol.to_owned(),
    };
    let end = end(contest);
    let list = |words: Vec<String>| words.join(" and ");
    let losers = list(others.iter().map(ToString::to_string).collect());
    let remedy = others
        .iter()
        .map(|other| format!("give Service {} another {}", other.port, other.role.field()));
    Some(Finding::warning(
        format!("{place} ({over}) is claimed by {first} and by {losers}: {end}"),
        list(remedy.collect()),
    ))
}

/// What becomes of the traffic.
fn end(contest: &Contest) -> &'static str {
    let claimants = &contest.claimants;
    let is_asked = |role| role == Role::HealthCheckNodePort;
    if claimants.first().is_some_and(|first| first.forwards) {
        "the first gets it, as the first by name that has endpoints"
    } else if claimants.iter().all(|claimant| is_asked(claimant.role)) {
        "load balancers are answered for the first"
    } else if claimants.iter().any(|claimant| is_asked(claimant.role)) {
        "load balancers may be refused there"
    } else {
        "the first refuses it, as none has endpoints"
    }
}

#[cfg(test)]
mod tests {
    use rulegen_model::Claimant;
    use rulegen_net::{IpFamily, Protocol, ServicePortName};

    use super::*;

    fn claimant(service: &str, role: Role, forwards: bool) -> Claimant {
        let port = ServicePortName {
            namespace: "default".into(),
            service: service.into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        Claimant { port, role, forwards }
    }

    fn contest(families: &[IpFamily], claimants: [Claimant; 2]) -> Contest {
        let (families, claimants) = (families.to_vec(), claimants.to_vec());
        Contest { place: Place::NodePort(30000), protocol: Protocol::Tcp, families, claimants }
    }

    #[test]
    fn the_winner_and_the_field_to_change_are_named() {
        let claimants =
            [("b", true), ("a", false)].map(|(name, has)| claimant(name, Role::NodePort, has));
        let found = check(&[contest(&IpFamily::BOTH, claimants.clone())]);
        let [finding] = &found[..] else { panic!("one is wrong") };
        assert_eq!(
            finding.what,
            "node port 30000 (TCP) is claimed by Service default/b (spec.ports[].nodePort) and by \
             Service default/a (spec.ports[].nodePort): the first gets it, as the first by name \
             that has endpoints"
        );
        assert_eq!(finding.remedy, "give Service default/a another spec.ports[].nodePort");
        let found = check(&[contest(&[IpFamily::Ipv6], claimants)]);
        assert!(found[0].what.starts_with("node port 30000 (TCP, IPv6) is claimed"), "{found:?}");
    }

    #[test]
    fn without_endpoints_nobody_gets_it() {
        for (roles, end) in [
            ([Role::NodePort; 2], "the first refuses it, as none has endpoints"),
            ([Role::HealthCheckNodePort; 2], "load balancers are answered for the first"),
            ([Role::NodePort, Role::HealthCheckNodePort], "load balancers may be refused there"),
        ] {
            let [first, second] = roles;
            let claimants = [claimant("a", first, false), claimant("b", second, false)];
            let found = check(&[contest(&IpFamily::BOTH, claimants)]);
            assert!(found[0].what.ends_with(&format!(": {end}")), "{found:?}");
        }
    }
}
