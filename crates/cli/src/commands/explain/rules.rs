//! The rules that the packet is followed through: those of a plan, or those of the kernel.

use std::net::IpAddr;

use anyhow::{Result, bail};
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::{Plan, nftables};
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{Explanation, by_ruleset, by_table};
use rulegen_inspect::listing::{Listing, of_ruleset, of_table};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::Packet;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Name, Table, TableFamily, Unknown};

use crate::args::ExplainArgs;
use crate::commands::{iptables, variant};

pub(super) enum Rules {
    Iptables(Ruleset),
    Nftables {
        table: Table,
        /// What else a packet meets there that is not followed: chain and rule.
        others: Vec<(String, String)>,
    },
}

impl Rules {
    /// Those of a plan.
    pub(super) fn wanted(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        match mode {
            ProxyMode::Iptables => Self::Iptables(ruleset(plan)),
            ProxyMode::Nftables => {
                let table = nftables::table(plan, table_name(args));
                Self::Nftables { table, others: Vec::new() }
            }
        }
    }

    /// Those of the kernel.
    pub(super) fn held(args: &ExplainArgs, mode: ProxyMode, family: IpFamily) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => {
                let iptables = iptables(family, variant(&args.kernel)?, &args.kernel);
                Ok(Self::Iptables(iptables.save()?))
            }
            ProxyMode::Nftables => held_table(family, table_name(args)),
        }
    }

    /// The Services that they are about.
    pub(super) fn listing(&self) -> Listing {
        match self {
            Self::Iptables(ruleset) => of_ruleset(ruleset),
            Self::Nftables { table, .. } => of_table(table),
        }
    }

    pub(super) fn explain(
        &self,
        local: &[IpAddr],
        packet: &Packet,
        plan: Option<&Plan>,
    ) -> Explanation {
        match self {
            Self::Iptables(ruleset) => by_ruleset(ruleset, local, packet, plan),
            Self::Nftables { table, others } => {
                let mut explanation = by_table(table, local, packet, plan);
                for (chain, rule) in others {
                    explanation.not_followed(chain.clone(), rule.clone());
                }
                explanation
            }
        }
    }
}

fn table_name(args: &ExplainArgs) -> &Name {
    &args.proxy.nftables.nftables_table
}

fn held_table(family: IpFamily, name: &Name) -> Result<Rules> {
    let mut kernel = NfTables::open()?;
    let (_, held) = kernel.read(&[(family, name)])?;
    let Some(held) = held.into_iter().flatten().next() else {
        bail!("the kernel has no table {} {name}: no rules were applied here", family.nft_name());
    };
    let delinearized = held.delinearize(family, name);
    let unknown = delinearized.unknown.iter().map(|unknown| match unknown {
        Unknown::Rule { chain, text } => (chain.to_string(), text.clone()),
        other => (format!("table {} {name}", family.nft_name()), other.to_string()),
    });
    let others = unknown.chain(base_chains_of_others(&mut kernel, family, name)?).collect();
    Ok(Rules::Nftables { table: delinearized.table, others })
}

/// What stands at the same hooks, and may do anything.
fn base_chains_of_others(
    kernel: &mut NfTables,
    family: IpFamily,
    name: &Name,
) -> Result<Vec<(String, String)>> {
    let sees = |of: TableFamily| of == TableFamily::Inet || of == TableFamily::from(family);
    let chains = kernel.base_chains()?.into_iter();
    let others = chains.filter(|(id, _)| sees(id.family) && id.table != *name);
    let described = others.map(|(id, place)| {
        let kind = if place.is_nat { "nat" } else { "filter" };
        let chain = format!("{} {} {}", id.family.word(), id.table, id.chain);
        let rule = format!(
            "all rules of this chain of another table (type {kind} hook {} priority {})",
            place.hook, place.priority
        );
        (chain, rule)
    });
    Ok(described.collect())
}
