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

mod guard;
mod leftovers;
mod truce;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rulegen_compiler::iptables::removal_of_everything;
use rulegen_kernel::iptables::{self, Iptables, Variant};
use rulegen_kernel::nftables::{self, NfTables};
use rulegen_kernel::privileges::{self, Capability};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Ruleset, Table, Transaction};
use rulegen_ruleset::nftables::Name;

use crate::drift::Drift;
use crate::error::Result;
use crate::options::Options;
use crate::source::Sink;
use crate::threads;

use guard::Guard;
use leftovers::leftovers;

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
pub fn delete_tables(names: &[Name]) -> Result<Vec<(IpFamily, Name)>, nftables::Error> {
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
pub fn find_tables(names: &[Name]) -> Result<Vec<(IpFamily, Name)>, nftables::Error> {
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
fn in_both_families(names: &[Name]) -> Vec<(IpFamily, Name)> {
    let names: BTreeSet<&Name> = names.iter().collect();
    let families = [IpFamily::Ipv4, IpFamily::Ipv6].into_iter();
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
    clean(&Iptables::new(family, variant, lock_timeout), |_| true, |_| Ok(()))
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
    clean_iptables_if(family, variant, lock_timeout, |_| true)
}

/// The same, where what is held is to be removed at all.
fn clean_iptables_if(
    family: IpFamily,
    variant: Variant,
    lock_timeout: Duration,
    is_unwanted: impl FnOnce(&Ruleset) -> bool,
) -> Result<Cleaned, iptables::Error> {
    let iptables = Iptables::new(family, variant, lock_timeout);
    clean(&iptables, is_unwanted, |transaction| iptables.restore(transaction).map(drop))
}

fn clean(
    iptables: &Iptables,
    is_unwanted: impl FnOnce(&Ruleset) -> bool,
    restore: impl FnOnce(&Transaction<'_>) -> Result<(), iptables::Error>,
) -> Result<Cleaned, iptables::Error> {
    let held = iptables.save()?;
    if !is_unwanted(&held) {
        return Ok(Cleaned { summary: String::new(), was_clean: true, kept: Vec::new() });
    }
    let (transaction, kept) = removal_of_everything(&held);
    if !transaction.is_empty() {
        restore(&transaction)?;
    }
    let kept = kept.into_iter().map(|(table, chain)| (table, chain.to_string()));
    let was_clean = transaction.is_empty();
    Ok(Cleaned { summary: transaction.summary(), was_clean, kept: kept.collect() })
}

/// What became of rules of another mode that somebody made while the agent runs.
#[derive(Debug)]
pub(crate) enum Intrusion {
    /// They were removed.
    Removed(Drift),
    /// They are left for so long: somebody makes them again each time.
    Left(Drift, Duration),
}

/// Starts the thread that cleans up once the agent's own rules are in, which the returned function
/// says, and from then on removes what somebody makes of another mode. It keeps the privileges that
/// iptables-legacy takes and nftables does not. In iptables mode the variant in use must be known by
/// then.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    options: &Options,
    in_use: Arc<OnceLock<Variant>>,
    sink: Sink,
) -> Result<Box<dyn FnOnce() + Send>> {
    let (sender, receiver) = mpsc::channel();
    let (mode, table) = (options.config.mode, options.table.clone());
    let lock_timeout = options.iptables_lock_timeout;
    threads::start("takeover", move || {
        privileges::drop_to(&[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW]);
        // The agent may end without ever having its rules in: then the old ones are all there are.
        if receiver.recv().is_ok() {
            let leftovers = leftovers(mode, &table, in_use.get().copied());
            Guard::new(mode, leftovers, lock_timeout, sink).run();
        }
    })?;
    Ok(Box::new(move || {
        let _ = sender.send(());
    }))
}
