//! `/`: the current state and the recent history.

use std::time::{Duration, Instant, SystemTime};

use askama::Template;
use rulegen_model::{Kind, NodeState, ObjectKey, Problem};
use serde::Serialize;

use super::drift::DriftRow;
use super::format::{Took, When, counted, grouped, wide};
use super::frame::Frame;
use super::plot::{HEIGHT, Plot};
use super::state::{AgentState, HealthLevel};
use super::syncs::{Sync, cause};
use super::{Status, query};
use crate::health::FamilyView;
use crate::left_out::LeftOutReason;
use crate::report::Phase;

#[derive(Template, Serialize)]
#[template(path = "status/overview.html")]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    #[serde(skip)]
    frame: Frame,
    state: AgentState,
    node: String,
    mode: &'static str,
    version: String,
    started: When,
    health: HealthShown,
    running: Option<RunningShown>,
    counts: Counts,
    syncs: Vec<Sync>,
    no_op_resyncs: u64,
    #[serde(skip)]
    plot: Plot,
    drifts: Vec<DriftRow>,
    rejected: Vec<Rejected>,
    rejected_objects: usize,
    left_out: Vec<LeftOutShown>,
    left_out_services: usize,
}

/// The results of the health checks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthShown {
    healthz: bool,
    readyz: bool,
    node_state: &'static str,
    kube_proxy: Option<String>,
    families: Vec<FamilyShown>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyShown {
    family: &'static str,
    healthy: bool,
    synced: Option<When>,
    #[serde(rename = "pendingMilliseconds")]
    waits: Option<Took>,
    #[serde(skip)]
    level: HealthLevel,
    #[serde(skip)]
    text: String,
}

/// The running sync.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunningShown {
    began: When,
    cause: String,
    #[serde(rename = "milliseconds")]
    took: Took,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    services: usize,
    service_ports: usize,
    endpoints: usize,
    no_usable_endpoint: usize,
    no_local_endpoint: usize,
}

/// An object that was rejected, or a part of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected {
    object: String,
    problems: Vec<String>,
    /// The page of a Service.
    #[serde(skip)]
    href: Option<String>,
}

/// A left-out Service, for `rulegen doctor`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeftOutShown {
    service: String,
    reason: &'static str,
    message: String,
}

/// The maximum number of rejected objects.
const REJECTED: usize = 20;
/// The maximum number of drift entries.
const DRIFTS: usize = 3;
/// The maximum number of changes per drift entry.
const CHANGES: usize = 3;
/// The maximum number of syncs in the table.
const ROWS: usize = 10;

impl Overview {
    pub(super) fn of(status: &Status, now: SystemTime) -> Self {
        let clock = Instant::now();
        let health = status.health.with(|health| health.view(clock, now));
        let missing = status.known.store.read().missing();
        let (rejected, rejected_objects) = status.known.rejected_objects.read().listed(REJECTED);
        let (left_out, left_out_shown, left_out_services) = {
            let left_out = status.known.left_out.read();
            let shown = left_out.first(REJECTED).map(LeftOutShown::of).collect();
            (left_out.problems(REJECTED), shown, left_out.len())
        };
        let (counts, frame) = (Counts::of(status), status.frame("/", "Overview"));
        status.journal.with(|pages| {
            let syncs: Vec<Sync> =
                pages.syncs.newest_first().map(|record| Sync::of(record, now)).collect();
            Self {
                state: AgentState::of(&health, &pages.syncs, &missing, clock, now),
                node: frame.node.clone(),
                mode: status.about.mode.word(),
                version: status.about.version.clone(),
                started: When::new(status.about.started, now),
                running: pages.syncs.running().map(|running| RunningShown {
                    began: When::new(running.wall, now),
                    cause: cause(&running.cause, false),
                    took: Took(clock.saturating_duration_since(running.began)),
                }),
                plot: Plot::of(&syncs),
                syncs,
                no_op_resyncs: pages.syncs.no_op_resyncs(),
                drifts: pages
                    .drifts
                    .newest_first()
                    .take(DRIFTS)
                    .map(|record| DriftRow::of(record, now).with_changes(CHANGES))
                    .collect(),
                health: HealthShown {
                    healthz: health.healthz,
                    readyz: health.readyz,
                    node_state: node_state(health.node),
                    kube_proxy: health.kube_proxy.clone(),
                    families: health
                        .families
                        .iter()
                        .map(|family| FamilyShown::of(family, now))
                        .collect(),
                },
                counts,
                rejected: left_out
                    .chunks(1)
                    .chain(rejected.iter().map(|problems| &**problems))
                    .take(REJECTED)
                    .map(Rejected::of)
                    .collect(),
                rejected_objects: rejected_objects + left_out_services,
                left_out: left_out_shown,
                left_out_services,
                frame,
            }
        })
    }

