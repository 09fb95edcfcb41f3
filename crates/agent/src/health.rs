//! Whether this node's rules are what the cluster's objects say, and what a prober is told.
//!
//! Changes wait until a sync that contains them succeeds. A family whose changes wait for too
//! long is unhealthy, and so is one whose first sync never succeeds: from the start on, it
//! waits. What is decided here follows a clock that never jumps; the wall's clock is only shown.

mod body;
mod rivalry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rulegen_model::NodeState;
use rulegen_net::IpFamily;

use crate::input::SourceError;
use crate::queue::Waiting;
use body::{FamilyHealth, ProxyHealth, Readiness, json, time, time_of_sync};
use rivalry::Rivalry;

/// What a prober is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether all is well.
    pub ok: bool,
    /// Why, in JSON.
    pub body: String,
}

/// What is known, for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthView {
    /// Whether load balancers are told to send traffic to this node (`/healthz`).
    pub(crate) healthz: bool,
    /// Whether the rules are in place (`/readyz`).
    pub(crate) readyz: bool,
    pub(crate) node: NodeState,
    pub(crate) families: Vec<FamilyView>,
    /// Why no objects come, if that is so.
    pub(crate) trouble: Option<SourceTrouble>,
    /// What other programs do to the rules, where it is more than now and then.
    pub(crate) rivals: Vec<String>,
    /// kube-proxy in the same network namespace: its process, or where it answers.
    pub(crate) kube_proxy: Option<String>,
}

/// Why no objects come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceTrouble {
    /// Those of this kind, or of the manifests.
    pub(crate) what: &'static str,
    pub(crate) why: String,
    pub(crate) since: SystemTime,
}

/// The same of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FamilyView {
    pub(crate) family: IpFamily,
    /// When a sync last succeeded.
    pub(crate) synced: Option<SystemTime>,
    /// How long the oldest change has waited that no successful sync contained.
    pub(crate) waits: Option<Duration>,
    pub(crate) healthy: bool,
}

/// The state of the families, of the node and of the source of objects.
#[derive(Debug)]
pub struct Health {
    patience: Duration,
    families: BTreeMap<IpFamily, FamilyState>,
    node: NodeState,
    source_in_sync: bool,
    /// Where objects do not come from, since when, and why.
    troubles: BTreeMap<&'static str, (SystemTime, SourceError)>,
    /// What the reconciler has not dealt with. If it hangs, nobody else says so.
    queue: Waiting,
    rivalry: Rivalry,
    kube_proxy: Option<String>,
}

#[derive(Debug)]
struct FamilyState {
    /// The times of the oldest and the newest change that no successful sync contained.
    waiting: Option<(Instant, Instant)>,
    /// When a sync last succeeded.
    synced: Option<SystemTime>,
}

impl Health {
    /// kube-proxy's patience at its default period of syncs (30 s), which it doubles.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// At the start: all families wait for their first sync.
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

    /// What waits in this queue for too long is as bad as what waits for a sync.
    pub(crate) fn watch_queue(&mut self, queue: Waiting) {
        self.queue = queue;
    }

    /// Objects do not come from there, and why; or they come again. The rules stay what they were
    /// meanwhile, and so does health.
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

    /// How long objects have not come from where they do not for longest.
    pub(crate) fn source_outage(&self, now: Instant, wall: SystemTime) -> Duration {
        let lasting = self.troubles.values().filter(|(_, trouble)| trouble.lasts(now));
        let lasts = lasting.map(|(since, _)| wall.duration_since(*since).unwrap_or_default());
        lasts.max().unwrap_or_default()
    }

    /// What another program did was repaired.
    pub(crate) fn repaired(&mut self, whose: String, now: Instant) {
        self.rivalry.repaired(whose, now);
    }

