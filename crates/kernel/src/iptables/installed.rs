//! The installed variants of iptables, and the one that this node uses.

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Table, parse};

use super::access::Access;
use super::error::IptablesError;
use super::legacy::legacy_tables;
use super::program::Program;
use super::variant::Variant;
use crate::nftables::NfTables;

/// The installed variants, the newer first.
///
/// # Errors
/// [`IptablesError::NotInstalled`] if there is none.
pub fn installed() -> Result<Vec<Variant>, IptablesError> {
    let there = |variant: &Variant| is_installed(IpFamily::Ipv4, *variant);
    let variants: Vec<Variant> = Variant::ALL.into_iter().filter(there).collect();
    match (variants.first(), probe(IpFamily::Ipv4, Variant::Nft)) {
        (None, Err(error)) => Err(error),
        _ => Ok(variants),
    }
}

/// True if the programs of a variant are installed for a family.
pub fn is_installed(family: IpFamily, variant: Variant) -> bool {
    !matches!(probe(family, variant), Err(IptablesError::NotInstalled { .. }))
}

fn probe(family: IpFamily, variant: Variant) -> Result<String, IptablesError> {
    Program::new(family, variant, "restore").run(&["--version"])
}

/// The variant that this node uses: the one in which kubelet created one of the `marks`, which are
/// chains of table `mangle`, in either family; else the newer installed one; else iptables-nft,
/// which needs no program. The wrapper in kube-proxy's image uses the same chains and also checks
/// the newer variant first. Warns if the kernel has rules of iptables-legacy but no program can read
/// them.
///
/// # Errors
/// The kernel has no nf_tables and no variant is installed.
pub fn choose(marks: &[&str], access: Access) -> Result<Variant, IptablesError> {
    let accessible = accessible(access)?;
    let is_marked =
        |variant: &&Variant| marks.iter().any(|mark| holds_chain(**variant, Table::Mangle, mark));
    let marked = accessible.iter().find(is_marked).copied();
    let first_installed = || installed().ok().and_then(|installed| installed.first().copied());
    let chosen = marked.or_else(first_installed).unwrap_or(Variant::Nft);
    if marked.is_none() && !accessible.contains(&Variant::Legacy) && has_legacy_rules() {
        tracing::warn!(
            chosen = %chosen,
            "the kernel has rules of iptables-legacy, which cannot be read because its programs are \
             not installed; if this node uses iptables-legacy, install them (Debian: apt-get install \
             iptables) or use the image with the iptables programs"
        );
    }
    tracing::debug!(variant = %chosen, marked = marked.is_some(), "chose iptables variant");
    Ok(chosen)
}

fn has_legacy_rules() -> bool {
    legacy_tables().is_ok_and(|all| all.iter().any(|((_, table), size)| size.has_rules(*table)))
}

/// True if the rules of a variant can be read and written for a family.
pub fn is_accessible(family: IpFamily, variant: Variant, access: Access) -> bool {
    match (variant, access) {
        (Variant::Nft, Access::Netlink) => has_nf_tables(),
        _ => is_installed(family, variant),
    }
}

/// The variants whose rules can be read and written, the newer first.
///
/// # Errors
/// [`IptablesError::NotInstalled`] if there is none.
pub fn accessible(access: Access) -> Result<Vec<Variant>, IptablesError> {
    match installed() {
        Ok(installed) if installed.contains(&Variant::Nft) => Ok(installed),
        installed if access == Access::Programs || !has_nf_tables() => installed,
        Ok(installed) => Ok([Variant::Nft].into_iter().chain(installed).collect()),
        Err(_) => Ok(vec![Variant::Nft]),
    }
}

fn has_nf_tables() -> bool {
    NfTables::open().and_then(|mut kernel| kernel.generation()).is_ok()
}

/// True if a variant has the chain in either family.
pub fn holds_chain(variant: Variant, table: Table, chain: &str) -> bool {
    let families = [IpFamily::Ipv4, IpFamily::Ipv6];
    match variant {
        Variant::Nft => {
            let Ok(mut kernel) = NfTables::open() else { return false };
            let chain = ChainName::from(chain);
            families
                .into_iter()
                .any(|family| kernel.has_iptables_chain(family, table, &chain).unwrap_or_default())
        }
        // No table is named here: iptables-legacy would load the table's module.
        Variant::Legacy => families.into_iter().any(|family| {
            // A family that cannot be read, for example without IPv6, has no chains.
            let saved = Program::new(family, variant, "save").run(&[]);
            let actual = saved.map(|text| parse(family, &text).0);
            actual.is_ok_and(|actual| actual.chain(table, &chain.into()).is_some())
        }),
    }
}
