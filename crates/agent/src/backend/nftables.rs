//! nftables mode: a table a family, changed through netlink.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};
use rulegen_compiler::nftables::{LiveTable, Patch, ServiceUpdate};
use rulegen_compiler::{family as family_of, plan};
use rulegen_kernel::nftables::{Dataplane, Error, Event, Generation, Missing, NfTables, reconcile};
use rulegen_model::{Changes, IpFamily, ServiceChange, ServicePort, ServicePortName, Store};
use rulegen_ruleset::Family;
use rulegen_ruleset::nftables::{Held, Name, Table, Transaction};

use super::{Backend, Outcome, Stopwatch, Written, plan_of};
use crate::drift::Drift;
use crate::report::{Counts, Operations, Phase};

/// The tables of both families, and how sure we are of what the kernel holds.
pub(crate) struct Nftables {
    kernel: NfTables,
    name: Name,
    families: Vec<IpFamily>,
    live: BTreeMap<IpFamily, LiveTable>,
    /// Whether the kernel holds the tables as they are in `live`.
    is_sure: bool,
}

impl Nftables {
    /// Works on the network namespace of the thread that calls it.
    ///
    /// # Errors
    /// The kernel cannot be reached.
    pub(crate) fn open(name: Name, families: &[IpFamily]) -> Result<Self> {
        Ok(Self {
            kernel: NfTables::open()?,
            name,
            families: families.to_vec(),
            live: BTreeMap::new(),
            is_sure: false,
        })
    }

    /// The tables, by which a watcher finds them.
    pub(crate) fn tables(&self) -> Vec<(Family, Name)> {
        self.families.iter().map(|family| (family_of(*family), self.name.clone())).collect()
    }

    /// Takes the changes into the tables as they shall be; says what that changes in the kernel, if
    /// it is known what that holds.
    fn compile(&mut self, store: &Store, changes: &Changes) -> Vec<Patch> {
        if changes.whole || self.live.is_empty() {
            let snapshot = store.snapshot();
            self.is_sure = false;
            for family in &self.families {
                let plan = plan(&snapshot, store.config(), *family);
                self.live.insert(*family, LiveTable::new(plan, &self.name));
            }
            return Vec::new();
        }
        let mut patches = Vec::with_capacity(self.live.len());
        for (family, live) in &mut self.live {
            let services = changes.services.iter();
            let updates = services.flat_map(|change| updates(store, change, *family));
            patches.push(live.update(updates, |name| {
                store.service_port(name, *family).map(|port| plan_of(store, port, *family))
            }));
        }
        if self.is_sure && changes.services.iter().any(loses_clients) {
            self.is_sure = self.read_clients(&mut patches);
        }
        patches
    }

    /// Whether all clients of the service ports that change could be read: else everything must.
    fn read_clients(&mut self, patches: &mut [Patch]) -> bool {
        let Self { kernel, name: table, .. } = self;
        patches.iter_mut().all(|patch| {
            let family = patch.family();
            patch.client_sets().all(|(name, set)| {
                let read = kernel.read_elements(family, table, name, set);
                read.inspect_err(|error| tracing::debug!(%error, "clients cannot be read"))
                    .unwrap_or_default()
            })
        })
    }

    fn write(&mut self, patches: &[Patch], watch: &mut Stopwatch) -> Result<Written> {
        let begun = Instant::now();
        let transactions: Vec<Transaction<'_>> = patches.iter().map(Patch::transaction).collect();
        watch.add(Phase::Diff, begun.elapsed());
        let done = watch.time(Phase::Commit, || self.kernel.commit(None, &transactions));
        done?;
        Ok(written(&self.kernel, &transactions))
    }

    /// Reads everything and writes what differs.
    fn write_all(&mut self, watch: &mut Stopwatch) -> Result<Written> {
        let tables: Vec<&Table> = self.live.values().map(LiveTable::table).collect();
        let names: Vec<(Family, &Name)> = tables.iter().map(|t| (t.family, &t.name)).collect();
        if !self.kernel.has_all(&names)? {
            refuse_old_kernel(&self.kernel.missing(&tables)?)?;
        }
        let begun = Instant::now();
        let mut timed = Timed { kernel: &mut self.kernel, watch };
        let counts = reconcile(&mut timed, &tables, |transactions| {
            (operations(transactions), summaries(transactions))
        });
        let rest = watch.phases.iter().filter(|(of, _)| matches!(of, Phase::Read | Phase::Commit));
        let rest = begun.elapsed().saturating_sub(rest.map(|(_, took)| *took).sum());
        watch.add(Phase::Diff, rest);
        match counts {
            Ok((operations, summary)) => {
                let bytes = if operations == Operations::default() {
                    0
                } else {
                    self.kernel.last_written().bytes
                };
                Ok(Written { operations, bytes, summary })
            }
            Err(error) => {
                if matches!(error, Error::Refused(_)) {
                    refuse_old_kernel(&self.kernel.missing(&tables).unwrap_or_default())?;
                }
                Err(error.into())
            }
        }
    }
}

