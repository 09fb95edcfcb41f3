//! The result of one sync, for metrics and the log.

use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use rulegen_net::IpFamily;

/// One attempt to sync the kernel with the cluster's objects.
#[derive(Debug, Clone)]
pub struct SyncReport {
    /// The families of this attempt; all succeeded or failed together.
    pub families: Vec<FamilyReport>,
    /// Whether it was a full resync, which compares all rules with the kernel.
    pub full: bool,
    /// The error, if it failed.
    pub error: Option<String>,
    /// The total duration.
    pub took: Duration,
    /// The duration of each phase.
    pub phases: Vec<(Phase, Duration)>,
    /// The operations written, if it succeeded.
    pub operations: Operations,
    /// The bytes written to the kernel, if it succeeded.
    pub bytes: usize,
    /// The number of pending changes that it contained.
    pub changes: ObjectChanges,
    /// When it ended.
    pub finished: SystemTime,
}

/// The part of a sync that belongs to one IP family.
#[derive(Debug, Clone)]
pub struct FamilyReport {
    /// The IP family that was synced.
    pub family: IpFamily,
    /// The network programming latency of each EndpointSlice change: from the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time` to the end of the sync.
    pub latencies: Vec<Duration>,
    /// Services without a local endpoint, by the policy that requires one.
    pub no_local_endpoints: NoLocalEndpoints,
    /// Rules per table, in iptables mode.
    pub iptables: Option<IptablesReport>,
}

impl FamilyReport {
    /// An empty report for a family.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            latencies: Vec::new(),
            no_local_endpoints: NoLocalEndpoints::default(),
            iptables: None,
        }
    }
}

/// The result of a conntrack cleanup, which follows a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackReport {
    /// The duration.
    pub took: Duration,
    /// The number of deleted entries.
    pub deleted: usize,
}

/// The number of Services with traffic policy `Local` and no endpoint on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoLocalEndpoints {
    /// Those whose `internalTrafficPolicy` is `Local`.
    pub internal: usize,
    /// Those whose `externalTrafficPolicy` is `Local`.
    pub external: usize,
}

/// The number of rules in the iptables tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IptablesReport {
    /// In table filter.
    pub filter: IptablesRules,
    /// In table nat.
    pub nat: IptablesRules,
}

/// The number of rules in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IptablesRules {
    /// The current number.
    pub total: usize,
    /// The number that this sync wrote.
    pub written: usize,
}

/// The phases of a sync, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Building the snapshot from the objects.
    Gather,
    /// Compiling the snapshot to rules.
    Compile,
    /// Reading the kernel's ruleset.
    Read,
    /// Comparing the two.
    Diff,
    /// Writing the difference.
    Commit,
    /// Deleting stale conntrack entries.
    Conntrack,
    /// Everything else.
    Other,
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
        Phase::Other,
    ];

    /// The name in metrics and the log.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Gather => "gather",
            Phase::Compile => "compile",
            Phase::Read => "read",
            Phase::Diff => "diff",
            Phase::Commit => "commit",
            Phase::Conntrack => "conntrack",
            Phase::Other => "other",
        }
    }
}

/// The durations of the total and of each phase in microseconds. The rest is a phase of its own, so
/// that the phases add up to the total.
pub(crate) fn with_other(
    took: Duration,
    phases: Vec<(Phase, Duration)>,
) -> (Duration, Vec<(Phase, Duration)>) {
    let cut =
        |time: Duration| Duration::new(time.as_secs(), time.subsec_micros().saturating_mul(1000));
    let mut phases: Vec<_> = phases.into_iter().map(|(phase, time)| (phase, cut(time))).collect();
    let sum: Duration = phases.iter().map(|(_, time)| *time).sum();
    let took = cut(took).max(sum);
    phases.push((Phase::Other, took.saturating_sub(sum)));
    (took, phases)
}

/// The operations written, by kind. Kinds that iptables does not have stay 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// Elements of sets and maps.
    pub elements: OperationCounts,
    /// Rules added and deleted.
    pub rules: OperationCounts,
    /// Chains added and deleted.
    pub chains: OperationCounts,
    /// Sets and maps.
    pub sets: OperationCounts,
    /// Sets and maps that lost all elements and stayed.
    pub flushed_sets: usize,
}

impl AddAssign for Operations {
    fn add_assign(&mut self, other: Self) {
        self.elements += other.elements;
        self.rules += other.rules;
        self.chains += other.chains;
        self.sets += other.sets;
        self.flushed_sets += other.flushed_sets;
    }
}

/// The number of operations of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationCounts {
    /// Added or replaced.
    pub added: usize,
    /// How many were deleted.
    pub deleted: usize,
}

impl AddAssign for OperationCounts {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.deleted += other.deleted;
    }
}

/// The number of object changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectChanges {
    /// Changed Services.
    pub services: usize,
    /// Changed EndpointSlices.
    pub endpoints: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_report_phases_add_up_to_total() {
        let nanos = Duration::from_nanos;
        let phases = vec![(Phase::Gather, nanos(1_999)), (Phase::Commit, nanos(5_000_000_001))];
        let (took, phases) = with_other(nanos(5_000_123_999), phases);
        assert_eq!(took, nanos(5_000_123_000));
        assert_eq!(phases.iter().map(|(_, time)| *time).sum::<Duration>(), took);
        assert_eq!(phases.last(), Some(&(Phase::Other, nanos(122_000))));
        assert_eq!(with_other(nanos(1), vec![]).1, [(Phase::Other, Duration::ZERO)]);
    }
}
