//! Base chains of any table that may drop what Services forward. Unlike an accept, a drop is final:
//! it does not matter which chain runs first.

use std::collections::{BTreeMap, BTreeSet};

use nftnl::nftnl_sys::libc;

use super::nat_base_chains::{INET, IPV4, IPV6, dump, each_rule, family, inside, jump};
use super::read::Interrupted;
use super::socket::Socket;
use super::{ATTEMPTS, Error, NfTables, attribute};

/// The hook of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilterHook {
    /// Packets to processes of this node.
    Input,
    /// Packets to other hosts and to pods.
    Forward,
}

/// A base chain of type filter at input or forward.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterBaseChain {
    /// Family of its table, as in nft(8).
    pub table_family: &'static str,
    /// Table.
    pub table: String,
    /// Name.
    pub chain: String,
    /// Hook.
    pub hook: FilterHook,
    /// Whether it drops each packet that no rule accepts, by its policy or by a rule without a
    /// condition.
    pub drops_rest: bool,
    /// Whether a rule drops or rejects packets, in this chain or in one that it leads to.
    pub may_drop: bool,
    /// Whether a rule may accept packets, in this chain or in one that it leads to.
    pub may_accept: bool,
    /// Whether a rule of this chain accepts all packets, or all whose destination was translated
    /// (`ct status dnat accept`).
    pub accepts_translated: bool,
}

impl NfTables {
    /// Base chains of type filter at input and forward, ordered. Skips excluded tables, given by
    /// nft's family keyword and name.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Busy`].
    pub fn filter_base_chains(
        &mut self,
        is_left_out: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<FilterBaseChain>, Error> {
        for _ in 0..ATTEMPTS {
            match read(&mut self.socket, &is_left_out) {
                Ok(chains) => return Ok(chains),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Changed) => {}
            }
        }
        Err(Error::Busy { attempts: ATTEMPTS })
    }
}

fn read(
    socket: &mut Socket,
    is_left_out: impl Fn(&str, &str) -> bool,
) -> Result<Vec<FilterBaseChain>, Interrupted> {
    let mut bases = Vec::new();
    dump(socket, libc::NFT_MSG_GETCHAIN, 0, None, |message| bases.extend(base_chain(message)))?;
    bases.retain(|(_, base)| !is_left_out(base.table_family, &base.table));
    let tables: BTreeSet<(u8, String)> =
        bases.iter().map(|(family, base)| (*family, base.table.clone())).collect();
    for (of, table) in tables {
        let effects = effects(socket, of, &table)?;
        let of_table = bases.iter_mut().filter(|(family, b)| (*family, &b.table) == (of, &table));
        of_table.for_each(|(_, base)| base.take(&effects));
    }
    let mut chains: Vec<FilterBaseChain> = bases.into_iter().map(|(_, base)| base).collect();
    chains.sort_unstable();
    Ok(chains)
}

/// The chain, with its effects as far as its policy tells, and the family's number.
fn base_chain(message: &[u8]) -> Option<(u8, FilterBaseChain)> {
    // NFTA_CHAIN_* and NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN, NF_INET_FORWARD and NF_DROP.
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const NUMBER: u16 = 1;
    const DROP: u32 = 0;
    let family = family(message)?;
    let table_family = match family {
        IPV4 => "ip",
        IPV6 => "ip6",
        INET => "inet",
        _ => return None,
    };
    let number = inside(attribute::find(message, HOOK)?, NUMBER)?;
    let hook = match u32::from_be_bytes(number.try_into().ok()?) {
        1 => FilterHook::Input,
        2 => FilterHook::Forward,
        _ => return None,
    };
    (attribute::text(message, TYPE)? == "filter").then_some(())?;
    let chain = FilterBaseChain {
        table_family,
        table: attribute::text(message, TABLE)?,
        chain: attribute::text(message, NAME)?,
        hook,
        drops_rest: attribute::be32(message, POLICY) == Some(DROP),
        may_drop: false,
        may_accept: false,
        accepts_translated: false,
    };
    Some((family, chain))
}

/// What the rules of a chain do, as far as it matters for dropped packets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effects {
    drops: bool,
    drops_rest: bool,
    accepts: bool,
    accepts_translated: bool,
    /// Chains that it leads to.
    to: BTreeSet<String>,
}

/// The effect of each chain of a table.
fn effects(
    socket: &mut Socket,
    of: u8,
    table: &str,
) -> Result<BTreeMap<String, Effects>, Interrupted> {
    let mut chains: BTreeMap<String, Effects> = BTreeMap::new();
    each_rule(socket, of, table, |chain, expressions| {
        chains.entry(chain).or_default().take(expressions);
    })?;
    Ok(chains)
}

impl Effects {
    /// Adds a rule.
    fn take(&mut self, expressions: &[u8]) {
        // NFTA_EXPR_*, NFTA_TARGET_NAME, NFTA_LOOKUP_DREG, NFT_REG_VERDICT, NFTA_CT_KEY and
        // NFT_CT_STATUS.
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        const TARGET: u16 = 1;
        const INTO: u16 = 3;
        const VERDICT: [u8; 4] = [0; 4];
        const KEY: u16 = 2;
        const STATUS: [u8; 4] = 2_u32.to_be_bytes();
        let (mut conditions, mut has_status, mut drops, mut accepts) = (0_u32, false, false, false);
        for (_, expression) in attribute::each(expressions) {
            let data = inside(expression, DATA).unwrap_or_default();
            match inside(expression, NAME).map(attribute::string).as_deref() {
                Some("counter" | "log" | "notrack") => {}
                Some("reject") => drops = true,
                Some("target") => {
                    let target = inside(data, TARGET).map(attribute::string).unwrap_or_default();
                    drops |= matches!(target.as_str(), "DROP" | "REJECT");
                }
                Some("immediate") => {
                    self.to.extend(jump(data));
                    drops |= verdict(data) == Some(0);
                    accepts |= verdict(data) == Some(1);
                }
                // A map may have any verdict.
                Some("lookup") if inside(data, INTO) == Some(&VERDICT) => {
                    (conditions, self.drops, self.accepts) = (conditions + 1, true, true);
                }
                Some("ct") => has_status |= inside(data, KEY) == Some(&STATUS),
                // The comparison with the status.
                Some("bitwise" | "cmp") if has_status => {}
                _ => conditions += 1,
            }
        }
        self.drops |= drops;
        self.accepts |= accepts;
        // A rule behind this one has no effect on packets that this one decides.
        let decides = conditions == 0 && !self.drops_rest;
        self.accepts_translated |= accepts && decides;
        self.drops_rest |= drops && decides && !has_status;
    }
}

/// The verdict of an immediate expression: NF_DROP is 0, NF_ACCEPT is 1.
fn verdict(data: &[u8]) -> Option<u32> {
    // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE.
    let code = inside(inside(inside(data, 2)?, 2)?, 1)?;
    code.try_into().ok().map(u32::from_be_bytes)
}

impl FilterBaseChain {
    fn take(&mut self, effects: &BTreeMap<String, Effects>) {
        if let Some(own) = effects.get(&self.chain) {
            self.drops_rest |= own.drops_rest;
            self.accepts_translated = own.accepts_translated;
        }
        let mut seen = BTreeSet::new();
        let mut next = vec![self.chain.as_str()];
        while let Some(name) = next.pop() {
            let Some(chain) = effects.get(name) else { continue };
            if seen.insert(name) {
                self.may_drop |= chain.drops;
                self.may_accept |= chain.accepts;
                next.extend(chain.to.iter().map(String::as_str));
            }
        }
    }
}
