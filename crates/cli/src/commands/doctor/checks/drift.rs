//! Checks whether the rules in the kernel are in sync with the objects.

use anyhow::Result;
use rulegen_compiler::iptables::OURS;
use rulegen_config::ProxyMode;
use rulegen_kernel::nftables::Dataplane;
use rulegen_model::Snapshot;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::diff;
use rulegen_ruleset::nftables::{self, EditAction, Name};

use super::rules_present::are_there;
use crate::commands::doctor::finding::{Finding, Outcome};
use crate::commands::doctor::rim::{Rim, nf_tables};

pub(super) fn run(rim: &Rim<'_>) -> Result<Outcome> {
    rim.with_cluster(|cluster| {
        if !are_there(rim)? {
            return Ok(Outcome::NotChecked("no rules exist (see rules-present)".to_owned()));
        }
        let drifted = match rim.config().mode {
            ProxyMode::Nftables => drifted_tables(rim, &cluster.snapshot)?,
            ProxyMode::Iptables => drifted_iptables(rim, &cluster.snapshot)?,
        };
        Ok(Outcome::Inputs(check(&drifted, rim.config().mode.word())))
    })
}

/// Differences in a table, or in an iptables variant.
struct Drifted {
    /// `table ip rulegen`, `iptables-nft`
    place: String,
    /// Number of differences, in words.
    extent: String,
}

fn drifted_tables(rim: &Rim<'_>, snapshot: &Snapshot) -> Result<Vec<Drifted>> {
    let wanted = rim.wanted_tables(snapshot);
    let names: Vec<(IpFamily, &Name)> =
        wanted.iter().map(|table| (table.family, &table.name)).collect();
    let Some(mut kernel) = nf_tables()? else { return Ok(Vec::new()) };
    let (_, held) = kernel.read(&names)?;
    let mut drifted = Vec::new();
    for (held, wanted) in held.iter().zip(&wanted) {
        let transaction = nftables::diff(held.as_ref(), wanted);
        if transaction.is_empty() {
            continue;
        }
        let count = |of: fn(&EditAction<'_>) -> bool| {
            transaction.edits().filter(|edit| of(&edit.action)).count()
        };
        let gone = count(|done| {
            matches!(done, EditAction::RuleDeleted(_) | EditAction::Element { added: false, .. })
        });
        let new = count(|done| {
            matches!(done, EditAction::RuleAdded(_) | EditAction::Element { added: true, .. })
        });
        drifted.push(Drifted {
            place: format!("table {} {}", wanted.family.nft_name(), wanted.name),
            extent: format!("{new} rules and elements missing, {gone} unexpected"),
        });
    }
    Ok(drifted)
}

fn drifted_iptables(rim: &Rim<'_>, snapshot: &Snapshot) -> Result<Vec<Drifted>> {
    let variant = rim.variant()?;
    let mut drifted = Vec::new();
    for held in rim.iptables()?.iter().filter(|held| held.variant == variant) {
        let wanted = rim.wanted_ruleset(snapshot, held.family);
        let transaction = diff(&held.ruleset, &wanted, &OURS);
        if !transaction.is_empty() {
            let changes = transaction.tables.iter().map(|table| table.changes.len()).sum::<usize>();
            let extent = format!("{changes} chains or jumps differ");
            drifted.push(Drifted { place: held.words(), extent });
        }
    }
    Ok(drifted)
}

fn check(drifted: &[Drifted], mode: &str) -> Vec<Finding> {
    let finding = |Drifted { place, extent }: &Drifted| {
        Finding::error(
            format!("{place} is out of sync with the objects: {extent}"),
            format!(
                "rulegen diff --proxy-mode {mode} with the same flags shows the differences; a \
                 running agent fixes them within seconds (check its /readyz and log), rulegen apply \
                 --proxy-mode {mode} immediately"
            ),
        )
    };
    drifted.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_reported_per_table() {
        let place =
            |place: &str| Drifted { place: place.to_owned(), extent: "2 differ".to_owned() };
        let found = check(&[place("iptables-nft"), place("ip6tables-nft")], "iptables");
        let told: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "iptables-nft is out of sync with the objects: 2 differ",
                "ip6tables-nft is out of sync with the objects: 2 differ"
            ]
        );
    }
}
