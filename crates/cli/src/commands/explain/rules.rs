//! The rules that explain evaluates: rendered from a plan, or read from the kernel.

use std::net::IpAddr;

use anyhow::Result;
use rulegen_compiler::Plan;
use rulegen_config::ProxyMode;
use rulegen_doctor::live::{ActualRules, InputInterface, LiveError};
use rulegen_inspect::explain::Explanation;
use rulegen_inspect::listing::Listing;
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::Name;
use rulegen_ruleset::{Origin, Packet};

use crate::WrongUsage;
use crate::args::{ExplainArgs, KernelArgs};
use crate::commands::{iptables, variant_in_use};

pub(super) enum ExplainedRules {
    /// Rendered from a plan.
    Desired(rulegen::types::Rules),
    /// Read from the kernel.
    Actual(ActualRules),
}

impl ExplainedRules {
    /// The rules of a plan.
    pub(super) fn desired(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        Self::Desired(match mode {
            ProxyMode::Iptables => rulegen::iptables_rules(plan),
            ProxyMode::Nftables => {
                rulegen::nftables_rules(plan, args.proxy.nftables.nftables_table.as_str())
            }
        })
    }

    /// Where a packet enters.
    pub(super) fn origin(&self, source: IpAddr, destination: IpAddr) -> Origin {
        match self {
            Self::Desired(_) => Origin::UnknownInterface,
            Self::Actual(rules) => rules.origin(source, destination),
        }
    }

    /// The interface through which packets of a named one come in. Fails if the host that the rules
    /// are of does not have it.
    pub(super) fn input(&self, name: &str) -> Result<InputInterface> {
        match self {
            Self::Desired(_) => Ok(InputInterface { interface: name.to_owned(), remark: None }),
            Self::Actual(rules) => rules.input(name).map_err(|error| match error {
                LiveError::NoInterface(_) => WrongUsage(error.to_string()).into(),
                error => error.into(),
            }),
        }
    }

    /// The Services that the rules are for.
    pub(super) fn listing(&self) -> Listing {
        match self {
            Self::Desired(rules) => rules.services(),
            Self::Actual(rules) => rules.services(),
        }
    }

    /// `complete` adds what objects say about the explanation.
    pub(super) fn explain(
        &self,
        local: &[IpAddr],
        packet: &Packet,
        plan: Option<&Plan>,
        complete: impl FnOnce(&mut Explanation),
    ) -> Explanation {
        match self {
            Self::Actual(rules) => rules.explain(local, packet, plan, complete),
            Self::Desired(rules) => {
                let mut explanation = rulegen::explain(rules, local, packet, plan);
                complete(&mut explanation);
                explanation
            }
        }
    }
}

/// The rules in the kernel.
pub(super) fn actual(
    kernel: &KernelArgs,
    table: &Name,
    mode: ProxyMode,
    family: IpFamily,
) -> Result<ActualRules> {
    let iptables = |family, variant| iptables(family, variant, kernel);
    Ok(match mode {
        ProxyMode::Iptables => {
            ActualRules::of_iptables(family, variant_in_use(kernel)?, &iptables)?
        }
        ProxyMode::Nftables => ActualRules::of_nftables(family, table, &iptables)?,
    })
}
