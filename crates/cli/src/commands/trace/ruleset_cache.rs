//! The rules while packets pass them: read from the kernel as far as packets meet them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rulegen_inspect::packet_trace::TraceContext;
use rulegen_kernel::nftables::{Dataplane, Error, Generation, NfTables};
use rulegen_net::IpFamily;
use rulegen_ruleset::nftables::{Name, TraceEvent, TraceStep};

pub(super) struct Detected {
    kernel: NfTables,
    table: Name,
    known: TraceContext,
    /// What `known` is of.
    generation: Generation,
    /// When our tables were read, and how long that took.
    read: Instant,
    took: Duration,
}

/// Reading a large table takes long, and events wait meanwhile: after it no table is read for so
/// many times as long, or for as long where a packet is to a Service that is not known.
const REST: u32 = 19;

impl Detected {
    /// Reads our tables.
    pub(super) fn open(table: &Name) -> Result<Self> {
        let mut kernel = NfTables::open()?;
        let known = TraceContext { table: Some(table.clone()), ..TraceContext::default() };
        let generation = kernel.generation()?;
        let (read, took) = (Instant::now(), Duration::ZERO);
        let mut sight = Self { kernel, table: table.clone(), known, generation, read, took };
        sight.read()?;
        if sight.known.held.is_empty() {
            bail!(
                "there is no nftables table {table} in this network namespace. Tracing is for \
                 nftables mode: in iptables mode `rulegen explain` says which rules a packet meets, and \
                 with iptables-nft `xtables-monitor --trace` shows real ones (arm it by a rule of table \
                 raw with -j TRACE)"
            );
        }
        Ok(sight)
    }

    pub(super) fn known(&self) -> &TraceContext {
        &self.known
    }

    /// The one commit that is ours changed no rule that is known.
    pub(super) fn after_own_commit(&mut self) -> Result<()> {
        let generation = self.kernel.generation()?;
        if generation.0 == self.generation.0.wrapping_add(1) {
            self.generation = generation;
        }
        Ok(())
    }

    /// Reads what is missing to understand an event.
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

    /// Somebody may have committed since.
    fn follow_changes(&mut self, is_known: bool) -> Result<()> {
        if self.kernel.generation()? == self.generation {
            return Ok(());
        }
        let rest = if is_known { REST } else { 1 };
        if self.read.elapsed() < self.took.saturating_mul(rest) {
            return Ok(());
        }
        match self.read() {
            // Who changes the rules all the time has old ones told.
            Err(Error::Busy { .. }) => Ok(()),
            done => Ok(done?),
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let families = [IpFamily::Ipv4, IpFamily::Ipv6];
        let begun = Instant::now();
        let read = self.kernel.read(&families.map(|family| (family, &self.table)));
        (self.read, self.took) = (Instant::now(), begun.elapsed());
        let (generation, held) = read?;
        self.generation = generation;
        let held = families.into_iter().zip(held);
        self.known.held = held.filter_map(|(family, held)| Some((family, held?))).collect();
        self.known.rules.clear();
        self.known.bases.clear();
        Ok(())
    }
}
