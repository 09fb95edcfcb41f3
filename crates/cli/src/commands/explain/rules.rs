//! The rules that the packet is followed through: those of a plan, or those of the kernel.

use std::net::IpAddr;

use anyhow::{Result, bail};
use rulegen_compiler::explain::{Explanation, by_ruleset, by_table};
use rulegen_compiler::iptables::ruleset;
use rulegen_compiler::listing::{Listing, of_ruleset, of_table};
use rulegen_compiler::{Plan, family as family_of, nftables};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_model::{IpFamily, ProxyMode};
use rulegen_ruleset::Packet;
use rulegen_ruleset::iptables::Ruleset;
use rulegen_ruleset::nftables::{Name, Table};

use crate::args::ExplainArgs;
use crate::commands::{iptables, variant};
use crate::problems::say;

pub(super) enum Rules {
    Iptables(Ruleset),
    Nftables(Table),
}

impl Rules {
    /// Those of a plan.
    pub(super) fn wanted(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        match mode {
            ProxyMode::Iptables => Self::Iptables(ruleset(plan)),
            ProxyMode::Nftables => Self::Nftables(nftables::table(plan, table_name(args))),
        }
    }

    /// Those of the kernel.
    pub(super) fn held(args: &ExplainArgs, mode: ProxyMode, family: IpFamily) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => {
                let iptables = iptables(family, variant(&args.kernel)?, &args.kernel);
                Ok(Self::Iptables(iptables.save()?))
            }
            ProxyMode::Nftables => held_table(family, table_name(args)).map(Self::Nftables),
        }
    }

    /// The Services that they are about.
    pub(super) fn listing(&self) -> Listing {
        match self {
            Self::Iptables(ruleset) => of_ruleset(ruleset),
            Self::Nftables(table) => of_table(table),
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
            Self::Nftables(table) => by_table(table, local, packet, plan),
        }
    }
}

fn table_name(args: &ExplainArgs) -> &Name {
    &args.proxy.nftables.nftables_table
}

fn held_table(family: IpFamily, name: &Name) -> Result<Table> {
    let family = family_of(family);
    let (_, held) = NfTables::open()?.read(&[(family, name)])?;
    let Some(held) = held.into_iter().flatten().next() else {
        bail!("the kernel has no table {} {name}: no rules were applied here", family.word());
    };
    let raised = held.raised(family, name);
    for unknown in &raised.unknown {
        say(&format!("note: not followed, for rulegen never makes it: {unknown}"));
    }
    Ok(raised.table)
}
