//! The installed variants of iptables, and the one that this node uses.

use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{Table, parse};

use super::error::IptablesError;
use super::program::Program;
use super::variant::Variant;

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
/// chains of table `mangle`, in either family; else the newer one. The wrapper in kube-proxy's
/// image uses the same chains and also checks the newer variant first.
///
/// # Errors
/// [`IptablesError::NotInstalled`] if there is none.
pub fn choose(marks: &[&str]) -> Result<Variant, IptablesError> {
    let installed = installed()?;
    let marked = installed
        .iter()
        .find(|variant| marks.iter().any(|mark| holds_chain(**variant, Table::Mangle, mark)));
    let chosen = marked.or(installed.first()).copied().unwrap_or(Variant::Nft);
    tracing::debug!(variant = %chosen, marked = marked.is_some(), "chose iptables variant");
    Ok(chosen)
}

/// True if a variant has the chain in either family.
pub fn holds_chain(variant: Variant, table: Table, chain: &str) -> bool {
    // No table is named here: iptables-legacy would load the table's module.
    let arguments: &[&str] = match variant {
        Variant::Nft => &["-t", table.name()],
        Variant::Legacy => &[],
    };
    [IpFamily::Ipv4, IpFamily::Ipv6].into_iter().any(|family| {
        // A family that cannot be read, for example without IPv6, has no chains.
        let saved = Program::new(family, variant, "save").run(arguments);
        let actual = saved.map(|text| parse(family, &text).0);
        actual.is_ok_and(|actual| actual.chain(table, &chain.into()).is_some())
    })
}
