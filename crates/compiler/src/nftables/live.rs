//! A table that follows its plan per service port: the cost is that of the change, not that of the
//! table.
//!
//! The contribution of a service port is computed from its own plan alone, before and after. Three
//! things depend on other service ports, and each is found by one lookup in a hash table:
//!
//! - the owner of a frontend that several claim ([`Claims`]): if it changes, the elements of the
//!   old owner are replaced by those of the new one;
//! - elements that several need, such as an endpoint of two Services: they have a reference count;
//! - chains that many use, such as the choice among five endpoints: they have a reference count
//!   too.

mod node_ports;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use rulegen_net::{IpFamily, ServicePortName};
use rulegen_ruleset::nftables::{Actual, Name, Set, Table, Transaction, diff, numbers_looked_up};

use super::builder::TableBuilder;
use super::claims::{Claims, Presence, ReferenceCounts, SetKey};
use super::contribution::{Claim, Contribution};
use super::edit::TableEdit;
use super::service::Renderer;
use super::shared_chain::SharedChain;
use crate::plan::{Plan, ServicePlan};

/// A table, and the reference counts and owners of its parts. The plans of service ports are not
/// kept: they need as much memory as the table, and the caller of [`LiveTable::update`] has them.
pub struct LiveTable {
    /// The plan without its Services.
    plan: Plan,
    table: Table,
    claims: Claims,
    shared_elements: ReferenceCounts<SetKey>,
    shared_chains: ReferenceCounts<Name>,
}

/// A change of a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUpdate {
    /// The service port, of this IP family.
    pub name: ServicePortName,
    /// Its plan before, as in the table; `None` if it is new.
    pub before: Option<ServicePlan>,
    /// Its plan after; `None` if it is removed.
    pub after: Option<ServicePlan>,
}

/// The part of a table that a change affects, before and after. Neither contains the clients that
/// packets add to the sets of session affinity, so these stay. Clients of removed endpoints are
/// listed by [`Patch::client_sets`] and deleted later.
pub struct Patch {
    actual: Actual,
    desired: Table,
    client_sets: Vec<ClientSetChange>,
    rendered: usize,
}

/// The effect of a change on the client set of a service port with affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSetChange {
    /// The name of the set.
    pub name: Name,
    /// The set without its clients; `None` if it is deleted or created.
    pub kept: Option<Set>,
    /// Numbers of endpoints that rules look up after the change.
    pub gained: BTreeSet<u32>,
    /// Numbers that no rule looks up any more.
    pub lost: BTreeSet<u32>,
}

impl Patch {
    /// The family of the table.
    pub fn family(&self) -> IpFamily {
        self.desired.family
    }

    /// Client sets of the service ports that change.
    pub fn client_sets(&self) -> &[ClientSetChange] {
        &self.client_sets
    }

    /// The transaction from the state before to the state after, for a kernel that has the table as
    /// it was.
    pub fn transaction(&self) -> Transaction<'_> {
        diff(Some(&self.actual), &self.desired)
    }

    /// Number of elements, chains and sets that were computed to find the change: a measure of its
    /// cost that does not depend on the machine.
    pub fn rendered(&self) -> usize {
        self.rendered
    }
}

/// The contribution of a service port, before and after a change.
#[derive(Default)]
struct ContributionChange {
    before: Indexed,
    after: Indexed,
}

/// A contribution, with its claims by key.
#[derive(Default)]
struct Indexed {
    contribution: Contribution,
    by_key: OnceCell<HashMap<SetKey, usize>>,
}

impl Indexed {
    fn claim(&self, key: &SetKey) -> Option<&Claim> {
        let claims = &self.contribution.claims;
        let index = || {
            let keys = claims.iter().map(Claim::set_key);
            keys.zip(0..).collect()
        };
        claims.get(*self.by_key.get_or_init(index).get(key)?)
    }
}

impl LiveTable {
    /// Starts with a plan.
    pub fn new(mut plan: Plan, name: &Name) -> Self {
        let services = mem::take(&mut plan.services);
        let mut builder = TableBuilder::new(&plan, name);
        let (mut claims, mut shared_chains) = (Claims::default(), ReferenceCounts::default());
        let mut renderer = Renderer::new(&plan);
        for service in services {
            let contribution = renderer.contribution(&service);
            let claimed = contribution.claims.iter();
            let is_granted: Vec<bool> =
                claimed.map(|claim| claims.add(claim.set_key(), &service.name)).collect();
            for (name, users) in chains_by_name(&contribution) {
                let is_present = builder.has_chain(&name);
                shared_chains.change(name, users, is_present);
            }
            builder.add(contribution, &is_granted);
        }
        drop(renderer);
        let (table, shared_elements) = builder.finish();
        Self { plan, table, claims, shared_elements, shared_chains }
    }

