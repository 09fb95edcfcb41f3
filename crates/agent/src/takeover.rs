//! Takes away what another mode, or kube-proxy, left: `rulegen cleanup`, and the agent once its own
//! rules are in.
//!
//! While two sets of rules are there, each connection is translated once: of all nat chains of a
//! hook the first that translates it settles it for good (nf_nat_inet_fn). Both sets mark what is
//! to be masqueraded with the same bit, and whoever masquerades first takes it away. What a set
//! refuses it knows by the address of the Service, which a connection that the other translated no
//! longer has. So the new rules come first, and then the old ones go: of iptables the table
//! `filter` first, so that nothing is refused that the older rules do not translate any more; of
//! nftables the table with all that is in it, at once.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rulegen_compiler::family as family_of;
use rulegen_compiler::iptables::removal_of_everything;
use rulegen_kernel::host;
use rulegen_kernel::iptables::{self, Iptables, Variant, is_installed};
use rulegen_kernel::nftables::{self, NfTables};
use rulegen_kernel::privileges::{self, Capability};
use rulegen_model::{IpFamily, ProxyMode};
use rulegen_ruleset::Family;
use rulegen_ruleset::iptables::{Table, Transaction};
use rulegen_ruleset::nftables::Name;

use crate::options::Options;
use crate::threads;

/// What kube-proxy's table is called (pkg/proxy/nftables/proxier.go).
pub const KUBE_PROXY_TABLE: &str = "kube-proxy";

/// What ours is called, unless it was given another name.
const DEFAULT_TABLE: &str = "rulegen";

/// What was taken out of the tables of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// In words.
    pub summary: String,
    /// Whether there was nothing to take.
    pub was_clean: bool,
    /// Chains that had to stay, because a rule of somebody else's leads to them.
    pub kept: Vec<(Table, String)>,
}

/// Deletes tables of nftables, each with all that is in it, in both families. Returns those that
/// were there.
///
/// # Errors
/// None was deleted.
pub fn delete_tables(names: &[Name]) -> Result<Vec<(Family, Name)>, nftables::Error> {
    let tables = in_both_families(names);
    match NfTables::open().and_then(|mut kernel| kernel.delete(&tables)) {
        Err(error) if error.is_absence() => Ok(Vec::new()),
        deleted => deleted,
    }
}

