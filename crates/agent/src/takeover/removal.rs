//! Removes nftables tables, and the chains of rulegen and kube-proxy in iptables.

use std::collections::BTreeSet;
use std::time::Duration;

use rulegen_compiler::iptables::removal_of_everything;
use rulegen_kernel::iptables::{self, Iptables, Restored, Variant};
use rulegen_kernel::nftables::{self, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Table, Transaction};
use rulegen_ruleset::nftables::Name;

/// What was removed from the iptables tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// A summary for people.
    pub summary: String,
    /// Whether there was nothing to remove.
    pub was_clean: bool,
    /// Chains that were kept because a foreign rule or map leads to them.
    pub kept: Vec<(Table, String)>,
}

/// Deletes nftables tables with all their contents, in both families. Returns those that existed.
///
/// # Errors
/// The kernel refused the request; no table was deleted.
pub fn delete_tables(names: &[Name]) -> Result<Vec<(IpFamily, Name)>, nftables::DataplaneError> {
    let tables = in_both_families(names);
    match NfTables::open().and_then(|mut kernel| kernel.delete(&tables)) {
        Err(error) if error.is_absence() => Ok(Vec::new()),
        deleted => deleted,
    }
}

/// The nftables tables of these names that exist, in either family.
///
/// # Errors
/// The kernel did not return the list of tables.
pub fn find_tables(names: &[Name]) -> Result<Vec<(IpFamily, Name)>, nftables::DataplaneError> {
    let find = |mut kernel: NfTables| {
        let mut found = Vec::new();
        for (family, name) in in_both_families(names) {
            if kernel.has_all(&[(family, &name)])? {
                found.push((family, name));
            }
        }
        Ok(found)
    };
    match NfTables::open().and_then(find) {
        Err(error) if error.is_absence() => Ok(Vec::new()),
        found => found,
    }
}

/// Each name once: a second delete of the same table would make the kernel refuse the whole batch.
fn in_both_families(names: &[Name]) -> Vec<(IpFamily, Name)> {
    let names: BTreeSet<&Name> = names.iter().collect();
    let families = [IpFamily::Ipv4, IpFamily::Ipv6].into_iter();
    families.flat_map(|family| names.iter().map(move |name| (family, Name::clone(name)))).collect()
}

/// A dry run of [`clean_iptables`].
///
/// # Errors
/// The tables cannot be read.
pub fn plan_cleaning(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
) -> Result<Cleaned, iptables::IptablesError> {
    clean(&Iptables::new(family, variant, lock_timeout), |_| true, |_| Ok(Restored::default()))
}

/// Removes all rules of rulegen and kube-proxy from the tables of one iptables variant.
///
/// # Errors
/// iptables-restore rejected a table, which is then unchanged.
pub fn clean_iptables(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
) -> Result<Cleaned, iptables::IptablesError> {
    clean_iptables_if(family, variant, lock_timeout, |_| true)
}

/// Like [`clean_iptables`], but only if `is_unwanted` is true for the current rules.
pub(super) fn clean_iptables_if(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
    is_unwanted: impl FnOnce(&Ruleset) -> bool,
) -> Result<Cleaned, iptables::IptablesError> {
    let iptables = Iptables::new(family, variant, lock_timeout);
    clean(&iptables, is_unwanted, |transaction| iptables.restore(transaction))
}

fn clean(
    iptables: &Iptables,
    is_unwanted: impl FnOnce(&Ruleset) -> bool,
    restore: impl FnOnce(&Transaction<'_>) -> Result<Restored, iptables::IptablesError>,
) -> Result<Cleaned, iptables::IptablesError> {
    let actual = iptables.save()?;
    if !is_unwanted(&actual) {
        return Ok(Cleaned { summary: String::new(), was_clean: true, kept: Vec::new() });
    }
    let (transaction, kept) = removal_of_everything(&actual);
    let restored = match transaction.is_empty() {
        true => Restored::default(),
        false => restore(&transaction)?,
    };
    // Only chains were left that cannot be deleted, and nothing was written.
    let kept_all = restored.commits == 0 && !restored.in_use.is_empty();
    let in_use = restored.in_use.into_iter().map(|of| (of.table, of.chain.to_string()));
    let kept = kept.into_iter().map(|(table, chain)| (table, chain.to_string())).chain(in_use);
    let was_clean = transaction.is_empty() || kept_all;
    Ok(Cleaned { summary: transaction.summary(), was_clean, kept: kept.collect() })
}
