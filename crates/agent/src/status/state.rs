//! The overall state, for people.

use std::time::{Duration, Instant, SystemTime};

use rulegen_model::{Kind, NodeState};
use serde::Serialize;
use strum::IntoStaticStr;

use super::format::{Long, Took, When, counted};
use crate::health::HealthView;
use crate::journal::Syncs;

/// The severity of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum HealthLevel {
    Good,
    Attention,
    Bad,
}

impl HealthLevel {
    /// The CSS class.
    pub(super) fn class(self) -> &'static str {
        match self {
            HealthLevel::Good => "good",
            HealthLevel::Attention => "attention",
            HealthLevel::Bad => "bad",
        }
    }
}

/// The overall state of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentState {
    pub(super) level: HealthLevel,
    /// The stable code.
    pub(super) code: &'static str,
    /// In a few words.
    pub(super) summary: &'static str,
    /// In a sentence.
    pub(super) detail: String,
}

/// What the agent does, or what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
enum AgentCondition {
    SyncsFail,
    OutOfSync,
    WaitingForObjects,
    NotReceivingUpdates,
    Syncing,
    FirstSync,
    OtherPrograms,
    NodeLeavingService,
    InSync,
}

impl AgentCondition {
    fn level(self) -> HealthLevel {
        match self {
            Self::SyncsFail | Self::OutOfSync | Self::NotReceivingUpdates => HealthLevel::Bad,
            Self::WaitingForObjects
            | Self::Syncing
            | Self::FirstSync
            | Self::OtherPrograms
            | Self::NodeLeavingService => HealthLevel::Attention,
            Self::InSync => HealthLevel::Good,
        }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::SyncsFail => "Syncs are failing",
            Self::OutOfSync => "Out of sync",
            Self::WaitingForObjects => "Waiting for objects",
            Self::NotReceivingUpdates => "Not receiving updates",
            Self::Syncing => "Syncing",
            Self::FirstSync => "First sync",
            Self::OtherPrograms => "Other programs change the rules",
            Self::NodeLeavingService => "In sync, node leaving service",
            Self::InSync => "In sync",
        }
    }
}

/// The duration above which the page mentions a running sync.
const LONG: Duration = Duration::from_secs(2);

impl AgentState {
    /// The first condition that applies, the most severe first.
    pub(super) fn of(
        health: &HealthView,
        syncs: &Syncs,
        missing: &[Kind],
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        failing(syncs, wall)
            .or_else(|| behind(health))
            .or_else(|| waiting(missing))
            .or_else(|| cut_off(health, wall))
            .or_else(|| running(syncs, now))
            .or_else(|| first(health))
            .or_else(|| other_programs(health))
            .or_else(|| of_node(health.node))
            .unwrap_or_else(|| in_sync(syncs, wall))
    }

    fn new(condition: AgentCondition, detail: String) -> Self {
        let (level, summary) = (condition.level(), condition.summary());
        Self { level, code: condition.into(), summary, detail }
    }
}

fn failing(syncs: &Syncs, wall: SystemTime) -> Option<AgentState> {
    let last = syncs.failing()?;
    let error = last.error.as_ref()?;
    let since = When::new(last.since, wall);
    let times = usize::try_from(last.times).unwrap_or(usize::MAX);
    let (times, ago) = (counted(times, "attempt", "attempts"), since.ago());
    let detail = format!("{times}, the first at {} UTC ({ago}): {error}", since.clock());
    Some(AgentState::new(AgentCondition::SyncsFail, detail))
}

fn behind(health: &HealthView) -> Option<AgentState> {
    let family = health.families.iter().find(|family| !family.healthy)?;
    let (name, waits) = (family.family.api_name(), Long(family.waits.unwrap_or_default()));
    let detail = format!("Changes for {name} have been pending for {waits}.");
    Some(AgentState::new(AgentCondition::OutOfSync, detail))
}

fn waiting(missing: &[Kind]) -> Option<AgentState> {
    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    let detail = format!(
        "No rules are written until all objects are listed. Not listed yet: {}.",
        names.join(", ")
    );
    (!names.is_empty()).then(|| AgentState::new(AgentCondition::WaitingForObjects, detail))
}

/// The rules are in sync with the last known objects, but updates do not arrive.
fn cut_off(health: &HealthView, wall: SystemTime) -> Option<AgentState> {
    let trouble = health.trouble.as_ref()?;
    let since = When::new(trouble.since, wall);
    let detail = format!(
        "No updates of {} since {} UTC ({}). The current rules stay in place. Reason: {}",
        trouble.what,
        since.clock(),
        since.ago(),
        trouble.why
    );
    Some(AgentState::new(AgentCondition::NotReceivingUpdates, detail))
}

fn running(syncs: &Syncs, now: Instant) -> Option<AgentState> {
    let took = now.saturating_duration_since(syncs.running()?.began);
    let detail = format!(
        "A sync has been running for {}. Until it ends, the previous rules apply.",
        Took(took)
    );
    (took > LONG).then(|| AgentState::new(AgentCondition::Syncing, detail))
}

fn first(health: &HealthView) -> Option<AgentState> {
    let is_first = health.families.iter().any(|family| family.synced.is_none());
    let detail = "The rules are being written for the first time.".to_owned();
    is_first.then(|| AgentState::new(AgentCondition::FirstSync, detail))
}

fn other_programs(health: &HealthView) -> Option<AgentState> {
    let first = health.rivals.first()?;
    let mut letters = first.chars();
    let capital = letters.next().map(|letter| letter.to_ascii_uppercase());
    let sentence: String = capital.into_iter().chain(letters).chain(['.']).collect();
    Some(AgentState::new(AgentCondition::OtherPrograms, sentence))
}

fn of_node(node: NodeState) -> Option<AgentState> {
    let why = match node {
        NodeState::Known => return None,
        NodeState::Unknown => "the cluster has no Node object with its name",
        NodeState::BeingDeleted => "the Node object is being deleted",
        NodeState::Drained => "the cluster's autoscaler is about to delete it",
    };
    let detail =
        format!("The rules are in sync, but /healthz fails to keep load balancers away: {why}.");
    Some(AgentState::new(AgentCondition::NodeLeavingService, detail))
}

fn in_sync(syncs: &Syncs, wall: SystemTime) -> AgentState {
    let ago = syncs.last_success().map(|at| When::new(at, wall).ago());
    let detail = format!(
        "The kernel's rules match the cluster's objects. Last sync: {}.",
        ago.unwrap_or_else(|| "none".to_owned())
    );
    AgentState::new(AgentCondition::InSync, detail)
}