    /// Renders the complete table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Changes service ports, and returns the change of the table. `others` returns the plan of a
    /// service port that does not change itself; it is called only for those that get or lose a
    /// frontend.
    pub fn update(
        &mut self,
        changes: impl IntoIterator<Item = ServiceUpdate>,
        others: impl Fn(&ServicePortName) -> Option<ServicePlan>,
    ) -> Patch {
        let mut renderer = CountingRenderer::new(&self.plan);
        // First all old states, then all new ones: ports of a Service share source ranges, which
        // the renderer caches.
        let (names_before, afters): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .map(|ServiceUpdate { name, before, after }| ((name, renderer.render(before)), after))
            .unzip();
        let changes: BTreeMap<ServicePortName, ContributionChange> = names_before
            .into_iter()
            .zip(afters)
            .map(|((name, before), after)| {
                (name, ContributionChange { before, after: renderer.render(after) })
            })
            .collect();
        let mut edit = TableEdit::default();
        let touched = touched_claims(&changes, &mut self.claims);
        let others = owners_among_others(&touched, &changes, |name| renderer.render(others(name)));
        for (key, owners) in &touched {
            owners.replace(key, &changes, &others, &mut edit);
        }
        let rendered = renderer.rendered;
        self.count_elements(&changes, &mut edit);
        self.count_chains(&changes, &mut edit);
        for change in changes.into_values() {
            edit.own(change.before.contribution, change.after.contribution);
        }
        let (before, desired) = edit.finish(&self.table);
        self.table.replace(&before, &desired);
        let client_sets = client_set_changes(&before, &desired);
        Patch { actual: Actual::from(before), desired, client_sets, rendered }
    }

    fn count_elements(
        &mut self,
        changes: &BTreeMap<ServicePortName, ContributionChange>,
        edit: &mut TableEdit,
    ) {
        let mut counts: HashMap<&SetKey, isize> = HashMap::new();
        for change in changes.values() {
            let [before, after] = [&change.before, &change.after]
                .map(|side| side.contribution.shared_elements.as_slice());
            let (before, after) = without_common_ends(before, after);
            before.iter().for_each(|key| *counts.entry(key).or_default() -= 1);
            after.iter().for_each(|key| *counts.entry(key).or_default() += 1);
        }
        for (key, by) in counts {
            let is_present = has_element(&self.table, key);
            match self.shared_elements.change(key.clone(), by, is_present) {
                Presence::Appears => edit.add_shared(key),
                Presence::Disappears => edit.remove_shared(key),
                Presence::Stays => {}
            }
        }
    }

    fn count_chains(
        &mut self,
        changes: &BTreeMap<ServicePortName, ContributionChange>,
        edit: &mut TableEdit,
    ) {
        let mut counts: BTreeMap<Name, (isize, &SharedChain)> = BTreeMap::new();
        for change in changes.values() {
            for (side, by) in [(&change.before, -1), (&change.after, 1)] {
                for chain in &side.contribution.shared_chains {
                    counts.entry(chain.name()).or_insert((0, chain)).0 += by;
                }
            }
        }
        for (name, (by, chain)) in counts {
            let is_present = self.table.chains.contains_key(&name);
            match self.shared_chains.change(name.clone(), by, is_present) {
                Presence::Appears => {
                    edit.add_chain(name, chain.chain(&self.plan), &chain.elements());
                }
                Presence::Disappears => {
                    edit.remove_chain(name, chain.chain(&self.plan), &chain.elements());
                }
                Presence::Stays => {}
            }
        }
    }
}

fn has_element(table: &Table, (set, key): &SetKey) -> bool {
    table.sets.get(*set).is_some_and(|set| set.elements.contains_key(key))
}

/// How often a service port uses each shared chain.
fn chains_by_name(contribution: &Contribution) -> BTreeMap<Name, isize> {
    let mut users: BTreeMap<Name, isize> = BTreeMap::new();
    for chain in &contribution.shared_chains {
        *users.entry(chain.name()).or_default() += 1;
    }
    users
}

fn client_set_changes(before: &Table, after: &Table) -> Vec<ClientSetChange> {
    let dynamic = |table: &Table| -> BTreeSet<Name> {
        let sets = table.sets.iter().filter(|(_, set)| set.dynamic);
        sets.map(|(name, _)| name.clone()).collect()
    };
    let names = &dynamic(before) | &dynamic(after);
    if names.is_empty() {
        return Vec::new();
    }
    let (asked_before, asked_after) = (by_set(before), by_set(after));
    let change = |name: Name| {
        let asked =
            |of: &BTreeMap<&Name, BTreeSet<u32>>| of.get(&name).cloned().unwrap_or_default();
        let (old, new) = (asked(&asked_before), asked(&asked_after));
        let (gained, lost) = (&new - &old, &old - &new);
        let kept = match (before.sets.get(&name), after.sets.get(&name)) {
            (Some(old), Some(new)) if old.shape() == new.shape() => Some(new.without_elements()),
            _ => None,
        };
        ClientSetChange { name, kept, gained, lost }
    };
    names.into_iter().map(change).collect()
}

fn by_set(table: &Table) -> BTreeMap<&Name, BTreeSet<u32>> {
    let mut by_set: BTreeMap<&Name, BTreeSet<u32>> = BTreeMap::new();
    for (set, number) in numbers_looked_up(table) {
        by_set.entry(set).or_default().insert(number);
    }
    by_set
}

