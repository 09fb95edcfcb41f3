//! The health of this node's rules, and the responses to probes.
//!
//! A change is pending until a sync that contains it succeeds. A family is unhealthy if its changes
//! are pending for too long, or if its first sync does not succeed in time. Decisions use a
//! monotonic clock; the wall clock is only displayed.

mod body;
mod rivalry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rulegen_model::NodeState;
use rulegen_net::{IpFamily, PerFamily};

use crate::input::SourceError;
use crate::queue::Waiting;
use body::{FamilyHealth, ProxyHealth, Readiness, json, time, time_of_sync};
use rivalry::Rivalry;

/// The response to `/healthz`, `/livez` or `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResponse {
    /// Whether the check passed.
    pub ok: bool,
    /// The body, in JSON.
    pub body: String,
}

/// The state for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthView {
    /// Whether load balancers should send traffic to this node (`/healthz`).
    pub(crate) healthz: bool,
    /// Whether the rules are in place (`/readyz`).
    pub(crate) readyz: bool,
    pub(crate) node: NodeState,
    pub(crate) families: Vec<FamilyView>,
    /// Why a source delivers no objects, if one fails.
    pub(crate) trouble: Option<SourceTrouble>,
    /// Warnings about other programs that keep changing the rules.
    pub(crate) rivals: Vec<String>,
    /// kube-proxy in the same network namespace: its process, or where it answers.
    pub(crate) kube_proxy: Option<String>,
}

/// A failing source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceTrouble {
    /// The kind of object, or the manifests.
    pub(crate) what: &'static str,
    pub(crate) why: String,
    pub(crate) since: SystemTime,
}

/// The state of one IP family, for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FamilyView {
    pub(crate) family: IpFamily,
    /// The time of the last successful sync.
    pub(crate) synced: Option<SystemTime>,
    /// How long the oldest pending change has been waiting.
    pub(crate) waits: Option<Duration>,
    pub(crate) healthy: bool,
}

/// The state of the families, the node and the sources.
#[derive(Debug)]
pub struct Health {
    patience: Duration,
    families: PerFamily<FamilyState>,
    node: NodeState,
    source_in_sync: bool,
    /// The failing sources, since when, and why.
    troubles: BTreeMap<&'static str, (SystemTime, SourceError)>,
    /// The reconciler's queue. If the reconciler hangs, only this shows it.
    queue: Waiting,
    rivalry: Rivalry,
    kube_proxy: Option<String>,
}

#[derive(Debug)]
struct FamilyState {
    /// The times of the oldest and the newest pending change.
    waiting: Option<(Instant, Instant)>,
    /// The time of the last successful sync.
    synced: Option<SystemTime>,
}

impl Health {
    /// kube-proxy's limit: twice its default sync period of 30 s.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// The initial state: the first sync of each family is pending.
    pub fn new(families: &[IpFamily], patience: Duration, now: Instant) -> Self {
        let state = || FamilyState { waiting: Some((now, now)), synced: None };
        Self {
            patience,
            families: families.iter().map(|family| (*family, state())).collect(),
            node: NodeState::Unknown,
            source_in_sync: false,
            troubles: BTreeMap::new(),
            queue: Waiting::default(),
            rivalry: Rivalry::default(),
            kube_proxy: None,
        }
    }

    /// Inputs that wait too long in this queue are as bad as pending changes.
    pub(crate) fn watch_queue(&mut self, queue: Waiting) {
        self.queue = queue;
    }

    /// A source failed or recovered. The rules and the health do not change.
    pub(crate) fn source(
        &mut self,
        what: &'static str,
        trouble: Option<SourceError>,
        now: Instant,
        wall: SystemTime,
    ) {
        let known = self.troubles.remove(what).filter(|(_, known)| known.lasts(now));
        if let Some(trouble) = trouble {
            let since = known.map_or(wall, |(since, _)| since);
            self.troubles.insert(what, (since, trouble));
        }
    }

