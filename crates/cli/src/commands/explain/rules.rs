//! The rules that explain evaluates: rendered from a plan, or read from the kernel.

use std::net::IpAddr;

use anyhow::{Result, bail};
use rulegen_compiler::Plan;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{Explanation, Surroundings, UnfollowedChain};
use rulegen_inspect::listing::{Listing, of_table};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::Packet;
use rulegen_ruleset::iptables::{Policy, Ruleset, Table};
use rulegen_ruleset::nftables::{ChainId, Delinearized, Name, TableFamily, Unknown};

use crate::args::ExplainArgs;
use crate::commands::{iptables, variant_in_use};

pub(super) struct Rules {
    rules: rulegen::Rules,
    /// Rules of other programs that are not evaluated: chain and rule.
    others: Vec<(String, String)>,
    /// The base chains that are not evaluated, if the rules were read from the kernel.
    surroundings: Surroundings,
}

impl Rules {
    /// The rules of a plan.
    pub(super) fn wanted(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        let rules = match mode {
            ProxyMode::Iptables => rulegen::iptables_rules(plan),
            ProxyMode::Nftables => rulegen::nftables_rules(plan, table_name(args).as_str()),
        };
        Self { rules, others: Vec::new(), surroundings: Surroundings::Unknown }
    }

    /// The rules in the kernel.
    pub(super) fn held(args: &ExplainArgs, mode: ProxyMode, family: IpFamily) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => {
                let variant = variant_in_use(&args.kernel)?;
                let ruleset = iptables(family, variant, &args.kernel).save()?;
                let chains = chains_outside_ruleset(family, variant, &ruleset)?;
                let others = chains.iter().map(not_followed).collect();
                let rules = rulegen::Rules::Iptables(ruleset);
                Ok(Self { rules, others, surroundings: Surroundings::Chains(chains) })
            }
            ProxyMode::Nftables => held_table(family, table_name(args)),
        }
    }

    /// The Services that the rules are for.
    pub(super) fn listing(&self) -> Listing {
        self.rules.services()
    }

    pub(super) fn explain(
        &self,
        local: &[IpAddr],
        packet: &Packet,
        plan: Option<&Plan>,
    ) -> Explanation {
        let mut explanation = rulegen::explain(&self.rules, local, packet, plan);
        for (chain, rule) in &self.others {
            explanation.not_followed(chain.clone(), rule.clone());
        }
        explanation.set_conditions(&self.surroundings, local);
        explanation
    }
}

fn table_name(args: &ExplainArgs) -> &Name {
    &args.proxy.nftables.nftables_table
}

fn held_table(family: IpFamily, name: &Name) -> Result<Rules> {
    let mut kernel = NfTables::open()?;
    let Some(Delinearized { table, unknown }) = followed_table(&mut kernel, family, name)? else {
        bail!("the kernel has no table {} {name}: no rules were applied here", family.nft_name());
    };
    let name = table.name.clone();
    let unknown = unknown.iter().map(|unknown| match unknown {
        Unknown::Rule { chain, text } => (chain.to_string(), text.clone()),
        other => (format!("table {} {name}", family.nft_name()), other.to_string()),
    });
    let own = TableFamily::from(family);
    let mut chains = base_chains(&mut kernel, family, |of| of.family == own && of.table == name)?;
    chains.extend(legacy_chains(family));
    let others = unknown.chain(chains.iter().map(not_followed)).collect();
    let surroundings = Surroundings::Chains(chains);
    Ok(Rules { rules: rulegen::Rules::Nftables(table), others, surroundings })
}

/// Our table. If it does not exist or has no Services, kube-proxy's own.
fn followed_table(
    kernel: &mut NfTables,
    family: IpFamily,
    name: &Name,
) -> Result<Option<Delinearized>> {
    let kube_proxys = Name::from(KUBE_PROXY_TABLE);
    let ours = if *name == kube_proxys {
        None
    } else {
        let (_, ours) = kernel.read(&[(family, name)])?;
        ours.into_iter().flatten().next().map(|ours| ours.delinearize(family, name))
    };
    match ours {
        Some(ours) if !of_table(&ours.table).services.is_empty() => Ok(Some(ours)),
        ours => {
            let theirs = kernel.read_of_others(&[(family, &kube_proxys)])?;
            let theirs = theirs.into_iter().flatten().next();
            Ok(theirs.map(|theirs| theirs.delinearize(family, &kube_proxys)).or(ours))
        }
    }
}

