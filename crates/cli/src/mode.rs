//! The proxy mode of the rules in the kernel, used if neither a flag nor the configuration sets one.

use std::thread::{self, JoinHandle};

use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_config::ProxyMode;
use rulegen_kernel::iptables::{Variant, holds_chain, legacy_tables};
use rulegen_kernel::nftables::{DataplaneError, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::Table;
use rulegen_ruleset::nftables::Name;

use crate::problems::say;

/// The mode of the rules in the kernel: nftables if rulegen's table exists, or kube-proxy's without
/// chains of iptables mode. Otherwise, or without the permission to read the tables, none.
pub(crate) fn detect(table: &Name) -> Option<ProxyMode> {
    let is_nftables = has_table(table).and_then(|has_ours| {
        Ok(has_ours || has_table(&Name::from(KUBE_PROXY_TABLE))? && variants_in_use().is_empty())
    });
    match is_nftables {
        Ok(true) => Some(ProxyMode::Nftables),
        Ok(false) => None,
        Err(error) => {
            tracing::info!(%error, "cannot detect the proxy mode");
            None
        }
    }
}

fn has_table(name: &Name) -> Result<bool, DataplaneError> {
    tables(&mut NfTables::open()?, name).map(|tables| !tables.is_empty())
}

/// The families that have a table of this name.
fn tables(kernel: &mut NfTables, name: &Name) -> Result<Vec<IpFamily>, DataplaneError> {
    let mut families = Vec::new();
    for family in IpFamily::BOTH {
        if kernel.has_all(&[(family, name)])? {
            families.push(family);
        }
    }
    Ok(families)
}

/// The variants of iptables with rules of kube-proxy or of rulegen.
pub(crate) fn variants_in_use() -> Vec<Variant> {
    let in_use = |variant: &Variant| {
        may_have_nat(*variant) && holds_chain(*variant, Table::Nat, "KUBE-SERVICES")
    };
    Variant::ALL.into_iter().filter(in_use).collect()
}

/// Whether the variant has a nat table. Unlike reading the table, this starts no program.
fn may_have_nat(variant: Variant) -> bool {
    match variant {
        Variant::Nft => has_table(&Name::from("nat")).unwrap_or(true),
        Variant::Legacy => {
            let is_nat = |(_, table): &(IpFamily, Table)| *table == Table::Nat;
            legacy_tables().map_or(true, |tables| tables.keys().any(is_nat))
        }
    }
}

/// A search for rules of the other mode, in a thread: where iptables has a nat table, it takes 10 to
/// 30 ms.
pub(crate) struct OtherMode {
    mode: ProxyMode,
    found: Option<JoinHandle<Vec<String>>>,
}

impl OtherMode {
    /// Starts the search for rules of the mode that is not `mode`.
    pub(crate) fn search(mode: ProxyMode, table: &Name) -> Self {
        let table = table.clone();
        let search = move || match mode {
            ProxyMode::Iptables => tables_in_use(&table),
            ProxyMode::Nftables => {
                let variants = variants_in_use().into_iter();
                variants.map(|variant| format!("KUBE-* chains of iptables-{variant}")).collect()
            }
        };
        Self { mode, found: thread::Builder::new().spawn(search).ok() }
    }

    /// Prints a warning if there are any.
    pub(crate) fn warn(self) {
        let found = self.found.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if found.is_empty() {
            return;
        }
        let other = match self.mode {
            ProxyMode::Iptables => ProxyMode::Nftables,
            ProxyMode::Nftables => ProxyMode::Iptables,
        };
        say(&format!(
            "warning: the mode is {}, but the kernel also has rules of {} mode, which still translate \
             packets: {} (set --proxy-mode {1}, or run `rulegen cleanup` first to change the mode)",
            self.mode.word(),
            other.word(),
            found.join(", ")
        ));
    }
}

/// The tables of nftables mode. Tables that cannot be read count as absent.
fn tables_in_use(table: &Name) -> Vec<String> {
    let Ok(mut kernel) = NfTables::open() else { return Vec::new() };
    let names = [table.clone(), Name::from(KUBE_PROXY_TABLE)];
    let found = names.iter().flat_map(|name| {
        let families = tables(&mut kernel, name).unwrap_or_default().into_iter();
        families.map(move |family| format!("table {} {name}", family.nft_name()))
    });
    found.collect()
}
