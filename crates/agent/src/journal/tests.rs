use std::time::Duration;

use rulegen_kernel::nftables::Writer;

use super::*;
use crate::report::{ObjectChanges, Operations, Phase};

const SECOND: Duration = Duration::from_secs(1);

fn report(at: u64, error: Option<&str>) -> SyncReport {
    SyncReport {
        families: Vec::new(),
        full: false,
        error: error.map(str::to_owned),
        took: SECOND,
        phases: vec![(Phase::Commit, SECOND)],
        operations: Operations::default(),
        bytes: 100,
        changes: ObjectChanges::default(),
        finished: SystemTime::UNIX_EPOCH + SECOND * u32::try_from(at).unwrap(),
    }
}

fn sync(journal: &Journal, report: &SyncReport, found_nothing: bool) {
    let cause = SyncTrigger { services: 1, ..SyncTrigger::default() };
    journal.begins(cause, Instant::now(), SystemTime::UNIX_EPOCH);
    journal.ended(report, 1, found_nothing);
}

#[test]
fn journal_keeps_a_bounded_number_of_syncs() {
    let journal = Journal::default();
    (0..1000).for_each(|at| sync(&journal, &report(at, None), false));
    journal.with(|pages| {
        let kept: Vec<&SyncRecord> = pages.syncs.newest_first().collect();
        assert_eq!(kept.len(), 200);
        assert_eq!(kept[0].finished, report(999, None).finished);
        assert_eq!(kept[199].finished, report(800, None).finished);
    });
}

#[test]
fn repeated_failures_with_one_error_are_one_entry() {
    let journal = Journal::default();
    sync(&journal, &report(1, None), false);
    for at in 2..500 {
        sync(&journal, &report(at, Some(&format!("refused; and {at} more"))), false);
    }
    journal.with(|pages| {
        let kept: Vec<&SyncRecord> = pages.syncs.newest_first().collect();
        assert_eq!(kept.len(), 2);
        assert_eq!((kept[0].times, kept[0].error.as_deref()), (498, Some("refused")));
        assert_eq!(kept[0].since, report(2, None).finished);
        assert_eq!(pages.syncs.last_success(), Some(report(1, None).finished));
    });
    sync(&journal, &report(500, Some("another")), false);
    sync(&journal, &report(501, None), false);
    sync(&journal, &report(502, None), false);
    journal.with(|pages| assert_eq!(pages.syncs.newest_first().count(), 5));
}

#[test]
fn no_op_resyncs_are_only_counted() {
    let journal = Journal::default();
    sync(&journal, &report(1, None), false);
    (2..9).for_each(|at| sync(&journal, &report(at, None), true));
    journal.with(|pages| {
        assert_eq!((pages.syncs.newest_first().count(), pages.syncs.no_op_resyncs()), (1, 7));
        assert_eq!(pages.syncs.last_success(), Some(report(8, None).finished));
        assert!(pages.syncs.running().is_none());
    });
    journal.begins(SyncTrigger::default(), Instant::now(), SystemTime::UNIX_EPOCH);
    assert!(journal.with(|pages| pages.syncs.running().is_some()));
}

/// The resync after suspected drift fails; the next one finds everything in sync and writes nothing.
#[test]
fn no_op_resync_ends_a_failure() {
    let journal = Journal::default();
    let failing = || journal.with(|pages| pages.syncs.failing().map(|record| record.times));
    sync(&journal, &report(1, None), false);
    assert_eq!(failing(), None);
    sync(&journal, &report(2, Some("iptables-save failed")), false);
    sync(&journal, &report(3, Some("iptables-save failed")), false);
    assert_eq!(failing(), Some(2));
    sync(&journal, &report(4, None), true);
    assert_eq!(failing(), None);
    sync(&journal, &report(5, Some("iptables-save failed")), false);
    assert_eq!(failing(), Some(1), "a new failure: a sync succeeded in between");
    journal.with(|pages| assert_eq!(pages.syncs.newest_first().count(), 3));
}

#[test]
fn journal_truncates_long_error() {
    let journal = Journal::default();
    sync(&journal, &report(1, Some(&"ü".repeat(10_000))), false);
    let length = journal.with(|pages| {
        pages.syncs.newest_first().next().and_then(|last| last.error.clone()).unwrap()
    });
    assert_eq!(length.chars().count(), 2000);
}

fn drift(program: &str, changes: usize) -> Drift {
    let writer = Writer { program: program.to_owned(), pid: 7, ..Writer::default() };
    let changes = (0..changes).map(|n| format!("deleted rule {n}")).collect();
    Drift { writer: Some(writer), changes, certain: true }
}

#[test]
fn drift_stays_open_until_it_is_repaired() {
    let journal = Journal::default();
    let at = SystemTime::UNIX_EPOCH;
    (0..3000).for_each(|_| journal.drifted(&drift("nft", 2), at));
    journal.drifted(&drift("other", 1), at);
    journal.with(|pages| {
        let [other, nft] = pages.drifts.newest_first().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((nft.commits, nft.changes.len(), nft.more), (3000, 20, 5980));
        assert_eq!((other.commits, other.more, other.end), (1, 0, None));
    });
    journal.repaired(at + SECOND, true);
    journal.drifted(&drift("other", 1), at + SECOND);
    journal.repaired(at + SECOND * 2, false);
    journal.with(|pages| {
        let ends: Vec<Option<DriftEnd>> =
            pages.drifts.newest_first().map(|drift| drift.end).collect();
        let repaired = Some(DriftEnd::Repaired(at + SECOND));
        assert_eq!(ends, [Some(DriftEnd::Nothing(at + SECOND * 2)), repaired, repaired]);
    });
    (0..900).for_each(|n| journal.drifted(&drift(&n.to_string(), 1), at));
    assert_eq!(journal.with(|pages| pages.drifts.newest_first().count()), 200);
}
