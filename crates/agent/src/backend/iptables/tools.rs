//! The tables of the variant in use, and the commits that we made to them.

use std::time::Duration;

use rulegen_compiler::iptables::KUBELET_CHAINS;
use rulegen_kernel::iptables::{
    Access, Iptables, IptablesError, OwnCommits, Restored, Variant, choose,
};
use rulegen_kernel::nftables::{Generation, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::iptables::{ChainName, Ruleset, Table, Tables, Transaction};

use super::chains_in_use::ChainsInUse;
use crate::error;
use crate::queue::Sink;
use crate::threads;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ToolOptions {
    /// `None` to use the variant with kubelet's chains.
    pub(crate) variant: Option<Variant>,
    pub(crate) access: Access,
    pub(crate) lock_timeout: Duration,
}

/// The tables of one variant.
pub(super) struct Tools {
    variant: Variant,
    access: Access,
    lock_timeout: Duration,
    /// Reads the generation of the ruleset, for iptables-nft.
    kernel: Option<NfTables>,
    pub(super) own: OwnCommits,
    pub(super) in_use: ChainsInUse,
}

impl Tools {
    /// Chooses the variant and subscribes to commits to their tables.
    pub(super) fn open(options: &ToolOptions, sink: &Sink) -> Result<Self, error::Error> {
        let variant = match options.variant {
            Some(variant) => variant,
            None => choose(&KUBELET_CHAINS, options.access)?,
        };
        let kernel = match variant {
            Variant::Nft => Some(NfTables::open()?),
            Variant::Legacy => None,
        };
        threads::watch_iptables(variant, sink.clone())?;
        tracing::debug!(%variant, "using iptables variant");
        let ToolOptions { access, lock_timeout, .. } = *options;
        let (own, in_use) = (OwnCommits::default(), ChainsInUse::default());
        Ok(Self { variant, access, lock_timeout, kernel, own, in_use })
    }

    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    pub(super) fn save(&self, family: IpFamily) -> Result<Ruleset, IptablesError> {
        self.iptables(family).save()
    }

    /// Reads only these chains.
    pub(super) fn read_chains<'a>(
        &self,
        family: IpFamily,
        chains: impl IntoIterator<Item = &'a (Table, ChainName)>,
    ) -> Result<Ruleset, IptablesError> {
        self.iptables(family).read_chains(chains)
    }

    /// Applies a transaction unless it is empty.
    pub(super) fn restore(
        &mut self,
        family: IpFamily,
        transaction: &Transaction<'_>,
    ) -> Result<Restored, IptablesError> {
        if transaction.is_empty() {
            return Ok(Restored::default());
        }
        let iptables = self.iptables(family);
        self.noted(|| iptables.restore(transaction))
    }

    /// Restores, and records the commits as our own.
    fn noted(
        &mut self,
        restore: impl FnOnce() -> Result<Restored, IptablesError>,
    ) -> Result<Restored, IptablesError> {
        let before = self.generation();
        let restored = restore()?;
        // Without the generations, our own commits look foreign and cause a full resync.
        if let (Some(before), Some(after)) = (before, self.generation()) {
            self.own.note(before, after, restored.commits, restored.id);
        }
        Ok(restored)
    }

    /// Whether several families can be written in one commit.
    pub(super) fn commits_together(&self) -> bool {
        self.iptables(IpFamily::Ipv4).uses_netlink()
    }

    /// Applies the transactions of several families in one commit, unless there are none.
    pub(super) fn restore_together(
        &mut self,
        transactions: &[(IpFamily, &Transaction<'_>)],
    ) -> Result<Restored, IptablesError> {
        if transactions.is_empty() {
            return Ok(Restored::default());
        }
        self.noted(|| Iptables::commit_together(transactions))
    }

    /// The tables of one family.
    pub(super) fn tables(&mut self, family: IpFamily) -> impl Tables<Error = IptablesError> {
        TablesOf { tools: self, family }
    }

    fn generation(&mut self) -> Option<Generation> {
        self.kernel.as_mut()?.generation().ok()
    }

    fn iptables(&self, family: IpFamily) -> Iptables {
        Iptables::new(family, self.variant, self.lock_timeout).accessed_by(self.access)
    }
}

struct TablesOf<'a> {
    tools: &'a mut Tools,
    family: IpFamily,
}

impl Tables for TablesOf<'_> {
    type Error = IptablesError;

    fn save(&mut self) -> Result<Ruleset, IptablesError> {
        self.tools.save(self.family)
    }

    fn restore(&mut self, transaction: &Transaction<'_>) -> Result<(), IptablesError> {
        self.tools.restore(self.family, transaction).map(drop)
    }

    fn is_about_content(error: &IptablesError) -> bool {
        error.is_about_content()
    }
}
