//! The rules that explain evaluates: rendered from a plan, or read from the kernel.

use std::net::IpAddr;

use anyhow::{Result, bail};
use rulegen_compiler::Plan;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_config::ProxyMode;
use rulegen_inspect::explain::{Explanation, by_ruleset_on};
use rulegen_inspect::listing::{Listing, of_table};
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::firewall::FirewallBaseChain;
use rulegen_ruleset::iptables::TracedHost;
use rulegen_ruleset::nftables::{Delinearized, Name, Unknown};
use rulegen_ruleset::{Origin, Packet};

use super::network::{InputInterface, LiveNetwork};
use super::others::{Followed, base_chains};
use crate::args::{ExplainArgs, KernelArgs};
use crate::commands::{iptables, variant_in_use};

pub(super) struct ExplainedRules {
    rules: rulegen::types::Rules,
    /// Rules of other programs in the followed table, which are not understood: chain and rule.
    unknown: Vec<(String, String)>,
    /// The rest of the host, if the rules are those of the kernel.
    host: Option<LiveHost>,
}

struct LiveHost {
    /// The base chains of other tables.
    chains: Vec<FirewallBaseChain>,
    network: LiveNetwork,
}

impl ExplainedRules {
    /// The rules of a plan.
    pub(super) fn wanted(args: &ExplainArgs, mode: ProxyMode, plan: &Plan) -> Self {
        let rules = match mode {
            ProxyMode::Iptables => rulegen::iptables_rules(plan),
            ProxyMode::Nftables => {
                rulegen::nftables_rules(plan, args.proxy.nftables.nftables_table.as_str())
            }
        };
        Self { rules, unknown: Vec::new(), host: None }
    }

    /// The rules in the kernel.
    pub(super) fn held(
        kernel: &KernelArgs,
        table: &Name,
        mode: ProxyMode,
        family: IpFamily,
    ) -> Result<Self> {
        match mode {
            ProxyMode::Iptables => {
                let variant = variant_in_use(kernel)?;
                let ruleset = iptables(family, variant, kernel).save()?;
                let followed = Followed::Ruleset(variant, &ruleset);
                let chains = base_chains(family, &followed, kernel)?;
                let host = Some(LiveHost { chains, network: LiveNetwork::open()? });
                Ok(Self {
                    rules: rulegen::types::Rules::Iptables(ruleset),
                    unknown: Vec::new(),
                    host,
                })
            }
            ProxyMode::Nftables => held_table(kernel, table, family),
        }
    }

    /// Where a packet enters, if the rules are those of the kernel.
    pub(super) fn origin(&self, source: IpAddr, destination: IpAddr) -> Origin {
        let network = self.host.as_ref().map(|host| &host.network);
        network.map_or(Origin::UnknownInterface, |network| network.origin(source, destination))
    }

    /// The interface through which packets of a named one come in. Fails if the host that the rules
    /// are of does not have it.
    pub(super) fn input(&self, name: &str) -> Result<InputInterface> {
        match &self.host {
            Some(host) => host.network.input(name),
            None => Ok(InputInterface { interface: name.to_owned(), remark: None }),
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
        let Some(LiveHost { network, .. }) = &self.host else {
            return rulegen::explain(&self.rules, local, packet, plan);
        };
        let mut explanation = match &self.rules {
            rulegen::types::Rules::Iptables(ruleset) => {
                let out_interface = |to| network.out_interface(packet, to);
                let host = TracedHost { local, out_interface: &out_interface };
                by_ruleset_on(ruleset, &host, packet, plan)
            }
            rules => rulegen::explain(rules, local, packet, plan),
        };
        for (chain, rule) in &self.unknown {
            explanation.not_followed(chain.clone(), rule.clone());
        }
        explanation
    }

    /// Judges the rest of the host, if the rules are those of the kernel.
    pub(super) fn on_host(&self, explanation: &mut Explanation, local: &[IpAddr]) {
        if let Some(LiveHost { chains, network }) = &self.host {
            explanation.on_host(chains, network, local);
        }
    }
}

fn held_table(args: &KernelArgs, name: &Name, family: IpFamily) -> Result<ExplainedRules> {
    let mut kernel = NfTables::open()?;
    let Some(Delinearized { table, unknown }) = followed_table(&mut kernel, family, name)? else {
        let family_name = family.nft_name();
        if kernel.is_dormant(family, name)? {
            bail!(
                "table {family_name} {name} is dormant: the kernel does not use its rules. Enable it \
                 with: nft add table {family_name} {name}"
            );
        }
        bail!("the kernel has no table {family_name} {name}: no rules were applied here");
    };
    let name = table.name.clone();
    let unknown = unknown.iter().map(|unknown| match unknown {
        Unknown::Rule { chain, text } => (chain.to_string(), text.clone()),
        other => (format!("table {} {name}", family.nft_name()), other.to_string()),
    });
    let chains = base_chains(family, &Followed::Table(&name), args)?;
    let host = Some(LiveHost { chains, network: LiveNetwork::open()? });
    let unknown = unknown.collect();
    Ok(ExplainedRules { rules: rulegen::types::Rules::Nftables(table), unknown, host })
}

/// Our table. If it does not exist, is dormant or has no Services, kube-proxy's own.
fn followed_table(
    kernel: &mut NfTables,
    family: IpFamily,
    name: &Name,
) -> Result<Option<Delinearized>> {
    let kube_proxys = Name::from(KUBE_PROXY_TABLE);
    let ours = if *name == kube_proxys || kernel.is_dormant(family, name)? {
        None
    } else {
        let (_, ours) = kernel.read(&[(family, name)])?;
        ours.into_iter().flatten().next().map(|ours| ours.delinearize(family, name))
    };
    match ours {
        Some(ours) if !of_table(&ours.table).services.is_empty() => Ok(Some(ours)),
        ours if kernel.is_dormant(family, &kube_proxys)? => Ok(ours),
        ours => {
            let theirs = kernel.read_of_others(&[(family, &kube_proxys)])?;
            let theirs = theirs.into_iter().flatten().next();
            Ok(theirs.map(|theirs| theirs.delinearize(family, &kube_proxys)).or(ours))
        }
    }
}
