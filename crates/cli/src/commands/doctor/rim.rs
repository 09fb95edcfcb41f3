//! The facts that checks use. Each is read from the kernel once, when it is first needed.

use std::cell::OnceCell;

use anyhow::{Result, anyhow};
use rulegen_agent::takeover::KUBE_PROXY_TABLE;
use rulegen_compiler::iptables::KUBELET_CHAINS;
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::{ProxyConfig, ProxyMode};
use rulegen_kernel::iptables::{Iptables, Variant, installed, is_installed};
use rulegen_kernel::nftables::NfTables;
use rulegen_model::Snapshot;
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::iptables::{Ruleset, Table as IptablesTable};
use rulegen_ruleset::nftables::{Name, Table};

use super::finding::Outcome;
use crate::args::{DoctorArgs, VariantChoice};
use crate::families::chosen;
use crate::inputs::{Cluster, Inputs};

pub(super) struct Rim<'a> {
    args: &'a DoctorArgs,
    found: Inputs,
    iptables: OnceCell<Result<Vec<ActualIptables>, String>>,
    tables: OnceCell<Result<Vec<(IpFamily, Name)>, String>>,
}

/// The ruleset of one iptables variant and IP family.
pub(super) struct ActualIptables {
    pub(super) variant: Variant,
    pub(super) family: IpFamily,
    pub(super) ruleset: Ruleset,
}

impl ActualIptables {
    /// Whether it has chains of Services.
    pub(super) fn holds_services(&self) -> bool {
        rulegen_inspect::iptables::holds_services(&self.ruleset)
    }

    /// Whether it has kubelet's chains.
    pub(super) fn is_kubelets(&self) -> bool {
        let mangle = self.ruleset.tables.get(&IptablesTable::Mangle);
        let mut chains = mangle.into_iter().flat_map(|chains| chains.keys());
        chains.any(|chain| KUBELET_CHAINS.contains(&chain.as_str()))
    }

    /// The name of the program that lists it.
    pub(super) fn words(&self) -> String {
        let program = match self.family {
            IpFamily::Ipv4 => "iptables",
            IpFamily::Ipv6 => "ip6tables",
        };
        format!("{program}-{}", self.variant)
    }
}

impl<'a> Rim<'a> {
    pub(super) fn new(found: Inputs, args: &'a DoctorArgs) -> Self {
        Self { args, found, iptables: OnceCell::new(), tables: OnceCell::new() }
    }

    pub(super) fn config(&self) -> &ProxyConfig {
        &self.found.config
    }

    /// The cluster's objects, if they were given.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.found.cluster.as_ref()
    }

    /// Runs a check that needs objects.
    pub(super) fn with_cluster(
        &self,
        check: impl FnOnce(&Cluster) -> Result<Outcome>,
    ) -> Result<Outcome> {
        match self.cluster() {
            Some(cluster) => check(cluster),
            None => {
                Ok(Outcome::NotChecked("needs cluster objects: use -f or --kubeconfig".to_owned()))
            }
        }
    }

    /// The IP families used on this host.
    pub(super) fn families(&self) -> &'static [IpFamily] {
        match self.args.family.ip_family {
            Some(choice) => chosen(choice),
            None if host::has_ipv6() => &IpFamily::BOTH,
            None => &[IpFamily::Ipv4],
        }
    }

    /// Name of rulegen's nftables table.
    pub(super) fn table(&self) -> &Name {
        &self.args.proxy.nftables.nftables_table
    }

    /// The iptables variant used in iptables mode: that of --iptables-variant, else kubelet's, else the
    /// newer of those installed.
    pub(super) fn variant(&self) -> Result<Variant> {
        match self.args.kernel.iptables_variant {
            Some(VariantChoice::Nft) => return Ok(Variant::Nft),
            Some(VariantChoice::Legacy) => return Ok(Variant::Legacy),
            None => {}
        }
        let held = self.iptables()?;
        let kubelets = held.iter().find(|held| held.is_kubelets());
        Ok(kubelets.or(held.first()).map_or(Variant::Nft, |held| held.variant))
    }

    /// The desired nftables tables, one per IP family.
    pub(super) fn wanted_tables(&self, snapshot: &Snapshot) -> Vec<Table> {
        let table = |family: &IpFamily| {
            nftables::table(&plan(snapshot, self.config(), *family), self.table())
        };
        self.families().iter().map(table).collect()
    }

    pub(super) fn wanted_ruleset(&self, snapshot: &Snapshot, family: IpFamily) -> Ruleset {
        iptables::ruleset(&plan(snapshot, self.config(), family))
    }

    /// The rulesets of all installed iptables variants. In nftables mode it is no error if none is
    /// installed.
    pub(super) fn iptables(&self) -> Result<&[ActualIptables]> {
        let read = self.iptables.get_or_init(|| {
            self.read_iptables()
                .map_err(|error| format!("cannot read the iptables rules: {error:#}"))
        });
        read.as_deref().map_err(|error| anyhow!("{error}"))
    }

    fn read_iptables(&self) -> Result<Vec<ActualIptables>> {
        let variants = match (installed(), self.config().mode) {
            (Err(_), ProxyMode::Nftables) => Vec::new(),
            (variants, _) => variants?,
        };
        let mut held = Vec::new();
        for variant in variants {
            let families = self.families().iter().copied();
            for family in families.filter(|family| is_installed(*family, variant)) {
                let lock_timeout = self.args.kernel.lock.timeout();
                let ruleset = Iptables::new(family, variant, lock_timeout).save()?;
                held.push(ActualIptables { variant, family, ruleset });
            }
        }
        Ok(held)
    }

    /// The existing nftables tables of these: rulegen's, the one with its default name, and
    /// kube-proxy's.
    pub(super) fn tables(&self) -> Result<&[(IpFamily, Name)]> {
        let read = self.tables.get_or_init(|| self.read_tables().map_err(|e| format!("{e:#}")));
        read.as_deref().map_err(|error| anyhow!("{error}"))
    }

    fn read_tables(&self) -> Result<Vec<(IpFamily, Name)>> {
        let mut names = vec![self.table().clone()];
        for other in [DEFAULT_TABLE, KUBE_PROXY_TABLE].map(Name::from) {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        let tables = [IpFamily::Ipv4, IpFamily::Ipv6].into_iter();
        let tables = tables.flat_map(|family| names.iter().map(move |name| (family, name)));
        let Some(mut kernel) = nf_tables()? else { return Ok(Vec::new()) };
        let mut there = Vec::new();
        for (family, name) in tables {
            if kernel.has_all(&[(family, name)])? {
                there.push((family, name.clone()));
            }
        }
        Ok(there)
    }
}

/// Default name of rulegen's nftables table.
pub(super) const DEFAULT_TABLE: &str = "rulegen";

/// The kernel's nf_tables; `None` if the kernel has none.
pub(super) fn nf_tables() -> Result<Option<NfTables>> {
    let mut kernel = NfTables::open()?;
    match kernel.generation() {
        Ok(_) => Ok(Some(kernel)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