fn not_followed(chain: &UnfollowedChain) -> (String, String) {
    let UnfollowedChain { table, chain, hook, kind } = chain;
    (
        format!("{table} {chain}"),
        format!("all rules of this chain of another table (type {kind} hook {hook})"),
    )
}

/// The tables of iptables that `explain` evaluates.
const FOLLOWED: [Table; 2] = [Table::Nat, Table::Filter];

/// The base chains that a packet passes outside the tables nat and filter of a ruleset.
fn chains_outside_ruleset(
    family: IpFamily,
    variant: Variant,
    ruleset: &Ruleset,
) -> Result<Vec<UnfollowedChain>> {
    let own = TableFamily::from(family);
    // iptables-nft keeps its tables in nf_tables, where their names are the same.
    let is_known = |of: &ChainId| {
        let is_table = |table: &Table| table.name() == of.table.as_str();
        let table = Table::ALL.into_iter().find(is_table);
        variant == Variant::Nft && of.family == own && table.is_some()
    };
    let mut chains = match NfTables::open() {
        Ok(mut kernel) => base_chains(&mut kernel, family, is_known)?,
        // The kernel has no nf_tables.
        Err(_) => Vec::new(),
    };
    let unfollowed = Table::ALL.into_iter().filter(|table| !FOLLOWED.contains(table));
    for table in unfollowed {
        let of_table = ruleset.tables.get(&table).into_iter().flatten();
        let with_effect = of_table.filter(|(name, chain)| {
            name.is_built_in() && (!chain.rules.is_empty() || chain.policy == Some(Policy::Drop))
        });
        chains.extend(with_effect.filter_map(|(name, _)| {
            let (table, chain) = (format!("{} {table}", family.nft_name()), name.to_string());
            Some(UnfollowedChain { hook: hook(&chain)?, table, chain, kind: "filter".to_owned() })
        }));
    }
    if variant == Variant::Nft {
        chains.extend(legacy_chains(family));
    }
    Ok(chains)
}

/// The chains of the loaded tables of iptables-legacy, whose rules are not read.
fn legacy_chains(family: IpFamily) -> Vec<UnfollowedChain> {
    let tables = host::legacy_iptables_tables(family == IpFamily::Ipv6);
    let chains = tables.iter().flat_map(|table| {
        let chains = BUILT_IN.into_iter().filter(|(chain, _)| has_chain(table, chain));
        chains.map(move |(chain, hook)| UnfollowedChain {
            table: format!("{} {table} of iptables-legacy", family.nft_name()),
            chain: chain.to_owned(),
            hook,
            kind: if table == "nat" { "nat" } else { "filter" }.to_owned(),
        })
    });
    chains.collect()
}

/// Whether a table of iptables has a built-in chain.
fn has_chain(table: &str, chain: &str) -> bool {
    match table {
        "raw" => ["PREROUTING", "OUTPUT"].contains(&chain),
        "filter" | "security" => ["INPUT", "FORWARD", "OUTPUT"].contains(&chain),
        "nat" => chain != "FORWARD",
        _ => true,
    }
}

/// The built-in chains of iptables, and their hooks.
const BUILT_IN: [(&str, &str); 5] = [
    ("PREROUTING", "prerouting"),
    ("INPUT", "input"),
    ("FORWARD", "forward"),
    ("OUTPUT", "output"),
    ("POSTROUTING", "postrouting"),
];

fn hook(chain: &str) -> Option<&'static str> {
    BUILT_IN.into_iter().find(|(name, _)| *name == chain).map(|(_, hook)| hook)
}

/// Base chains of other tables at the same hooks. They may do anything with the packet.
fn base_chains(
    kernel: &mut NfTables,
    family: IpFamily,
    is_known: impl Fn(&ChainId) -> bool,
) -> Result<Vec<UnfollowedChain>> {
    let sees = |of: TableFamily| of == TableFamily::Inet || of == TableFamily::from(family);
    let chains = kernel.base_chains()?.into_iter();
    let others = chains.filter(|(id, _)| sees(id.family) && !is_known(id));
    let described = others.map(|(id, place)| {
        let kind = if place.is_nat { "nat" } else { "filter" };
        UnfollowedChain {
            table: format!("{} {}", id.family.word(), id.table),
            chain: id.chain.to_string(),
            hook: place.hook,
            kind: format!("{kind} priority {}", place.priority),
        }
    });
    Ok(described.collect())
}
