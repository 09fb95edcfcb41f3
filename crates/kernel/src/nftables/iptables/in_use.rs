//! What leads to chains that cannot be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nftnl::nftnl_sys::libc;
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Table};

use super::read::{TABLE, chains, each_rule, whole};
use super::write::ChainKey;
use crate::netlink::{attribute, family};
use crate::nftables::read::Interrupted;
use crate::nftables::socket::NfTablesSocket;

/// A chain that was emptied but not deleted, because another program's rule or map leads to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainInUse {
    /// IP family.
    pub family: IpFamily,
    /// The table of iptables that has the chain.
    pub table: Table,
    /// Name of the chain, such as `KUBE-SVC-…`.
    pub chain: ChainName,
    /// The maps and rules that lead to it, as far as they were found.
    pub used_by: Vec<String>,
}

impl fmt::Display for ChainInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, used_by } = self;
        write!(f, "chain {chain} of table {} {table} was emptied", family.nft_name())?;
        let others = match used_by.as_slice() {
            [] => "a rule or map of another program".to_owned(),
            used_by => used_by.join(" and "),
        };
        write!(f, " but cannot be deleted because {others} leads to it; delete that first")
    }
}

/// At most this many maps and rules are named for a chain.
const MOST_NAMED: usize = 3;

/// At most this many chains of a table are searched: each message of its maps and rules is searched
/// for each.
const MOST_SEARCHED: usize = 64;

/// Finds what leads to the chains. Without an answer of the kernel, nothing is named.
pub(super) fn described(
    socket: &mut NfTablesSocket,
    in_use: BTreeSet<ChainKey>,
) -> Vec<ChainInUse> {
    let mut tables: BTreeMap<(IpFamily, Table), Vec<ChainName>> = BTreeMap::new();
    for (family, table, chain) in in_use {
        tables.entry((family, table)).or_default().push(chain);
    }
    let mut described = Vec::new();
    for ((family, table), names) in tables {
        let searched = names.get(..MOST_SEARCHED).unwrap_or(&names);
        let mut used_by = used_by(socket, family, table, searched).unwrap_or_default();
        described.extend(names.into_iter().map(|chain| {
            let used_by = used_by.remove(&chain).unwrap_or_default();
            ChainInUse { family, table, chain, used_by }
        }));
    }
    described
}

type UsedBy = BTreeMap<ChainName, Vec<String>>;

/// A verdict map of a table.
struct Map {
    name: String,
    /// Whether it is part of a rule.
    is_anonymous: bool,
}

/// First the named maps, because reading all rules of a large table takes a second.
fn used_by(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    names: &[ChainName],
) -> Result<UsedBy, Interrupted> {
    let mut found = UsedBy::new();
    // What a rule that leads to a chain contains: the name of the chain, or of a map in the rule.
    let mut in_rules: Vec<(String, &ChainName)> =
        names.iter().map(|chain| (chain.as_str().to_owned(), chain)).collect();
    for map in maps(socket, of, table)? {
        for chain in led_to(socket, of, table, &map.name, names)? {
            if map.is_anonymous {
                in_rules.push((map.name.clone(), chain));
            } else {
                let text = format!("map {} {table} {}", of.nft_name(), map.name);
                add(&mut found, chain, text);
            }
        }
    }
    in_rules.retain(|(_, chain)| !found.contains_key(*chain));
    if in_rules.is_empty() {
        return Ok(found);
    }
    for chain in chains(socket, of)? {
        let (of_table, name) = chain.id();
        if of_table != table {
            continue;
        }
        let text = format!("a rule of chain {} {table} {name}", of.nft_name());
        each_rule(socket, of, table, &name, |message| {
            for (_, chain) in in_rules.iter().filter(|(word, _)| holds(message, word)) {
                add(&mut found, chain, text.clone());
            }
        })?;
    }
    Ok(found)
}

fn add(found: &mut UsedBy, chain: &ChainName, text: String) {
    let used_by = found.entry(chain.clone()).or_default();
    if used_by.len() < MOST_NAMED && !used_by.contains(&text) {
        used_by.push(text);
    }
}

/// The verdict maps of a table.
fn maps(socket: &mut NfTablesSocket, of: IpFamily, table: Table) -> Result<Vec<Map>, Interrupted> {
    // NFTA_SET_*, NFT_SET_ANONYMOUS and NFT_DATA_VERDICT.
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const DATA_TYPE: u16 = 6;
    const ANONYMOUS: u32 = 1;
    const VERDICT: u32 = 0xffff_ff00;
    let mut maps = Vec::new();
    let dumped = socket.ask(
        libc::NFT_MSG_GETSET,
        family::number(of),
        true,
        |header| header.text(TABLE, table.name()),
        |message| {
            let is_map = attribute::be32(message, DATA_TYPE) == Some(VERDICT);
            let flags = attribute::be32(message, FLAGS).unwrap_or_default();
            let name = attribute::text(message, NAME).filter(|_| is_map);
            maps.extend(name.map(|name| Map { name, is_anonymous: flags & ANONYMOUS != 0 }));
        },
    )?;
    whole(dumped).map(|()| maps)
}

/// The chains of these that elements of a map lead to.
fn led_to<'a>(
    socket: &mut NfTablesSocket,
    of: IpFamily,
    table: Table,
    map: &str,
    names: &'a [ChainName],
) -> Result<BTreeSet<&'a ChainName>, Interrupted> {
    // NFTA_SET_ELEM_LIST_SET.
    const SET: u16 = 2;
    let mut found = BTreeSet::new();
    let dumped = socket.ask(
        libc::NFT_MSG_GETSETELEM,
        family::number(of),
        true,
        |header| {
            header.text(TABLE, table.name());
            header.text(SET, map);
        },
        |message| found.extend(names.iter().filter(|name| holds(message, name.as_str()))),
    )?;
    whole(dumped).map(|()| found)
}

/// True if a message contains this text as a whole attribute: after a header, and with its end.
fn holds(message: &[u8], word: &str) -> bool {
    const HEADER: usize = 4;
    let Ok(length) = u16::try_from(HEADER + word.len() + 1) else { return false };
    message.windows(HEADER + word.len() + 1).any(|bytes| {
        let (header, text) = bytes.split_at(HEADER);
        header.starts_with(&length.to_ne_bytes())
            && text.strip_suffix(b"\0") == Some(word.as_bytes())
    })
}