    /// Objects changed the rules.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.rivalry.changed(now);
    }

    /// Rules of another mode are left in the kernel for so long.
    pub(crate) fn left_other_mode(&mut self, pause: Duration, now: Instant) {
        self.rivalry.left(pause, now);
    }

    /// The first that is not over yet.
    fn trouble(&self, now: Instant) -> Option<SourceTrouble> {
        let mut lasting = self.troubles.iter().filter(|(_, (_, trouble))| trouble.lasts(now));
        let (what, (since, trouble)) = lasting.next()?;
        Some(SourceTrouble { what, why: trouble.why.clone(), since: *since })
    }

    /// A change waits for a sync.
    pub fn queued(&mut self, now: Instant) {
        self.families.values_mut().for_each(|state| state.wait(now));
    }

    /// A sync of a family succeeded. It contained all changes up to `gathered`; those that came
    /// while it went on still wait.
    pub fn synced(&mut self, family: IpFamily, gathered: Instant, wall: SystemTime) {
        let Some(state) = self.families.get_mut(&family) else { return };
        state.waiting = state
            .waiting
            .filter(|(_, newest)| *newest > gathered)
            .map(|(oldest, newest)| (oldest.max(gathered), newest));
        state.synced = Some(wall);
    }

    /// A sync of a family failed. It waits for one that succeeds, also if it was no change that
    /// caused this one.
    pub fn failed(&mut self, family: IpFamily, now: Instant) {
        if let Some(state) = self.families.get_mut(&family) {
            state.wait(now);
        }
    }

    /// The Node object changed.
    pub fn node(&mut self, node: NodeState) {
        self.node = node;
    }

    /// Whether all kinds of objects have been listed and are being watched. When they no longer
    /// are, the rules stay what they were, and so does health: an outage of the API server shall
    /// not take the nodes out of their load balancers.
    pub fn in_sync_with_source(&mut self, in_sync: bool) {
        self.source_in_sync = in_sync;
    }

    /// Whether no family has waited for too long, whatever the node is.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.takes_inputs(now)
            && self.families.values().all(|state| state.is_healthy(now, self.patience))
    }

    /// Whether the reconciler deals with what comes.
    fn takes_inputs(&self, now: Instant) -> bool {
        let since = self.queue.oldest();
        since.is_none_or(|oldest| now.saturating_duration_since(oldest) < self.patience)
    }

    /// Whether load balancers should send traffic to this node (`/healthz`).
    pub fn healthz(&self, now: Instant, wall: SystemTime) -> Verdict {
        let eligible = self.node == NodeState::Known;
        self.verdict(now, wall, Some(eligible))
    }

    /// Whether this process does its work (`/livez`). While the API server has not told of all
    /// objects there is none to do, and to start the process anew would not help.
    pub fn livez(&self, now: Instant, wall: SystemTime) -> Verdict {
        let waits_for_objects = !self.source_in_sync && self.takes_inputs(now);
        let Verdict { ok, body } = self.verdict(now, wall, None);
        Verdict { ok: ok || waits_for_objects, body }
    }

    /// Whether the rules are in place (`/readyz`, which kube-proxy does not have): once every
    /// family had its first sync, as long as none is unhealthy.
    pub fn readyz(&self, now: Instant, wall: SystemTime) -> Verdict {
        let mut missing = Vec::new();
        if !self.source_in_sync && self.families.values().any(|state| state.synced.is_none()) {
            missing.push("initial list not complete".to_owned());
        }
        for (family, state) in &self.families {
            let name = family.api_name();
            if state.synced.is_none() {
                missing.push(format!("first sync of {name}"));
            }
            if !state.is_healthy(now, self.patience) {
                let patience = self.patience.as_secs();
                missing.push(format!("changes of {name} pending for {patience} s or more"));
            }
        }
        if !self.takes_inputs(now) {
            let patience = self.patience.as_secs();
            missing.push(format!("changes queued for {patience} s or more"));
        }
        let ready = missing.is_empty();
        let source_in_sync = self.source_in_sync && self.trouble(now).is_none();
        let warnings = self.rivalry.warnings(now);
        let body = Readiness { current_time: time(wall), ready, source_in_sync, missing, warnings };
        Verdict { ok: ready, body: json(&body) }
    }

    pub(crate) fn view(&self, now: Instant, wall: SystemTime) -> HealthView {
        let family = |(family, state): (&IpFamily, &FamilyState)| FamilyView {
            family: *family,
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

    fn verdict(&self, now: Instant, wall: SystemTime, node_eligible: Option<bool>) -> Verdict {
        let healthy = self.is_healthy(now);
        let ok = healthy && node_eligible != Some(false);
        // While it had no other times to tell, kube-proxy told that of the last sync, of which
        // there was one each 30 s; probers read a recent time as health.
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
        Verdict { ok, body: json(&body) }
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

/// Health that the sync writes and the probers read.
#[derive(Debug, Clone)]
pub struct SharedHealth(Arc<Mutex<Health>>);

impl SharedHealth {
    /// To be cloned to whoever needs it.
    pub fn new(health: Health) -> Self {
        Self(Arc::new(Mutex::new(health)))
    }

    /// Reads or changes it. What is done here shall be short: everybody else waits.
    pub fn with<T>(&self, work: impl FnOnce(&mut Health) -> T) -> T {
        // Every change is whole at any instant: a panic elsewhere left nothing half done.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// [`Health::is_healthy`] right now.
    pub fn is_healthy(&self) -> bool {
        self.with(|health| health.is_healthy(Instant::now()))
    }
}
