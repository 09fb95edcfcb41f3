//! The rules during a trace. Single rules are read from the kernel when packets match them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rulegen_inspect::packet_trace::TraceContext;
use rulegen_kernel::nftables::{Dataplane, DataplaneError, Generation, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Name, TraceEvent, TraceStep};

pub(super) struct RulesetCache {
    kernel: NfTables,
    table: Name,
    known: TraceContext,
    /// The ruleset generation of `known`.
    generation: Generation,
    /// End of the last read of our tables.
    read: Instant,
    /// Duration of the last read.
    took: Duration,
}

/// Pause between reads, as a multiple of the duration of the last one: events wait while a table is
/// read, so at most 5 % of the time is spent on reading. If a packet has an unknown destination, the
/// pause is as long as the read.
const REST: u32 = 19;

impl RulesetCache {
    /// Reads our tables.
    pub(super) fn open(table: &Name) -> Result<Self> {
        let mut kernel = NfTables::open()?;
        let known = TraceContext { table: Some(table.clone()), ..TraceContext::default() };
        let generation = kernel.generation()?;
        let (read, took) = (Instant::now(), Duration::ZERO);
        let mut cache = Self { kernel, table: table.clone(), known, generation, read, took };
        cache.read()?;
        if cache.known.actual.is_empty() {
            bail!(
                "no nftables table {table} in this network namespace. Tracing needs nftables mode. In \
                 iptables mode, use `rulegen explain`, or with iptables-nft `xtables-monitor --trace` \
                 (after adding a rule with -j TRACE to table raw)"
            );
        }
        Ok(cache)
    }

    pub(super) fn known(&self) -> &TraceContext {
        &self.known
    }

    /// Skips the generation of our own commit, which did not change a known rule.
    pub(super) fn after_own_commit(&mut self) -> Result<()> {
        let generation = self.kernel.generation()?;
        if generation.0 == self.generation.0.wrapping_add(1) {
            self.generation = generation;
        }
        Ok(())
    }

    /// Reads the chains and rules of an event that are not cached yet.
    pub(super) fn learn(&mut self, event: &TraceEvent) -> Result<()> {
        if let Some(header) = &event.header {
            self.follow_changes(self.known.service_at(header).is_some())?;
        }
        if event.header.is_some() && !self.known.bases.contains_key(&event.at) {
            self.known.bases = self.kernel.base_chains()?.into_iter().collect();
        }
        if let TraceStep::Rule { handle, .. } = event.step {
            let key = (event.at.clone(), handle);
            if !self.known.rules.contains_key(&key) {
                let rule = self.kernel.rule(&event.at, handle)?;
                self.known.rules.insert(key, rule);
            }
        }
        Ok(())
    }

    /// Reads our tables again if another program has committed since.
    fn follow_changes(&mut self, is_known: bool) -> Result<()> {
        if self.kernel.generation()? == self.generation {
            return Ok(());
        }
        let rest = if is_known { REST } else { 1 };
        if self.read.elapsed() < self.took.saturating_mul(rest) {
            return Ok(());
        }
        match self.read() {
            // The rules change too often to read them: continue with the old ones.
            Err(DataplaneError::Busy { .. }) => Ok(()),
            done => Ok(done?),
        }
    }

    fn read(&mut self) -> Result<(), DataplaneError> {
        let families = [IpFamily::Ipv4, IpFamily::Ipv6];
        let begun = Instant::now();
        let read = self.kernel.read(&families.map(|family| (family, &self.table)));
        (self.read, self.took) = (Instant::now(), begun.elapsed());
        let (generation, actual) = read?;
        self.generation = generation;
        let actual = families.into_iter().zip(actual);
        self.known.actual = actual.filter_map(|(family, actual)| Some((family, actual?))).collect();
        self.known.rules.clear();
        self.known.bases.clear();
        Ok(())
    }
}