/// Renders contributions and counts their parts.
struct CountingRenderer<'a> {
    renderer: Renderer<'a>,
    rendered: usize,
}

impl<'a> CountingRenderer<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { renderer: Renderer::new(plan), rendered: 0 }
    }

    fn render(&mut self, service: Option<ServicePlan>) -> Indexed {
        let contribution =
            service.map(|service| self.renderer.contribution(&service)).unwrap_or_default();
        self.rendered += contribution.len();
        Indexed { contribution, by_key: OnceCell::new() }
    }
}

/// The owners of a key before and after a change.
struct KeyOwners {
    before: Option<ServicePortName>,
    after: Option<ServicePortName>,
}

impl KeyOwners {
    /// Replaces the elements of the old owner by those of the new owner.
    fn replace(
        &self,
        key: &SetKey,
        changes: &BTreeMap<ServicePortName, ContributionChange>,
        others: &HashMap<ServicePortName, Indexed>,
        edit: &mut TableEdit,
    ) {
        let elements = |owner: Option<&ServicePortName>,
                        side: fn(&ContributionChange) -> &Indexed| {
            let of = |owner| changes.get(owner).map(side).or_else(|| others.get(owner));
            let claim = owner.and_then(of).and_then(|indexed| indexed.claim(key));
            claim.map(|claim| claim.elements.as_slice()).unwrap_or_default()
        };
        let before = elements(self.before.as_ref(), |change| &change.before);
        let after = elements(self.after.as_ref(), |change| &change.after);
        edit.replace(before, after);
    }
}

/// Contributions of service ports that do not change themselves, but get or lose a key.
fn owners_among_others(
    touched: &BTreeMap<SetKey, KeyOwners>,
    changes: &BTreeMap<ServicePortName, ContributionChange>,
    mut render: impl FnMut(&ServicePortName) -> Indexed,
) -> HashMap<ServicePortName, Indexed> {
    let mut others: HashMap<ServicePortName, Indexed> = HashMap::new();
    let moved = touched.values().filter(|owners| owners.before != owners.after);
    for owner in moved.flat_map(|owners| owners.before.iter().chain(&owners.after)) {
        if !changes.contains_key(owner) && !others.contains_key(owner) {
            others.insert(owner.clone(), render(owner));
        }
    }
    others
}

/// The keys whose owner or elements may change, and the new claims.
fn touched_claims(
    changes: &BTreeMap<ServicePortName, ContributionChange>,
    claims: &mut Claims,
) -> BTreeMap<SetKey, KeyOwners> {
    let mut touched: BTreeMap<SetKey, KeyOwners> = BTreeMap::new();
    let mut moves: Vec<(SetKey, &ServicePortName, bool)> = Vec::new();
    for (name, change) in changes {
        for (before, after) in paired(&change.before, &change.after) {
            let Some(claim) = before.or(after) else { continue };
            if before.map(|claim| &claim.elements) == after.map(|claim| &claim.elements) {
                continue;
            }
            let key = claim.set_key();
            if before.is_none() || after.is_none() {
                moves.push((key.clone(), name, after.is_some()));
            }
            let before = claims.owner(&key).cloned();
            touched.entry(key).or_insert(KeyOwners { before, after: None });
        }
    }
    for (key, name, comes) in moves {
        match comes {
            true => drop(claims.add(key, name)),
            false => claims.remove(key, name),
        }
    }
    for (key, owners) in &mut touched {
        owners.after = claims.owner(key).cloned();
    }
    touched
}

/// Claims of one service port before and after, by key. The keys nearly always stay the same.
fn paired<'a>(
    before: &'a Indexed,
    after: &'a Indexed,
) -> Vec<(Option<&'a Claim>, Option<&'a Claim>)> {
    let (old, new) = (&before.contribution.claims, &after.contribution.claims);
    let is_same = |(old, new): (&Claim, &Claim)| (old.set, &old.key) == (new.set, &new.key);
    if old.len() == new.len() && old.iter().zip(new).all(is_same) {
        return old.iter().map(Some).zip(new.iter().map(Some)).collect();
    }
    let stays_or_goes = old.iter().map(|claim| (Some(claim), after.claim(&claim.set_key())));
    let comes = new.iter().filter(|claim| before.claim(&claim.set_key()).is_none());
    stays_or_goes.chain(comes.map(|claim| (None, Some(claim)))).collect()
}

/// Two lists without their common prefix and suffix.
fn without_common_ends<'a, T: PartialEq>(one: &'a [T], other: &'a [T]) -> (&'a [T], &'a [T]) {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (one.get(same..).unwrap_or(&[]), other.get(same..).unwrap_or(&[]));
    let from_end = one.iter().rev().zip(other.iter().rev());
    let same = from_end.take_while(|(one, other)| one == other).count();
    let cut = |list: &'a [T]| list.get(..list.len() - same).unwrap_or(&[]);
    (cut(one), cut(other))
}
