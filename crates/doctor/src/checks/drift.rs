//! Checks whether the rules in the kernel are in sync with the objects. If all Services of the input
//! were left out, the rules of running Services would look unexpected, and applying the input would
//! remove them.

use crate::error::FactResult;
use rulegen_compiler::iptables::OURS;
use rulegen_config::ProxyMode;
use rulegen_kernel::nftables::Dataplane;
use rulegen_model::Snapshot;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::diff;
use rulegen_ruleset::nftables::{self, EditAction, Name};

use super::rules_present::are_there;
use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::{NodeFacts, has_services, nf_tables, no_services};

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    node.with_cluster(|cluster| {
        if !cluster.objects.services.is_empty() && !has_services(&cluster.snapshot) {
            return Ok(no_services());
        }
        if !are_there(node)? {
            return Ok(CheckResult::NotChecked("no rules exist (see rules-present)".to_owned()));
        }
        let drifted = match node.config().mode {
            ProxyMode::Nftables => drifted_tables(node, &cluster.snapshot)?,
            ProxyMode::Iptables => drifted_iptables(node, &cluster.snapshot)?,
        };
        Ok(CheckResult::Found(check(&drifted, &flags(node)?)))
    })
}

/// The flags with which other commands look at the same rules.
fn flags(node: &NodeFacts) -> FactResult<String> {
    let mode = node.config().mode;
    Ok(match mode {
        ProxyMode::Nftables => format!("--proxy-mode {}", mode.word()),
        ProxyMode::Iptables => {
            format!("--proxy-mode {} --iptables-variant {}", mode.word(), node.variant()?)
        }
    })
}

/// Differences in a table, or in an iptables variant.
struct Drifted {
    /// `table ip rulegen`, `iptables-nft`
    place: String,
    /// Number of differences, in words.
    extent: String,
}

fn drifted_tables(node: &NodeFacts, snapshot: &Snapshot) -> FactResult<Vec<Drifted>> {
    let desired = node.desired_tables(snapshot);
    let names: Vec<(IpFamily, &Name)> =
        desired.iter().map(|table| (table.family, &table.name)).collect();
    let Some(mut kernel) = nf_tables()? else { return Ok(Vec::new()) };
    let (_, actual) = kernel.read(&names)?;
    let mut drifted = Vec::new();
    for (actual, desired) in actual.iter().zip(&desired) {
        let transaction = nftables::diff(actual.as_ref(), desired);
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
            place: format!("table {} {}", desired.family.nft_name(), desired.name),
            extent: format!("{new} rules and elements missing, {gone} unexpected"),
        });
    }
    Ok(drifted)
}

fn drifted_iptables(node: &NodeFacts, snapshot: &Snapshot) -> FactResult<Vec<Drifted>> {
    let variant = node.variant()?;
    let mut drifted = Vec::new();
    for actual in node.iptables()?.iter().filter(|actual| actual.variant == variant) {
        let desired = node.desired_ruleset(snapshot, actual.family);
        let transaction = diff(&actual.ruleset, &desired, &OURS);
        if !transaction.is_empty() {
            let changes = transaction.tables.iter().map(|table| table.changes.len()).sum::<usize>();
            let extent = format!("{changes} chains or jumps differ");
            drifted.push(Drifted { place: actual.words(), extent });
        }
    }
    Ok(drifted)
}

fn check(drifted: &[Drifted], flags: &str) -> Vec<Finding> {
    let finding = |Drifted { place, extent }: &Drifted| {
        Finding::error(
            FindingCode::OutOfSync,
            format!("{place} is out of sync with the objects: {extent}"),
            format!(
                "rulegen diff {flags} with the same other flags shows the differences; a running \
                 agent fixes them within seconds (check its /readyz and log), rulegen apply {flags} \
                 immediately"
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
        let texts: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            texts,
            [
                "iptables-nft is out of sync with the objects: 2 differ",
                "ip6tables-nft is out of sync with the objects: 2 differ"
            ]
        );
    }
}
