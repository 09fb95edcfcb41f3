//! NAT chains of any table that may translate Service traffic. Of all nat chains of a hook, the
//! first that translates a connection decides (nf_nat_inet_fn of the kernel).

use std::collections::{BTreeMap, BTreeSet};

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;

use super::read::Interrupted;
use super::socket::NfTablesSocket;
use super::{ATTEMPTS, DataplaneError, NfTables, attribute};
use crate::netlink::Dumped;

/// A base chain of type nat at prerouting or output that leads to rules with NAT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatBaseChain {
    /// Families of the packets that it sees.
    pub families: Vec<IpFamily>,
    /// Family of its table, as in nft(8).
    pub table_family: &'static str,
    /// Name of the table that has the chain.
    pub table: String,
    /// Name.
    pub chain: String,
    /// Hook priority: lower runs first.
    pub priority: i32,
}

impl NfTables {
    /// Base chains that may translate, directly or through chains that they lead to, at this
    /// priority or an earlier one, ordered. Skips excluded tables, given by nft's family keyword
    /// and name, because a large table takes long to read.
    ///
    /// # Errors
    /// [`DataplaneError::Unreachable`], or [`DataplaneError::Busy`].
    pub fn nat_base_chains(
        &mut self,
        up_to: i32,
        is_left_out: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<NatBaseChain>, DataplaneError> {
        let counts = |base: &Base| {
            let family = base.words().map(|(word, _)| word);
            base.priority <= up_to && family.is_some_and(|word| !is_left_out(word, &base.table))
        };
        for _ in 0..ATTEMPTS {
            match self.nat_base_chains_once(counts) {
                Ok(nat_base_chains) => return Ok(nat_base_chains),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {}
            }
        }
        Err(DataplaneError::Busy { attempts: ATTEMPTS })
    }

    fn nat_base_chains_once(
        &mut self,
        counts: impl Fn(&Base) -> bool,
    ) -> Result<Vec<NatBaseChain>, Interrupted> {
        let bases: Vec<Base> = base_chains(&mut self.socket)?.into_iter().filter(counts).collect();
        let tables: BTreeSet<(u8, &str)> =
            bases.iter().map(|base| (base.family, base.table.as_str())).collect();
        let mut nat_base_chains = Vec::new();
        for (family, table) in tables {
            let chains = leads(&mut self.socket, family, table)?;
            let of_table = bases.iter().filter(|b| (b.family, b.table.as_str()) == (family, table));
            let translating = of_table.filter(|base| may_translate(&chains, &base.chain));
            nat_base_chains.extend(translating.filter_map(Base::nat_base_chain));
        }
        nat_base_chains.sort_unstable();
        nat_base_chains.dedup();
        Ok(nat_base_chains)
    }
}

struct Base {
    family: u8,
    table: String,
    chain: String,
    priority: i32,
}

/// The effect of a chain's rules on NAT.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leads {
    translates: bool,
    /// True if the chain uses a verdict map, which may lead to any chain of its table.
    anywhere: bool,
    to: BTreeSet<String>,
}

pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;
/// NFPROTO_INET of linux/netfilter.h: both.
pub(super) const INET: u8 = 1;

impl Base {
    /// nft's keyword for the family of its table, and the families of the packets that it sees.
    fn words(&self) -> Option<(&'static str, Vec<IpFamily>)> {
        match self.family {
            IPV4 => Some(("ip", vec![IpFamily::Ipv4])),
            IPV6 => Some(("ip6", vec![IpFamily::Ipv6])),
            INET => Some(("inet", vec![IpFamily::Ipv4, IpFamily::Ipv6])),
            _ => None,
        }
    }

    fn nat_base_chain(&self) -> Option<NatBaseChain> {
        let (table_family, families) = self.words()?;
        let Self { table, chain, priority, .. } = self;
        let (table, chain, priority) = (table.clone(), chain.clone(), *priority);
        Some(NatBaseChain { families, table_family, table, chain, priority })
    }
}

/// The nat chains of all tables at prerouting and output.
fn base_chains(socket: &mut NfTablesSocket) -> Result<Vec<Base>, Interrupted> {
    // NFTA_CHAIN_* and NFTA_HOOK_*, NF_INET_PRE_ROUTING and NF_INET_LOCAL_OUT.
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const TYPE: u16 = 7;
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const HOOKS: [u32; 2] = [0, 3];
    let base = |message: &[u8]| {
        let hook = attribute::find(message, HOOK)?;
        let number = |desired| {
            let (_, value) = attribute::each(hook).find(|(kind, _)| *kind == desired)?;
            value.try_into().ok().map(u32::from_be_bytes)
        };
        let is_ahead = attribute::text(message, TYPE)? == "nat" && HOOKS.contains(&number(NUMBER)?);
        is_ahead.then_some(Base {
            family: family(message)?,
            table: attribute::text(message, TABLE)?,
            chain: attribute::text(message, NAME)?,
            priority: number(PRIORITY)?.cast_signed(),
        })
    };
    let mut bases = Vec::new();
    dump(socket, libc::NFT_MSG_GETCHAIN, 0, None, |message| bases.extend(base(message)))?;
    Ok(bases)
}