    /// The syncs in the table. The plot shows more, the JSON all.
    fn rows(&self) -> impl Iterator<Item = &Sync> {
        self.syncs.iter().take(ROWS)
    }

    fn phases(&self) -> [Phase; 6] {
        [Phase::Gather, Phase::Compile, Phase::Read, Phase::Diff, Phase::Commit, Phase::Other]
    }

    fn plot_height(&self) -> f64 {
        HEIGHT
    }

    fn services(&self, number: &usize) -> String {
        counted(*number, "Service", "Services")
    }

    fn grouped(&self, number: &usize) -> String {
        grouped(wide(*number))
    }
}

/// The waiting time of changes above which the page warns. Usually they wait for less.
const LONG_WAIT: Duration = Duration::from_secs(2);

impl FamilyShown {
    fn of(family: &FamilyView, now: SystemTime) -> Self {
        let waits = family.waits.unwrap_or_default();
        let (level, text) = match (family.healthy, family.synced) {
            (false, _) => (HealthLevel::Bad, format!("out of sync for {}", Took(waits))),
            (true, None) => (HealthLevel::Attention, "not synced yet".to_owned()),
            (true, Some(_)) if waits > LONG_WAIT => {
                (HealthLevel::Attention, format!("changes pending for {}", Took(waits)))
            }
            (true, Some(_)) => (HealthLevel::Good, "in sync".to_owned()),
        };
        Self {
            family: family.family.api_name(),
            healthy: family.healthy,
            synced: family.synced.map(|at| When::new(at, now)),
            waits: family.waits.map(Took),
            level,
            text,
        }
    }
}

impl Counts {
    fn of(status: &Status) -> Self {
        let store = status.known.store.read();
        let totals = store.totals();
        Self {
            services: store.service_count(),
            service_ports: totals.service_ports,
            endpoints: totals.endpoints,
            no_usable_endpoint: totals.without_endpoints,
            no_local_endpoint: totals.without_local_endpoints,
        }
    }
}

impl LeftOutShown {
    fn of((service, why): (&ObjectKey, &LeftOutReason)) -> Self {
        Self {
            service: format!("{}/{}", service.namespace, service.name),
            reason: why.reason.label(),
            message: why.message.clone(),
        }
    }
}

impl Rejected {
    fn of(problems: &[Problem]) -> Self {
        let object = problems.iter().find_map(|problem| problem.object.as_ref());
        let service = object.filter(|object| object.kind == Kind::Service.name());
        let href = service.map(|of| query::path(&ObjectKey::new(&of.namespace, &of.name)));
        let without_object = |problem: &Problem| Problem { object: None, ..problem.clone() };
        Self {
            object: object.map(ToString::to_string).unwrap_or_default(),
            problems: problems.iter().map(|of| without_object(of).to_string()).collect(),
            href,
        }
    }
}

fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "unknown",
        NodeState::Known => "known",
        NodeState::BeingDeleted => "being deleted",
        NodeState::Drained => "about to be deleted",
    }
}
