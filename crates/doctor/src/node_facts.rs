//! The facts that checks use. Each is read from the kernel once, when it is first needed.

use std::cell::OnceCell;

use std::time::Duration;

use rulegen_compiler::iptables::KUBELET_CHAINS;
use rulegen_compiler::nftables::{DEFAULT_TABLE, KUBE_PROXY_TABLE};
use rulegen_compiler::{iptables, nftables, plan};
use rulegen_config::{BindAddress, ProxyConfig, ProxyMode};
use rulegen_kernel::iptables::{
    Access, Iptables, Variant, accessible, is_accessible, legacy_tables,
};
use rulegen_kernel::nftables::NfTables;
use rulegen_model::{Cluster, Problem, Snapshot};
use rulegen_net::IpFamily;
use rulegen_os::host;
use rulegen_ruleset::iptables::{Ruleset, Table as IptablesTable};
use rulegen_ruleset::nftables::{Name, Table};

use crate::error::FactResult;
use crate::finding::{CheckResult, Finding};

/// What to diagnose.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// The effective configuration.
    pub config: ProxyConfig,
    /// Address of the agent's status page.
    pub metrics_address: BindAddress,
    /// The cluster's objects. Without them, checks of Services do not run.
    pub cluster: Option<Cluster>,
    /// The problems with these objects.
    pub problems: Vec<Problem>,
    /// Whether the objects are from the API server, which was asked only for the Node with this node's
    /// name.
    pub is_from_api_server: bool,
    /// IP families; `None` for those of this host.
    pub families: Option<&'static [IpFamily]>,
    /// Name of rulegen's nftables table.
    pub table: Name,
    /// The iptables variant of iptables mode; `None` for kubelet's, else the newer installed one.
    pub iptables_variant: Option<Variant>,
    /// How rules of iptables are read.
    pub iptables_access: Access,
    /// Maximum time to wait for the xtables lock.
    pub lock_timeout: Duration,
}

/// The facts of a node.
#[derive(Debug)]
pub struct NodeFacts {
    options: DoctorOptions,
    iptables: OnceCell<FactResult<Vec<ActualIptables>>>,
    tables: OnceCell<FactResult<Vec<(IpFamily, Name)>>>,
}

/// The ruleset of one iptables variant and IP family.
#[derive(Debug)]
pub(crate) struct ActualIptables {
    pub(crate) variant: Variant,
    pub(crate) family: IpFamily,
    pub(crate) ruleset: Ruleset,
}

impl ActualIptables {
    /// True if this is iptables-nft, and its programs can show the table. Other tables of the same
    /// name belong to nft.
    pub(crate) fn is_of_iptables_nft(&self, table: IptablesTable) -> bool {
        self.variant == Variant::Nft && self.ruleset.is_shown_by_iptables(table)
    }

    /// Whether it has chains of Services. Those that a cleanup keeps because rules of other programs
    /// jump to them, usually KUBE-MARK-MASQ, do not count.
    pub(crate) fn holds_services(&self) -> bool {
        let (_, kept) = iptables::removal_of_everything(&self.ruleset);
        let chains = self.ruleset.tables.get(&IptablesTable::Nat).into_iter();
        let mut chains = chains.flat_map(|chains| chains.keys());
        chains.any(|chain| {
            let is_kept = kept.contains(&(IptablesTable::Nat, chain));
            iptables::OURS.owns(IptablesTable::Nat, chain) && !is_kept
        })
    }

    /// Whether it has kubelet's chains.
    pub(crate) fn is_kubelets(&self) -> bool {
        let mangle = self.ruleset.tables.get(&IptablesTable::Mangle);
        let mut chains = mangle.into_iter().flat_map(|chains| chains.keys());
        chains.any(|chain| KUBELET_CHAINS.contains(&chain.as_str()))
    }

    /// The name of the program that lists it.
    pub(crate) fn words(&self) -> String {
        let program = match self.family {
            IpFamily::Ipv4 => "iptables",
            IpFamily::Ipv6 => "ip6tables",
        };
        format!("{program}-{}", self.variant)
    }
}

impl NodeFacts {
    /// The facts of this node. Nothing is read yet.
    pub fn new(options: DoctorOptions) -> Self {
        Self { options, iptables: OnceCell::new(), tables: OnceCell::new() }
    }

    pub(crate) fn config(&self) -> &ProxyConfig {
        &self.options.config
    }

    pub(crate) fn metrics_address(&self) -> BindAddress {
        self.options.metrics_address
    }

