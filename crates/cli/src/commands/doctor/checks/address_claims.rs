//! Addresses and ports that several Services claim.

use anyhow::Result;
use rulegen_model::{Contest, contests};

use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::Rim;

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    rim.with_cluster(|cluster| Ok(Outcome::Found(check(&contests(&cluster.snapshot)))))
}

fn check(contests: &[Contest]) -> Vec<Finding> {
    contests.iter().filter_map(finding).collect()
}

fn finding(contest: &Contest) -> Option<Finding> {
    let Contest { place, protocol, claimants } = contest;
    let (first, others) = claimants.split_first()?;
    let protocol = protocol.lower_case().to_uppercase();
    let list = |words: Vec<String>| words.join(" and ");
    let losers = list(others.iter().map(ToString::to_string).collect());
    let remedy = others
        .iter()
        .map(|other| format!("give Service {} another {}", other.port, other.role.field()));
    Some(Finding::warning(
        format!("{place} ({protocol}) is claimed by {first} and by {losers}: the first gets it"),
        list(remedy.collect()),
    ))
}

#[cfg(test)]
mod tests {
    use rulegen_model::{Claimant, Place, Protocol, Role, ServicePortName};

    use super::*;

    #[test]
    fn the_winner_and_the_field_to_change_are_named() {
        let claimant = |service: &str| Claimant {
            port: ServicePortName {
                namespace: "default".into(),
                service: service.into(),
                port: "".into(),
                protocol: Protocol::Tcp,
            },
            role: Role::NodePort,
        };
        let claimants = vec![claimant("a"), claimant("b")];
        let contest = Contest { place: Place::NodePort(30000), protocol: Protocol::Tcp, claimants };
        let [finding] = &check(&[contest])[..] else { panic!("one is wrong") };
        assert_eq!(
            finding.what,
            "node port 30000 (TCP) is claimed by Service default/a (spec.ports[].nodePort) and by \
             Service default/b (spec.ports[].nodePort): the first gets it"
        );
        assert_eq!(finding.remedy, "give Service default/b another spec.ports[].nodePort");
    }
}
