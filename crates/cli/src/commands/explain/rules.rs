//! The rules that explain follows: those of a plan, or those of the kernel.

use std::net::IpAddr;

use anyhow::{Result, bail};
use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::Explanation;
use rulegen_inspect::listing::Listing;
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::Packet;
use rulegen_ruleset::nftables::{Name, TableFamily, Unknown};

use crate::args::ExplainArgs;
use crate::commands::{iptables, variant};

pub(super) struct Rules {
    rules: rulegen::Rules,
    /// Rules of other programs that a packet passes too, and that are not followed: chain and rule.
    others: Vec<(String, String)>,
}

impl Rules {
    /// The rules of a plan.
    pub(super) fn wanted(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        let rules = match mode {
            ProxyMode::Iptables => rulegen::iptables_rules(plan),
            ProxyMode::Nftables => rulegen::nftables_rules(plan, table_name(args).as_str()),
        };
        Self { rules, others: Vec::new() }
    }

    /// The rules in the kernel.
    pub(super) fn held(args: &ExplainArgs, mode: ProxyMode, family: IpFamily) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => {
                let iptables = iptables(family, variant(&args.kernel)?, &args.kernel);
                let rules = rulegen::Rules::Iptables(iptables.save()?);
                Ok(Self { rules, others: Vec::new() })
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
        explanation
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
    Ok(Rules { rules: rulegen::Rules::Nftables(delinearized.table), others })
}

/// Base chains of other tables at the same hooks. They may do anything with the packet.
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