impl Backend for Nftables {
    fn sync(&mut self, store: &Store, changes: &Changes) -> Outcome {
        let mut watch = Stopwatch::default();
        let begun = Instant::now();
        let patches = self.compile(store, changes);
        watch.add(Phase::Compile, begun.elapsed());
        if self.is_sure {
            match self.write(&patches, &mut watch) {
                Ok(written) => return Outcome::new(watch, Ok(written)),
                // The kernel holds something else than we thought: what it is, reading tells.
                Err(error) => tracing::warn!(%error, "a change was refused: all is compared"),
            }
        }
        drop(patches);
        let written = self.write_all(&mut watch);
        self.is_sure = written.is_ok();
        Outcome { full: true, ..Outcome::new(watch, written) }
    }

    fn hear(&mut self, events: &[Event]) -> Vec<Drift> {
        let drift: Vec<Drift> = events
            .iter()
            .filter_map(|event| match event {
                Event::Lost => Some(Drift::unknown()),
                Event::Commit(commit)
                    if commit.writer.port == self.kernel.port() || commit.changes.is_empty() =>
                {
                    None
                }
                Event::Commit(commit) => Some(Drift::of(commit)),
            })
            .collect();
        self.is_sure &= drift.is_empty();
        drift
    }
}

/// What becomes of a Service's ports in one family.
fn updates(store: &Store, change: &ServiceChange, family: IpFamily) -> Vec<ServiceUpdate> {
    let of_family = |port: &&ServicePort| IpFamily::of(port.cluster_ip) == family;
    let plan = |port: &ServicePort| plan_of(store, port, family);
    let mut updates: BTreeMap<&ServicePortName, ServiceUpdate> = BTreeMap::new();
    let none =
        |name: &ServicePortName| ServiceUpdate { name: name.clone(), before: None, after: None };
    for port in change.before.iter().filter(of_family) {
        updates.entry(&port.name).or_insert_with(|| none(&port.name)).before = Some(plan(port));
    }
    for port in change.after.iter().filter(of_family) {
        updates.entry(&port.name).or_insert_with(|| none(&port.name)).after = Some(plan(port));
    }
    updates.into_values().collect()
}

/// Whether an endpoint goes that packets may have bound clients to. Those are only known to the
/// kernel, and must go too, or the endpoint would find them again when it returns.
fn loses_clients(change: &ServiceChange) -> bool {
    change.before.iter().filter(|port| port.affinity_seconds.is_some()).any(|before| {
        let after = change
            .after
            .iter()
            .find(|after| (&after.name, after.cluster_ip) == (&before.name, before.cluster_ip));
        // The set goes as a whole with its service port.
        after.is_some_and(|after| {
            let stays = |endpoint| after.endpoints.contains(endpoint);
            !before.endpoints.iter().all(stays)
        })
    })
}

fn refuse_old_kernel(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = missing.iter().map(Missing::to_string).collect();
    bail!("this kernel lacks what the tables need: {}", listed.join("; "))
}

fn written(kernel: &NfTables, transactions: &[Transaction<'_>]) -> Written {
    let operations = operations(transactions);
    let nothing = transactions.iter().all(Transaction::is_empty);
    let bytes = if nothing { 0 } else { kernel.last_written().bytes };
    Written { operations, bytes, summary: summaries(transactions) }
}

fn summaries(transactions: &[Transaction<'_>]) -> Vec<String> {
    let some = transactions.iter().filter(|transaction| !transaction.is_empty());
    some.map(|transaction| {
        let (family, table) = (transaction.family.word(), transaction.table);
        format!("{family} {table}: {}", transaction.summary())
    })
    .collect()
}

fn operations(transactions: &[Transaction<'_>]) -> Operations {
    let mut sum = Operations::default();
    for ((turn, what), count) in transactions.iter().flat_map(Transaction::counts) {
        let counts: &mut Counts = match what {
            "element" => &mut sum.elements,
            "rule" => &mut sum.rules,
            "chain" => &mut sum.chains,
            "set" => &mut sum.sets,
            _ => continue,
        };
        match turn {
            "added" => counts.added += count,
            _ => counts.deleted += count,
        }
    }
    sum
}

/// The kernel, with a look at the clock.
struct Timed<'a> {
    kernel: &'a mut NfTables,
    watch: &'a mut Stopwatch,
}

impl Dataplane for Timed<'_> {
    fn read(
        &mut self,
        tables: &[(Family, &Name)],
    ) -> Result<(Generation, Vec<Option<Held>>), Error> {
        let Self { kernel, watch } = self;
        watch.time(Phase::Read, || kernel.read(tables))
    }

    fn commit(
        &mut self,
        generation: Option<Generation>,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error> {
        let Self { kernel, watch } = self;
        watch.time(Phase::Commit, || kernel.commit(generation, transactions))
    }

    fn rehearse(
        &mut self,
        generation: Generation,
        transactions: &[Transaction<'_>],
    ) -> Result<(), Error> {
        let Self { kernel, watch } = self;
        watch.time(Phase::Commit, || kernel.rehearse(generation, transactions))
    }
}