    /// kube-proxy runs in the same network namespace, or not.
    pub(crate) fn kube_proxy(&mut self, seen: Option<String>) {
        self.kube_proxy = seen;
    }

    /// The longest time for which a source has been failing.
    pub(crate) fn source_outage(&self, now: Instant, wall: SystemTime) -> Duration {
        let lasting = self.troubles.values().filter(|(_, trouble)| trouble.lasts(now));
        let lasts = lasting.map(|(since, _)| wall.duration_since(*since).unwrap_or_default());
        lasts.max().unwrap_or_default()
    }

    /// Changes by another program were reverted.
    pub(crate) fn repaired(&mut self, whose: String, now: Instant) {
        self.rivalry.repaired(whose, now);
    }

    /// Changed objects led to changed rules.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.rivalry.changed(now);
    }

    /// Removal of rules of another mode pauses for this long.
    pub(crate) fn left_other_mode(&mut self, pause: Duration, now: Instant) {
        self.rivalry.left(pause, now);
    }

    /// The first source error that has not expired.
    fn trouble(&self, now: Instant) -> Option<SourceTrouble> {
        let mut lasting = self.troubles.iter().filter(|(_, (_, trouble))| trouble.lasts(now));
        let (what, (since, trouble)) = lasting.next()?;
        Some(SourceTrouble { what, why: trouble.why.clone(), since: *since })
    }

    /// A change is pending.
    pub fn queued(&mut self, now: Instant) {
        self.families.values_mut().for_each(|state| state.wait(now));
    }

    /// A sync of a family succeeded. It contained all changes up to `gathered`; later ones are
    /// still pending.
    pub fn synced(&mut self, family: IpFamily, gathered: Instant, wall: SystemTime) {
        let Some(state) = self.families.get_mut(family) else { return };
        state.waiting = state
            .waiting
            .filter(|(_, newest)| *newest > gathered)
            .map(|(oldest, newest)| (oldest.max(gathered), newest));
        state.synced = Some(wall);
    }

    /// A sync of a family failed. A sync stays pending, even if no change caused this one.
    pub fn failed(&mut self, family: IpFamily, now: Instant) {
        if let Some(state) = self.families.get_mut(family) {
            state.wait(now);
        }
    }

    /// The Node object changed.
    pub fn node(&mut self, node: NodeState) {
        self.node = node;
    }

    /// Whether all kinds of objects have been listed and are being watched. If not, the rules and
    /// the health stay as they are: an API server outage must not remove nodes from their load
    /// balancers.
    pub fn in_sync_with_source(&mut self, in_sync: bool) {
        self.source_in_sync = in_sync;
    }

    /// Whether no family has changes pending for too long, regardless of the node.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.handles_inputs(now)
            && self.families.values().all(|state| state.is_healthy(now, self.patience))
    }

    /// Whether the reconciler handles its inputs in time.
    fn handles_inputs(&self, now: Instant) -> bool {
        let since = self.queue.oldest();
        since.is_none_or(|oldest| now.saturating_duration_since(oldest) < self.patience)
    }

    /// Whether load balancers should send traffic to this node (`/healthz`).
    pub fn healthz(&self, now: Instant, wall: SystemTime) -> ProbeResponse {
        let eligible = self.node == NodeState::Known;
        self.verdict(now, wall, Some(eligible))
    }

    /// Whether this process works (`/livez`). Before the caches are synced there is nothing to do,
    /// and a restart would not help.
    pub fn livez(&self, now: Instant, wall: SystemTime) -> ProbeResponse {
        let waits_for_objects = !self.source_in_sync && self.handles_inputs(now);
        let ProbeResponse { ok, body } = self.verdict(now, wall, None);
        ProbeResponse { ok: ok || waits_for_objects, body }
    }

    /// Whether the rules are in place (`/readyz`, which kube-proxy does not have): every family had
    /// its first sync and none is unhealthy.
    pub fn readyz(&self, now: Instant, wall: SystemTime) -> ProbeResponse {
        let mut missing = Vec::new();
        if !self.source_in_sync && self.families.values().any(|state| state.synced.is_none()) {
            missing.push("initial list not complete".to_owned());
        }
        for (family, state) in self.families.iter() {
            let name = family.api_name();
            if state.synced.is_none() {
                missing.push(format!("first sync of {name}"));
            }
            if !state.is_healthy(now, self.patience) {
                let patience = self.patience.as_secs();
                missing.push(format!("changes of {name} pending for {patience} s or more"));
            }
        }
        if !self.handles_inputs(now) {
            let patience = self.patience.as_secs();
            missing.push(format!("changes queued for {patience} s or more"));
        }
        let ready = missing.is_empty();
        let source_in_sync = self.source_in_sync && self.trouble(now).is_none();
        let warnings = self.rivalry.warnings(now);
        let body = Readiness { current_time: time(wall), ready, source_in_sync, missing, warnings };
        ProbeResponse { ok: ready, body: json(&body) }
    }

    pub(crate) fn view(&self, now: Instant, wall: SystemTime) -> HealthView {
        let family = |(family, state): (IpFamily, &FamilyState)| FamilyView {
            family,
            synced: state.synced,
            waits: state.waiting.map(|(oldest, _)| now.saturating_duration_since(oldest)),
            healthy: state.is_healthy(now, self.patience),
        };
        HealthView {
            healthz: self.healthz(now, wall).ok,
            readyz: self.readyz(now, wall).ok,
            node: self.node,
            families: self.families.iter().map(family).collect(),
            trouble: self.trouble(now),
            rivals: self.rivalry.warnings(now),
            kube_proxy: self.kube_proxy.clone(),
        }
    }

    fn verdict(
        &self,
        now: Instant,
        wall: SystemTime,
        node_eligible: Option<bool>,
    ) -> ProbeResponse {
        let healthy = self.is_healthy(now);
        let ok = healthy && node_eligible != Some(false);
        // kube-proxy reports the time of the last sync here, at least one each 30 s; probes
        // interpret a recent time as healthy.
        let newest = self.families.values().filter_map(|state| state.synced).max();
        let last_updated = if ok { time(wall) } else { time_of_sync(newest) };
        let status = self.families.iter().map(|(family, state)| {
            let healthy = state.is_healthy(now, self.patience);
            (family.api_name(), FamilyHealth { last_updated: time_of_sync(state.synced), healthy })
        });
        let body = ProxyHealth {
            last_updated,
            current_time: time(wall),
            node_eligible,
            healthy,
            status: status.collect(),
        };
        ProbeResponse { ok, body: json(&body) }
    }
}

impl FamilyState {
    fn wait(&mut self, now: Instant) {
        let oldest = self.waiting.map_or(now, |(oldest, _)| oldest);
        self.waiting = Some((oldest, now));
    }

    fn is_healthy(&self, now: Instant, patience: Duration) -> bool {
        self.waiting.is_none_or(|(oldest, _)| now.saturating_duration_since(oldest) < patience)
    }
}

/// The health state, shared by the sync and the probes.
#[derive(Debug, Clone)]
pub struct SharedHealth(Arc<Mutex<Health>>);

impl SharedHealth {
    /// Clone it to share it.
    pub fn new(health: Health) -> Self {
        Self(Arc::new(Mutex::new(health)))
    }

    /// Reads or changes the state. The closure should be short, because others wait.
    pub fn with<T>(&self, work: impl FnOnce(&mut Health) -> T) -> T {
        // Each change is a single step, so a panic cannot leave it half done.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// [`Health::is_healthy`] now.
    pub fn is_healthy(&self) -> bool {
        self.with(|health| health.is_healthy(Instant::now()))
    }
}
