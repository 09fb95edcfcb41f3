//! Reads chains and rules.
//!
//! The kernel walks a table from its start for each 32 KiB of a dump, so a dump of all rules of a
//! table costs the square of their number. Rules are read chain by chain, which the kernel finds by
//! name. The number of uses of a chain does not say whether it has rules: it counts those of commits
//! that are not yet made.

use std::collections::BTreeSet;

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::nf_tables::{BuiltInChain, decode};
use rulegen_ruleset::iptables::{Chain, ChainName, Policy, RuleWithHandle, Ruleset, Table};

use crate::netlink::{Dumped, attribute, family};
use crate::nftables::read::Interrupted;
use crate::nftables::socket::NfTablesSocket;
use crate::nftables::watch::TouchedChain;
use crate::nftables::{ATTEMPTS, DataplaneError, raw::MessageHeader};

/// A chain without its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelChain {
    table: Table,
    name: ChainName,
    policy: Option<Policy>,
    /// The type of a base chain, its hook and priority.
    base: Option<(String, u32, i32)>,
}

impl KernelChain {
    /// Its table and name.
    pub(super) fn id(&self) -> (Table, ChainName) {
        (self.table, self.name.clone())
    }

    /// True if it is the built-in chain of iptables.
    pub(super) fn is(&self, expected: BuiltInChain) -> bool {
        let base = self.base.as_ref();
        base.is_some_and(|(kind, hook, priority)| {
            (kind.as_str(), *hook, *priority) == (expected.kind, expected.hook, expected.priority)
        })
    }
}

/// All tables of a family.
pub(super) fn all(socket: &mut NfTablesSocket, of: IpFamily) -> Result<Ruleset, Interrupted> {
    let mut ruleset = Ruleset::new(of);
    for chain in chains(socket, of)? {
        add(socket, &mut ruleset, chain)?;
    }
    Ok(ruleset)
}

/// These chains.
pub(super) fn these(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    desired: &[&(Table, ChainName)],
) -> Result<Ruleset, Interrupted> {
    let mut ruleset = Ruleset::new(of);
    for (table, name) in desired {
        if let Some(chain) = chain(socket, of, *table, name)? {
            add(socket, &mut ruleset, chain)?;
        }
    }
    Ok(ruleset)
}

fn add(
    socket: &mut NfTablesSocket,
    ruleset: &mut Ruleset,
    chain: KernelChain,
) -> Result<(), Interrupted> {
    let KernelChain { table, name, policy, .. } = chain;
    let read = rules(socket, ruleset.family, table, &name)?;
    let rules = read.into_iter().map(|actual| actual.rule).collect();
    ruleset.tables.entry(table).or_default().insert(name, Chain { policy, rules });
    Ok(())
}

/// Reads chains of these that were touched again.
pub(super) fn again(
    socket: &mut NfTablesSocket,
    ruleset: &mut Ruleset,
    touched: &BTreeSet<TouchedChain>,
) -> Result<(), Interrupted> {
    for (of, table, name) in touched {
        let table = Table::ALL.into_iter().find(|known| known.name() == table);
        let Some(table) = table.filter(|_| *of == ruleset.family) else { continue };
        let name = ChainName::from(name.as_str());
        match chain(socket, *of, table, &name)? {
            Some(chain) => add(socket, ruleset, chain)?,
            None => {
                if let Some(chains) = ruleset.tables.get_mut(&table) {
                    chains.remove(&name);
                }
            }
        }
    }
    Ok(())
}

/// The chains of all tables of iptables of a family.
pub(super) fn chains(
    socket: &mut NfTablesSocket,
    of: IpFamily,
) -> Result<Vec<KernelChain>, Interrupted> {
    let mut found = Vec::new();
    let number = family::number(of);
    let dumped = socket.ask(
        libc::NFT_MSG_GETCHAIN,
        number,
        true,
        |_| {},
        |message| found.extend(read_chain(message)),
    )?;
    whole(dumped)?;
    Ok(found)
}

/// One chain; `None` if it does not exist.
pub(super) fn chain(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    name: &ChainName,
) -> Result<Option<KernelChain>, DataplaneError> {
    let mut found = None;
    socket.ask(
        libc::NFT_MSG_GETCHAIN,
        family::number(of),
        false,
        |header| {
            header.text(TABLE, table.name());
            header.text(CHAIN_NAME, name.as_str());
        },
        |message| found = read_chain(message),
    )?;
    Ok(found)
}

/// The rules of a chain in order, read again if a commit interrupts the read. A missing chain has
/// none.
pub(super) fn rules(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    chain: &ChainName,
) -> Result<Vec<RuleWithHandle>, Interrupted> {
    for _ in 0..ATTEMPTS {
        match rules_once(socket, of, table, chain) {
            Err(Interrupted::Changed) => {}
            done => return done,
        }
    }
    Err(Interrupted::Changed)
}

fn rules_once(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    chain: &ChainName,
) -> Result<Vec<RuleWithHandle>, Interrupted> {
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    let mut read = Vec::new();
    each_rule(socket, of, table, chain, |message| {
        let handle = attribute::find(message, HANDLE).and_then(|bytes| bytes.try_into().ok());
        let expressions = attribute::find(message, EXPRESSIONS).unwrap_or_default();
        let (handle, rule) = (handle.map_or(0, u64::from_be_bytes), decode(of, expressions));
        read.push(RuleWithHandle { handle, rule });
    })?;
    Ok(read)
}

/// Passes on the messages of the rules of a chain.
pub(super) fn each_rule(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    chain: &ChainName,
    each: impl FnMut(&[u8]),
) -> Result<(), Interrupted> {
    let body = |header: &mut MessageHeader<'_>| {
        header.text(TABLE, table.name());
        header.text(RULE_CHAIN, chain.as_str());
    };
    whole(socket.ask(libc::NFT_MSG_GETRULE, family::number(of), true, body, each)?)
}

pub(super) fn whole(dumped: Dumped) -> Result<(), Interrupted> {
    match dumped {
        Dumped::Whole => Ok(()),
        Dumped::Interrupted | Dumped::Nothing => Err(Interrupted::Changed),
    }
}

/// NFTA_RULE_* and NFTA_CHAIN_*.
pub(super) const TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const CHAIN_NAME: u16 = 3;

/// A chain of a table of iptables; `None` for others.
fn read_chain(message: &[u8]) -> Option<KernelChain> {
    // NFTA_CHAIN_*, NFTA_HOOK_* and NF_DROP.
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const DROP: u32 = 0;
    let table = attribute::text(message, TABLE)?;
    let table = Table::ALL.into_iter().find(|known| known.name() == table)?;
    let base = attribute::find(message, HOOK).and_then(|hook| {
        let number = |desired| {
            let (_, value) = attribute::each(hook).find(|(kind, _)| *kind == desired)?;
            value.try_into().ok().map(u32::from_be_bytes)
        };
        let kind = attribute::text(message, TYPE)?;
        Some((kind, number(NUMBER)?, number(PRIORITY)?.cast_signed()))
    });
    let policy = match attribute::be32(message, POLICY) {
        Some(DROP) => Policy::Drop,
        _ => Policy::Accept,
    };
    Some(KernelChain {
        table,
        name: ChainName::from(attribute::text(message, CHAIN_NAME)?),
        policy: base.is_some().then_some(policy),
        base,
    })
}
