//! The rules in the kernel of this host.

use std::net::IpAddr;

use rulegen_compiler::Plan;
use rulegen_compiler::nftables::KUBE_PROXY_TABLE;
use rulegen_inspect::explain::{Explanation, by_ruleset_on, by_table};
use rulegen_inspect::listing::{Listing, of_ruleset, of_table};
use rulegen_kernel::iptables::Variant;
use rulegen_kernel::nftables::{Dataplane, NfTables};
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::firewall::FirewallBaseChain;
use rulegen_ruleset::iptables::{Ruleset, TracedHost};
use rulegen_ruleset::nftables::{Delinearized, Name, Table, Unknown};
use rulegen_ruleset::{Origin, Packet};

use super::base_chains::{Followed, IptablesAccess, base_chains};
use super::error::LiveError;
use super::network::{InputInterface, LiveNetwork};

/// The rules of one family in the kernel, and the rest of the host.
pub struct ActualRules {
    rules: FollowedRules,
    /// Rules of other programs in the followed table, which are not understood: chain and rule.
    unknown: Vec<(String, String)>,
    /// The base chains of other tables.
    chains: Vec<FirewallBaseChain>,
    network: LiveNetwork,
}

enum FollowedRules {
    Ruleset(Ruleset),
    Table(Table),
}

impl ActualRules {
    /// Reads the rules of iptables.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn of_iptables(
        family: IpFamily,
        variant: Variant,
        iptables: IptablesAccess<'_>,
    ) -> Result<Self, LiveError> {
        let ruleset = iptables(family, variant).save()?;
        let chains = base_chains(family, &Followed::Ruleset(variant, &ruleset), iptables)?;
        let (rules, network) = (FollowedRules::Ruleset(ruleset), LiveNetwork::open()?);
        Ok(Self { rules, unknown: Vec::new(), chains, network })
    }

    /// Reads rulegen's table of nftables. If it does not exist, is dormant or has no Services, reads
    /// kube-proxy's own.
    ///
    /// # Errors
    /// There is no such table, or it cannot be read.
    pub fn of_nftables(
        family: IpFamily,
        name: &Name,
        iptables: IptablesAccess<'_>,
    ) -> Result<Self, LiveError> {
        let mut kernel = NfTables::open()?;
        let Some(Delinearized { table, unknown }) = followed_table(&mut kernel, family, name)?
        else {
            let is_dormant = kernel.is_dormant(family, name)?;
            let (family, name) = (family.nft_name(), name.clone());
            return Err(match is_dormant {
                true => LiveError::Dormant { family, name },
                false => LiveError::NoTable { family, name },
            });
        };
        let name = table.name.clone();
        let unknown = unknown.iter().map(|unknown| match unknown {
            Unknown::Rule { chain, text } => (chain.to_string(), text.clone()),
            other => (format!("table {} {name}", family.nft_name()), other.to_string()),
        });
        let unknown = unknown.collect();
        let chains = base_chains(family, &Followed::Table(&name), iptables)?;
        let (rules, network) = (FollowedRules::Table(table), LiveNetwork::open()?);
        Ok(Self { rules, unknown, chains, network })
    }

    /// Where a packet enters, if it takes the route back to its source.
    pub fn origin(&self, source: IpAddr, destination: IpAddr) -> Origin {
        self.network.origin(source, destination)
    }

    /// The interface through which packets of a named one come in.
    ///
    /// # Errors
    /// There is no such interface, or it cannot be read.
    pub fn input(&self, name: &str) -> Result<InputInterface, LiveError> {
        self.network.input(name)
    }

    /// The Services that the rules are for.
    pub fn services(&self) -> Listing {
        match &self.rules {
            FollowedRules::Ruleset(ruleset) => of_ruleset(ruleset),
            FollowedRules::Table(table) => of_table(table),
        }
    }

    /// Explains what the rules and the rest of the host do with a packet. `local` are the host's own
    /// addresses. `complete` adds what objects say about the explanation.
    pub fn explain(
        &self,
        local: &[IpAddr],
        packet: &Packet,
        plan: Option<&Plan>,
        complete: impl FnOnce(&mut Explanation),
    ) -> Explanation {
        let mut explanation = match &self.rules {
            FollowedRules::Ruleset(ruleset) => {
                let out_interface = |to| self.network.out_interface(packet, to);
                let host = TracedHost { local, out_interface: &out_interface };
                by_ruleset_on(ruleset, &host, packet, plan)
            }
            FollowedRules::Table(table) => by_table(table, local, packet, plan),
        };
        for (chain, rule) in &self.unknown {
            explanation.not_followed(chain.clone(), rule.clone());
        }
        complete(&mut explanation);
        // Only iptables mode opens node ports at loopback addresses.
        if matches!(self.rules, FollowedRules::Ruleset(_)) && !host::routes_localnet() {
            explanation.without_route_localnet();
        }
        explanation.on_host(&self.chains, &self.network, local);
        explanation
    }
}

/// Our table. If it does not exist, is dormant or has no Services, kube-proxy's own.
fn followed_table(
    kernel: &mut NfTables,
    family: IpFamily,
    name: &Name,
) -> Result<Option<Delinearized>, LiveError> {
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