/// The effect of each chain of a table.
fn leads(
    socket: &mut NfTablesSocket,
    of: u8,
    table: &str,
) -> Result<BTreeMap<String, Leads>, Interrupted> {
    let mut chains: BTreeMap<String, Leads> = BTreeMap::new();
    each_rule(socket, of, table, |chain, expressions| {
        let leads = chains.entry(chain).or_default();
        attribute::each(expressions).for_each(|(_, expression)| leads.take(expression));
    })?;
    Ok(chains)
}

/// Reads the rules of a table: the chain of each and its expressions, undecoded.
pub(super) fn each_rule(
    socket: &mut NfTablesSocket,
    of: u8,
    table: &str,
    mut take: impl FnMut(String, &[u8]),
) -> Result<(), Interrupted> {
    // NFTA_RULE_*.
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    dump(socket, libc::NFT_MSG_GETRULE, of, Some(table), |message| {
        let is_of_table = attribute::text(message, TABLE).as_deref() == Some(table);
        if !is_of_table || family(message) != Some(of) {
            return;
        }
        let Some(chain) = attribute::text(message, CHAIN) else { return };
        take(chain, attribute::find(message, EXPRESSIONS).unwrap_or_default());
    })
}

impl Leads {
    fn take(&mut self, expression: &[u8]) {
        // NFTA_EXPR_*, NFTA_TARGET_NAME, NFTA_LOOKUP_DREG and NFT_REG_VERDICT.
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        const TARGET: u16 = 1;
        const INTO: u16 = 3;
        const VERDICT: [u8; 4] = [0; 4];
        let data = inside(expression, DATA).unwrap_or_default();
        match inside(expression, NAME).map(attribute::string).as_deref() {
            Some("nat" | "redir") => self.translates = true,
            // Target of iptables-nft. Names other than the plain ones have a version number at the
            // end.
            Some("target") => {
                let target = inside(data, TARGET).map(attribute::string).unwrap_or_default();
                self.translates |= matches!(target.as_str(), "DNAT" | "REDIRECT" | "NETMAP");
            }
            Some("lookup") => self.anywhere |= inside(data, INTO) == Some(&VERDICT),
            Some("immediate") => self.to.extend(jump(data)),
            _ => {}
        }
    }
}

/// The chain of a verdict.
pub(super) fn jump(data: &[u8]) -> Option<String> {
    // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN.
    let verdict = inside(inside(data, 2)?, 2)?;
    inside(verdict, 2).map(attribute::string)
}

pub(super) fn inside(nested: &[u8], desired: u16) -> Option<&[u8]> {
    attribute::find_behind(nested, 0, desired)
}

/// True if a packet in this chain may match a rule with NAT.
fn may_translate(chains: &BTreeMap<String, Leads>, from: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(name) = next.pop() {
        let Some(chain) = chains.get(name) else { continue };
        if !seen.insert(name) {
            continue;
        }
        if chain.translates || chain.anywhere && chains.values().any(|chain| chain.translates) {
            return true;
        }
        next.extend(chain.to.iter().map(String::as_str));
    }
    false
}

/// Family of a message (struct nfgenmsg).
pub(super) fn family(message: &[u8]) -> Option<u8> {
    const BEHIND_HEADER: usize = 16;
    message.get(BEHIND_HEADER).copied()
}

/// Dumps all objects of a kind; family 0 means all families.
pub(super) fn dump(
    socket: &mut NfTablesSocket,
    kind: i32,
    family: u8,
    table: Option<&str>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Interrupted> {
    const TABLE: u16 = 1;
    let body = |header: &mut super::raw::MessageHeader<'_>| {
        if let Some(table) = table {
            header.text(TABLE, table);
        }
    };
    match socket.ask(kind, family.into(), true, body, &mut each)? {
        Dumped::Whole => Ok(()),
        Dumped::Interrupted | Dumped::Nothing => Err(Interrupted::Changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains<const N: usize>(chains: [(&str, bool, bool, &[&str]); N]) -> BTreeMap<String, Leads> {
        let leads = |(name, translates, anywhere, to): (&str, bool, bool, &[&str])| {
            let to = to.iter().map(|name| (*name).to_owned()).collect();
            (name.to_owned(), Leads { translates, anywhere, to })
        };
        chains.into_iter().map(leads).collect()
    }

    #[test]
    fn nat_chain_translates_through_chains_it_leads_to() {
        let table = chains([
            ("base", false, false, &["one", "gone"]),
            ("one", false, false, &["two", "base"]),
            ("two", true, false, &[]),
            ("apart", false, false, &["one-way"]),
            ("one-way", false, false, &[]),
            ("map", false, true, &[]),
        ]);
        for (chain, desired) in
            [("base", true), ("two", true), ("apart", false), ("map", true), ("none", false)]
        {
            assert_eq!(may_translate(&table, chain), desired, "{chain}");
        }
        let harmless = chains([("map", false, true, &[]), ("other", false, false, &[])]);
        assert!(!may_translate(&harmless, "map"));
    }
}
