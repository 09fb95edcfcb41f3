//! Leftover rules of another proxy mode, and how to remove them.

use std::collections::BTreeSet;
use std::time::Duration;

use rulegen_compiler::iptables::leads_to_services;
use rulegen_compiler::nftables::{DEFAULT_TABLE, KUBE_PROXY_TABLE};
use rulegen_config::ProxyMode;
use rulegen_kernel::iptables::{Access, Variant, is_accessible, legacy_tables};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::Name;

use super::removal::{clean_iptables_if, delete_tables};
use crate::error::{Error, Result};

/// A place where leftovers of another mode may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// nftables tables.
    Tables(Vec<Name>),
    /// Chains of an iptables variant, in both families.
    Chains(Variant),
}

/// All places that do not belong to the mode, or in iptables mode to the variant in use.
pub(super) fn leftovers(mode: ProxyMode, table: &Name, in_use: Option<Variant>) -> Vec<Leftovers> {
    // Includes the default name, which an earlier agent may have used.
    let tables = [Name::from(KUBE_PROXY_TABLE), Name::from(DEFAULT_TABLE), table.clone()];
    let mut tables = BTreeSet::from(tables);
    let variants: Vec<Variant> = match (mode, in_use) {
        (ProxyMode::Nftables, _) => {
            tables.remove(table);
            Variant::ALL.into()
        }
        (ProxyMode::Iptables, in_use) => {
            let others = Variant::ALL.into_iter().filter(|variant| in_use != Some(*variant));
            others.filter(|_| in_use.is_some()).collect()
        }
    };
    let tables = Leftovers::Tables(tables.into_iter().collect());
    std::iter::once(tables).chain(variants.into_iter().map(Leftovers::Chains)).collect()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RemovalContext {
    /// A program was seen writing there.
    pub(super) were_seen: bool,
    /// The leftovers found at startup were removed before.
    pub(super) is_again: bool,
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// A summary for people, one entry per table or family.
    pub(super) what: Vec<String>,
    /// Chains that had to be kept, for people.
    pub(super) kept: Vec<String>,
}

impl Leftovers {
    /// Removes the leftovers in both families, even if one family fails. If the iptables program is
    /// not installed, its rules can be neither read nor removed; this is an error only if a writer
    /// was seen. After the first removal, chains that kubelet also creates are kept if there are no
    /// others: kubelet before 1.28 recreates them every minute.
    pub(super) fn remove(
        &self,
        lock_timeout: Duration,
        context: RemovalContext,
    ) -> Result<Removed> {
        match self {
            Self::Tables(names) => {
                let tables = delete_tables(names)?;
                let what =
                    tables.iter().map(|(of, name)| format!("{} table {name}", of.nft_name()));
                Ok(Removed { what: what.collect(), kept: Vec::new() })
            }
            // Running the iptables programs needs more privileges than checking that there are no
            // tables.
            Self::Chains(Variant::Legacy) if legacy_tables().is_ok_and(|all| all.is_empty()) => {
                Ok(Removed::default())
            }
            Self::Chains(variant) => remove_chains(*variant, lock_timeout, context),
        }
    }
}

fn has_service_chains(ruleset: &Ruleset) -> bool {
    let mut chains = ruleset.tables.values().flat_map(|chains| chains.keys());
    chains.any(|chain| leads_to_services(chain.as_str()))
}

fn remove_chains(
    variant: Variant,
    lock_timeout: Duration,
    context: RemovalContext,
) -> Result<Removed> {
    let mut removed = Removed::default();
    let mut failed = Vec::new();
    for family in IpFamily::BOTH {
        if !context.were_seen && !is_accessible(family, variant, Access::default()) {
            continue;
        }
        let is_unwanted = |ruleset: &Ruleset| !context.is_again || has_service_chains(ruleset);
        match clean_iptables_if(family, variant, lock_timeout, is_unwanted) {
            Ok(cleaned) => {
                let name = family.api_name();
                if !cleaned.was_clean {
                    removed.what.push(format!("{name} (iptables-{variant}): {}", cleaned.summary));
                }
                let kept = cleaned.kept.into_iter();
                removed.kept.extend(kept.map(|(table, chain)| format!("{name} {table} {chain}")));
            }
            Err(error) => failed.push((family, error)),
        }
    }
    match failed.is_empty() {
        true => Ok(removed),
        false => Err(Error::IptablesFamilies(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mode: ProxyMode, table: &str, in_use: Option<Variant>) -> String {
        format!("{:?}", leftovers(mode, &Name::from(table), in_use))
    }

    #[test]
    fn leftovers_exclude_the_table_and_variant_in_use() {
        let nftables = found(ProxyMode::Nftables, "rulegen", None);
        assert!(nftables.contains("kube-proxy") && !nftables.contains("rulegen"), "{nftables}");
        assert!(nftables.contains("Nft") && nftables.contains("Legacy"), "{nftables}");
        let as_kube_proxy = found(ProxyMode::Nftables, "kube-proxy", None);
        assert!(!as_kube_proxy.contains("kube-proxy"), "{as_kube_proxy}");
        let iptables = found(ProxyMode::Iptables, "rulegen", Some(Variant::Nft));
        assert!(iptables.contains("kube-proxy") && iptables.contains("rulegen"), "{iptables}");
        assert!(!iptables.contains("Nft") && iptables.contains("Legacy"), "{iptables}");
        let unknown = found(ProxyMode::Iptables, "rulegen", None);
        assert!(!unknown.contains("Chains"), "{unknown}");
    }
}