/// Tables of nftables that are there, in either family.
///
/// # Errors
/// The kernel does not say.
pub fn find_tables(names: &[Name]) -> Result<Vec<(Family, Name)>, nftables::Error> {
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

/// One that was named twice would be gone the second time, and the whole refused.
fn in_both_families(names: &[Name]) -> Vec<(Family, Name)> {
    let names: BTreeSet<&Name> = names.iter().collect();
    let families = [Family::Ipv4, Family::Ipv6].into_iter();
    families.flat_map(|family| names.iter().map(move |name| (family, Name::clone(name)))).collect()
}

/// What [`clean_iptables`] would do.
///
/// # Errors
/// The tables cannot be read.
pub fn plan_cleaning(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
) -> Result<Cleaned, iptables::Error> {
    clean(&Iptables::new(family_of(family), variant, lock_timeout), |_| Ok(()))
}

/// Takes everything that rulegen or kube-proxy made out of the tables of one variant of iptables.
///
/// # Errors
/// Of a table that iptables-restore refused, nothing was taken.
pub fn clean_iptables(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
) -> Result<Cleaned, iptables::Error> {
    let iptables = Iptables::new(family_of(family), variant, lock_timeout);
    clean(&iptables, |transaction| iptables.restore(transaction).map(drop))
}

fn clean(
    iptables: &Iptables,
    restore: impl FnOnce(&Transaction<'_>) -> Result<(), iptables::Error>,
) -> Result<Cleaned, iptables::Error> {
    let held = iptables.save()?;
    let (transaction, kept) = removal_of_everything(&held);
    if !transaction.is_empty() {
        restore(&transaction)?;
    }
    let kept = kept.into_iter().map(|(table, chain)| (table, chain.to_string()));
    let was_clean = transaction.is_empty();
    Ok(Cleaned { summary: transaction.summary(), was_clean, kept: kept.collect() })
}

/// Starts the thread that cleans up once it is told that the agent's own rules are in, which
/// is what the returned function does. It keeps the privileges that iptables-legacy takes and nftables does not,
/// and ends when it is done. In iptables mode the variant in use must be known by then.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    options: &Options,
    in_use: Arc<OnceLock<Variant>>,
) -> Result<Box<dyn FnOnce() + Send>> {
    let (sender, receiver) = mpsc::channel();
    let (mode, table) = (options.config.mode, options.table.clone());
    let lock_timeout = options.iptables_lock_timeout;
    threads::start("takeover", move || {
        privileges::drop_to(&[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW]);
        // The agent may end without ever having its rules in: then the old ones are all there are.
        if receiver.recv().is_ok() {
            let remains = remains(mode, &table, in_use.get().copied());
            let were_chains = persist(remains, |remains| remains.remove(lock_timeout));
            if were_chains && mode == ProxyMode::Nftables {
                warn_of_localnet();
            }
        }
    })?;
    Ok(Box::new(move || {
        let _ = sender.send(());
    }))
}

/// What may be left of another mode.
#[derive(Debug)]
enum Remains {
    Tables(Vec<Name>),
    Chains(IpFamily, Variant),
}

/// Everything that does not belong to the mode, and in iptables mode to the variant in use.
fn remains(mode: ProxyMode, table: &Name, in_use: Option<Variant>) -> Vec<Remains> {
    // Ours may have had the name that it has by default.
    let mut tables = vec![Name::from(KUBE_PROXY_TABLE), Name::from(DEFAULT_TABLE), table.clone()];
    tables.sort();
    tables.dedup();
    let variants: Vec<Variant> = match (mode, in_use) {
        (ProxyMode::Nftables, _) => {
            tables.retain(|name| name != table);
            Variant::ALL.into()
        }
        (ProxyMode::Iptables, in_use) => {
            let others = Variant::ALL.into_iter().filter(|variant| in_use != Some(*variant));
            others.filter(|_| in_use.is_some()).collect()
        }
    };
    let families = |variant| IpFamily::BOTH.map(|family| Remains::Chains(family, variant));
    let chains = variants.into_iter().flat_map(families);
    std::iter::once(Remains::Tables(tables)).chain(chains).collect()
}

impl Remains {
    /// Says whether there were chains of iptables.
    fn remove(&self, lock_timeout: Duration) -> Result<bool> {
        match self {
            Remains::Tables(names) => {
                for (family, name) in delete_tables(names)? {
                    tracing::info!(family = family.word(), %name, "a table of old was deleted");
                }
                Ok(false)
            }
            // Where the program is not there, its rules cannot be looked for.
            Remains::Chains(family, variant) if !is_installed(family_of(*family), *variant) => {
                Ok(false)
            }
            Remains::Chains(family, variant) => {
                let cleaned = clean_iptables(*family, *variant, lock_timeout)?;
                let (family, done) = (family.api_name(), cleaned.summary);
                if !cleaned.was_clean {
                    tracing::info!(family, %variant, done, "rules of old were taken from iptables");
                }
                for (table, chain) in cleaned.kept {
                    tracing::info!(%table, chain, "kept: a rule that is not ours leads to it");
                }
                Ok(!cleaned.was_clean)
            }
        }
    }
}

/// The guard against neighbours may have gone with the rules.
fn warn_of_localnet() {
    if host::routes_localnet() {
        tracing::warn!(
            "the sysctl net.ipv4.conf.all.route_localnet is 1, which nftables mode has no use for: \
             set it to 0 unless something else needs it"
        );
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Does each until it succeeds, with growing pauses. Says whether one of them says yes.
fn persist(mut left: Vec<Remains>, remove: impl Fn(&Remains) -> Result<bool>) -> bool {
    let (mut any, mut pause) = (false, FIRST_PAUSE);
    loop {
        left.retain(|remains| match remove(remains) {
            Ok(one) => {
                any |= one;
                false
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, ?remains, "rules of old may be left: it is tried again");
                true
            }
        });
        if left.is_empty() {
            return any;
        }
        thread::sleep(pause);
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mode: ProxyMode, table: &str, in_use: Option<Variant>) -> String {
        format!("{:?}", remains(mode, &Name::from(table), in_use))
    }

    #[test]
    fn what_is_in_use_stays() {
        let nftables = told(ProxyMode::Nftables, "rulegen", None);
        assert!(nftables.contains("kube-proxy") && !nftables.contains("rulegen"), "{nftables}");
        assert!(nftables.contains("Nft") && nftables.contains("Legacy"), "{nftables}");
        let as_kube_proxy = told(ProxyMode::Nftables, "kube-proxy", None);
        assert!(!as_kube_proxy.contains("kube-proxy"), "{as_kube_proxy}");
        let iptables = told(ProxyMode::Iptables, "rulegen", Some(Variant::Nft));
        assert!(iptables.contains("kube-proxy") && iptables.contains("rulegen"), "{iptables}");
        assert!(!iptables.contains("Nft") && iptables.contains("Legacy"), "{iptables}");
        let unknown = told(ProxyMode::Iptables, "rulegen", None);
        assert!(!unknown.contains("Chains"), "{unknown}");
    }
}
