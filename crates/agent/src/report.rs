//! What one sync did, for metrics and for the log.

use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use rulegen_net::IpFamily;

/// One attempt to bring the kernel to what the cluster's objects say.
#[derive(Debug, Clone)]
pub struct SyncReport {
    /// What was to be written in this attempt; it succeeded or failed for all of them alike.
    pub families: Vec<FamilyReport>,
    /// Whether everything was compared with the kernel, not only what changed.
    pub full: bool,
    /// Why it failed; none if it did not.
    pub error: Option<String>,
    /// All of it, from the first look at the changes to the end.
    pub took: Duration,
    /// Its parts.
    pub phases: Vec<(Phase, Duration)>,
    /// What was written, if it succeeded.
    pub operations: Operations,
    /// What was handed to the kernel, in bytes, if it succeeded.
    pub bytes: usize,
    /// How many of the changes that waited were in it.
    pub changes: Changes,
    /// When it ended.
    pub finished: SystemTime,
}

/// The part of a sync that belongs to one family.
#[derive(Debug, Clone)]
pub struct FamilyReport {
    /// Which.
    pub family: IpFamily,
    /// From a change of an EndpointSlice, as its annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time` tells, to the end of the sync; one for
    /// each change.
    pub latencies: Vec<Duration>,
    /// Services without an endpoint on this node, by the policy that wants one there.
    pub no_local_endpoints: NoLocalEndpoints,
    /// Rules by table, if there are tables of iptables.
    pub iptables: Option<IptablesReport>,
}

impl FamilyReport {
    /// Of a family for which nothing more is known.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            latencies: Vec::new(),
            no_local_endpoints: NoLocalEndpoints::default(),
            iptables: None,
        }
    }
}

/// What the cleaning of connection tracking did, which follows a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackReport {
    /// How long it took.
    pub took: Duration,
    /// How many entries went.
    pub deleted: usize,
}

/// Numbers of services whose traffic policy is `Local` and that have no endpoint on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoLocalEndpoints {
    /// By `internalTrafficPolicy`.
    pub internal: usize,
    /// By `externalTrafficPolicy`.
    pub external: usize,
}

/// Numbers of rules in the tables of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IptablesReport {
    /// In the table filter.
    pub filter: IptablesRules,
    /// In the table nat.
    pub nat: IptablesRules,
}

/// Numbers of rules in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IptablesRules {
    /// Those it has now.
    pub total: usize,
    /// Those that this sync wrote.
    pub written: usize,
}

/// The parts of a sync, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Objects to a snapshot.
    Gather,
    /// The snapshot to the wanted ruleset.
    Compile,
    /// The kernel's ruleset is read.
    Read,
    /// The two are compared.
    Diff,
    /// The difference is written.
    Commit,
    /// Stale entries of connection tracking are deleted.
    Conntrack,
    /// What of a sync is none of these.
    Rest,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 7] = [
        Phase::Gather,
        Phase::Compile,
        Phase::Read,
        Phase::Diff,
        Phase::Commit,
        Phase::Conntrack,
        Phase::Rest,
    ];

    /// As metrics and the log name it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Gather => "gather",
            Phase::Compile => "compile",
            Phase::Read => "read",
            Phase::Diff => "diff",
            Phase::Commit => "commit",
            Phase::Conntrack => "conntrack",
            Phase::Rest => "rest",
        }
    }
}

/// The time of a whole and of its phases in microseconds, with the rest as a phase, so that the phases
/// add up to the whole.
pub(crate) fn with_rest(
    took: Duration,
    phases: Vec<(Phase, Duration)>,
) -> (Duration, Vec<(Phase, Duration)>) {
    let cut =
        |time: Duration| Duration::new(time.as_secs(), time.subsec_micros().saturating_mul(1000));
    let mut phases: Vec<_> = phases.into_iter().map(|(phase, time)| (phase, cut(time))).collect();
    let sum: Duration = phases.iter().map(|(_, time)| *time).sum();
    let took = cut(took).max(sum);
    phases.push((Phase::Rest, took.saturating_sub(sum)));
    (took, phases)
}

/// What was written, by kind. What iptables has no kind of stays 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// Elements of sets and maps.
    pub elements: Counts,
    /// Rules.
    pub rules: Counts,
    /// Chains.
    pub chains: Counts,
    /// Sets and maps.
    pub sets: Counts,
}

impl AddAssign for Operations {
    fn add_assign(&mut self, other: Self) {
        self.elements += other.elements;
        self.rules += other.rules;
        self.chains += other.chains;
        self.sets += other.sets;
    }
}

/// How many of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Added or replaced.
    pub added: usize,
    /// Deleted.
    pub deleted: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.deleted += other.deleted;
    }
}

/// Numbers of changes of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Of Services.
    pub services: usize,
    /// Of EndpointSlices.
    pub endpoints: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_the_whole() {
        let nanos = Duration::from_nanos;
        let phases = vec![(Phase::Gather, nanos(1_999)), (Phase::Commit, nanos(5_000_000_001))];
        let (took, phases) = with_rest(nanos(5_000_123_999), phases);
        assert_eq!(took, nanos(5_000_123_000));
        assert_eq!(phases.iter().map(|(_, time)| *time).sum::<Duration>(), took);
        assert_eq!(phases.last(), Some(&(Phase::Rest, nanos(122_000))));
        assert_eq!(with_rest(nanos(1), vec![]).1, [(Phase::Rest, Duration::ZERO)]);
    }
}