    /// The cluster's objects, if they were given.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.options.cluster.as_ref()
    }

    /// What reading the objects found.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.options.problems
    }

    /// Whether the API server was asked for the objects, and only for the Node with this node's name.
    pub(crate) fn is_from_api_server(&self) -> bool {
        self.options.is_from_api_server
    }

    /// Runs a check of Services. Without any Service that gets rules, it has nothing to say: for
    /// example, if all Services of the input were left out with a warning.
    pub(crate) fn with_services(
        &self,
        check: impl FnOnce(&Cluster) -> FactResult<CheckResult>,
    ) -> FactResult<CheckResult> {
        self.with_cluster(|cluster| match has_services(&cluster.snapshot) {
            true => check(cluster),
            false => Ok(no_services()),
        })
    }

    /// Runs a check that needs objects.
    pub(crate) fn with_cluster(
        &self,
        check: impl FnOnce(&Cluster) -> FactResult<CheckResult>,
    ) -> FactResult<CheckResult> {
        match self.cluster() {
            Some(cluster) => check(cluster),
            None => Ok(CheckResult::NotChecked(
                "needs cluster objects: use -f or --kubeconfig".to_owned(),
            )),
        }
    }

    /// The IP families used on this host.
    pub(crate) fn families(&self) -> &'static [IpFamily] {
        match self.options.families {
            Some(families) => families,
            None if host::has_ipv6() => &IpFamily::BOTH,
            None => &[IpFamily::Ipv4],
        }
    }

    /// Whether --ip-family excludes a family.
    pub(crate) fn is_excluded(&self, family: IpFamily) -> bool {
        self.options.families.is_some_and(|families| !families.contains(&family))
    }

    /// Whether an nftables table of this family, in nft's word, is only for IP families that are not
    /// diagnosed.
    pub(crate) fn excludes_family(&self, family: &str) -> bool {
        let others = IpFamily::BOTH.into_iter().filter(|family| !self.families().contains(family));
        others.map(IpFamily::nft_name).any(|name| name == family)
    }

    /// Name of rulegen's nftables table.
    pub(crate) fn table(&self) -> &Name {
        &self.options.table
    }

    /// The iptables variant used in iptables mode: that of --iptables-variant, else the only one with
    /// rules of Services, else kubelet's, else the newer of those installed.
    pub(crate) fn variant(&self) -> FactResult<Variant> {
        match self.options.iptables_variant {
            Some(variant) => Ok(variant),
            None => Ok(variant_of(self.iptables()?)),
        }
    }

    /// The desired nftables tables, one per IP family.
    pub(crate) fn desired_tables(&self, snapshot: &Snapshot) -> Vec<Table> {
        let table = |family: &IpFamily| {
            nftables::table(&plan(snapshot, self.config(), *family), self.table())
        };
        self.families().iter().map(table).collect()
    }

    pub(crate) fn desired_ruleset(&self, snapshot: &Snapshot, family: IpFamily) -> Ruleset {
        iptables::ruleset(&plan(snapshot, self.config(), family))
    }

    /// The rulesets of all iptables variants that can be read. In nftables mode it is no error if none
    /// can.
    pub(crate) fn iptables(&self) -> FactResult<&[ActualIptables]> {
        let read = self.iptables.get_or_init(|| self.read_iptables());
        read.as_deref().map_err(Clone::clone)
    }

    fn read_iptables(&self) -> FactResult<Vec<ActualIptables>> {
        let variants = match (accessible(self.options.iptables_access), self.config().mode) {
            (Err(_), ProxyMode::Nftables) => Vec::new(),
            (variants, _) => variants?,
        };
        let DoctorOptions { iptables_access: access, lock_timeout, .. } = self.options;
        let mut actual = Vec::new();
        for variant in variants {
            let families = self.families().iter().copied();
            for family in families.filter(|family| is_accessible(*family, variant, access)) {
                let iptables = Iptables::new(family, variant, lock_timeout).accessed_by(access);
                actual.push(ActualIptables { variant, family, ruleset: iptables.save()? });
            }
        }
        Ok(actual)
    }

    /// How rules of iptables are read.
    pub(crate) fn iptables_access(&self) -> Access {
        self.options.iptables_access
    }

    /// The outcome of a check of all iptables rules. Rules that cannot be read are no reason to say
    /// that nothing is wrong.
    pub(crate) fn found_in_iptables(&self, findings: Vec<Finding>) -> FactResult<CheckResult> {
        let unread = if findings.is_empty() { self.unread_iptables()? } else { Vec::new() };
        Ok(match unread.as_slice() {
            [] => CheckResult::Found(findings),
            unread => CheckResult::NotChecked(format!(
                "the kernel has rules of {}, which cannot be read because it is not installed",
                unread.join(" and ")
            )),
        })
    }

    /// The iptables variants that have rules or tables but no program to read them.
    fn unread_iptables(&self) -> FactResult<Vec<String>> {
        let mut unread = Vec::new();
        let actual = self.iptables()?;
        for variant in Variant::ALL {
            let is_read = actual.iter().any(|actual| actual.variant == variant);
            if !is_read && self.may_have_rules(variant)? {
                unread.push(format!("iptables-{variant}"));
            }
        }
        Ok(unread)
    }

    fn may_have_rules(&self, variant: Variant) -> FactResult<bool> {
        match variant {
            Variant::Legacy => {
                Ok(legacy_tables()?.iter().any(|((_, table), size)| size.has_rules(*table)))
            }
            Variant::Nft => {
                let Some(mut kernel) = nf_tables()? else { return Ok(false) };
                for family in self.families() {
                    if kernel.has_all(&[(*family, &Name::from(IptablesTable::Nat.name()))])? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// The existing nftables tables of these: rulegen's, the one with its default name, and
    /// kube-proxy's.
    pub(crate) fn tables(&self) -> FactResult<&[(IpFamily, Name)]> {
        let read = self.tables.get_or_init(|| self.read_tables());
        read.as_deref().map_err(Clone::clone)
    }

    fn read_tables(&self) -> FactResult<Vec<(IpFamily, Name)>> {
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

fn variant_of(actual: &[ActualIptables]) -> Variant {
    let first = |of: fn(&ActualIptables) -> bool| actual.iter().find(|actual| of(actual));
    let with_rules = first(ActualIptables::holds_services).filter(|with_rules| {
        actual.iter().all(|actual| actual.variant == with_rules.variant || !actual.holds_services())
    });
    let chosen = with_rules.or(first(ActualIptables::is_kubelets)).or(actual.first());
    chosen.map_or(Variant::Nft, |actual| actual.variant)
}

/// The outcome of a check of Services that has none to check.
pub(crate) fn no_services() -> CheckResult {
    CheckResult::NotChecked(
        "no Service of the input gets rules (see the messages about the input)".to_owned(),
    )
}

/// Whether a Service gets rules.
pub(crate) fn has_services(snapshot: &Snapshot) -> bool {
    IpFamily::BOTH.into_iter().any(|family| !snapshot.service_ports(family).is_empty())
}

/// The kernel's nf_tables; `None` if the kernel has none.
pub(crate) fn nf_tables() -> FactResult<Option<NfTables>> {
    match NfTables::open().and_then(|mut kernel| kernel.generation().map(|_| kernel)) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use rulegen_ruleset::iptables::parse;

    use super::*;

    fn actual(variant: Variant, tables: &str) -> ActualIptables {
        let (ruleset, errors) = parse(IpFamily::Ipv4, tables);
        assert_eq!(errors, []);
        ActualIptables { variant, family: IpFamily::Ipv4, ruleset }
    }

    #[test]
    fn chains_of_services_that_cleanup_keeps_do_not_count() {
        let holds_services = |lines: &str| {
            actual(Variant::Nft, &format!("*nat\n{lines}\nCOMMIT\n")).holds_services()
        };
        let mark = ":KUBE-MARK-MASQ - [0:0]\n:CNI - [0:0]\n-A CNI -p tcp -j KUBE-MARK-MASQ";
        assert!(!holds_services(mark));
        assert!(holds_services(":KUBE-MARK-MASQ - [0:0]"));
        assert!(holds_services(&format!(":KUBE-SERVICES - [0:0]\n{mark}")));
    }

    #[test]
    fn iptables_variant_with_rules_of_services_comes_before_that_of_kubelet() {
        let services = "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n";
        let kubelet = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
        let chosen =
            |nft, legacy| variant_of(&[actual(Variant::Nft, nft), actual(Variant::Legacy, legacy)]);
        assert_eq!(chosen("", ""), Variant::Nft);
        assert_eq!(chosen("", kubelet), Variant::Legacy);
        assert_eq!(chosen("", services), Variant::Legacy);
        assert_eq!(chosen(services, kubelet), Variant::Nft);
        assert_eq!(chosen(services, &[services, kubelet].concat()), Variant::Legacy);
    }
}
