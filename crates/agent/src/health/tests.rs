use super::*;
use crate::input::ReconcilerInput;
use crate::queue::EventQueue;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn wall(seconds: u64) -> SystemTime {
    WALL + Duration::from_secs(1_795_000_000 + seconds)
}

fn started() -> (Clock, Health) {
    let clock = Clock(Instant::now());
    let mut health = Health::new(&IpFamily::BOTH, Health::PATIENCE, clock.at(0));
    health.node(NodeState::Known);
    (clock, health)
}

fn synced() -> (Clock, Health) {
    let (clock, mut health) = started();
    health.in_sync_with_source(true);
    IpFamily::BOTH.iter().for_each(|family| health.synced(*family, clock.at(1), wall(1)));
    (clock, health)
}

#[test]
fn healthz_fails_if_a_change_of_any_ip_family_is_pending_too_long() {
    use IpFamily::{Ipv4, Ipv6};
    type Story = fn(&Clock, &mut Health);
    let cases: [(&str, Story, u64, bool); 11] = [
        ("nothing changed for a long time", |_, _| (), 100_000, true),
        ("a change is pending", |clock, health| health.queued(clock.at(100)), 159, true),
        (
            "a change is pending for too long",
            |clock, health| health.queued(clock.at(100)),
            160,
            false,
        ),
        (
            "the oldest change counts, not the newest",
            |clock, health| [100, 130, 159].iter().for_each(|s| health.queued(clock.at(*s))),
            160,
            false,
        ),
        (
            "one family succeeded, the other did not",
            |clock, health| {
                health.queued(clock.at(100));
                health.synced(Ipv4, clock.at(101), wall(101));
            },
            160,
            false,
        ),
        (
            "both succeeded",
            |clock, health| {
                health.queued(clock.at(100));
                health.synced(Ipv4, clock.at(101), wall(101));
                health.synced(Ipv6, clock.at(101), wall(101));
            },
            1000,
            true,
        ),
        (
            "a failed sync keeps changes pending",
            |clock, health| {
                health.queued(clock.at(100));
                health.failed(Ipv4, clock.at(150));
            },
            160,
            false,
        ),
        (
            "a sync without changes fails",
            |clock, health| health.failed(Ipv6, clock.at(100)),
            160,
            false,
        ),
        (
            "a change during a sync is still pending",
            |clock, health| {
                health.queued(clock.at(100));
                health.queued(clock.at(120));
                health.synced(Ipv4, clock.at(110), wall(121));
                health.synced(Ipv6, clock.at(110), wall(121));
            },
            170,
            false,
        ),
        (
            "pending only since the newer change",
            |clock, health| {
                health.queued(clock.at(100));
                health.queued(clock.at(120));
                health.synced(Ipv4, clock.at(110), wall(121));
                health.synced(Ipv6, clock.at(110), wall(121));
            },
            169,
            true,
        ),
        (
            "the API server is unreachable",
            |_, health| health.in_sync_with_source(false),
            1000,
            true,
        ),
    ];
    for (name, story, then, healthy) in cases {
        let (clock, mut health) = synced();
        story(&clock, &mut health);
        let now = clock.at(then);
        assert_eq!(health.is_healthy(now), healthy, "{name}");
        assert_eq!(health.healthz(now, WALL).ok, healthy, "{name}: /healthz");
        assert_eq!(health.livez(now, WALL).ok, healthy, "{name}: /livez");
        assert_eq!(health.readyz(now, WALL).ok, healthy, "{name}: /readyz");
    }
}

#[test]
fn healthz_and_livez_fail_without_first_sync_in_time() {
    let (clock, mut health) = started();
    assert!(health.healthz(clock.at(59), WALL).ok);
    assert!(!health.healthz(clock.at(60), WALL).ok);
    assert!(health.livez(clock.at(60), WALL).ok, "alive without objects");
    health.in_sync_with_source(true);
    assert!(!health.livez(clock.at(60), WALL).ok);
    health.synced(IpFamily::Ipv4, clock.at(61), wall(61));
    assert!(!health.livez(clock.at(62), WALL).ok, "IPv6 is still pending");
    health.synced(IpFamily::Ipv6, clock.at(63), wall(63));
    assert!(health.livez(clock.at(64), WALL).ok);
}

#[test]
fn healthz_fails_for_deleted_or_drained_node_but_livez_and_readyz_do_not() {
    use NodeState::{BeingDeleted, Drained, Known, Unknown};
    for (node, ok) in [(Unknown, false), (Known, true), (BeingDeleted, false), (Drained, false)] {
        let (clock, mut health) = synced();
        health.node(node);
        let (now, wall) = (clock.at(9), wall(9));
        assert_eq!(health.healthz(now, wall).ok, ok, "{node:?}");
        assert!(health.healthz(now, wall).body.contains(&format!(r#""nodeEligible":{ok},"#)));
        assert!(health.livez(now, wall).ok, "{node:?}");
        assert!(health.readyz(now, wall).ok, "{node:?}");
        assert!(health.is_healthy(now), "{node:?}");
    }
}

#[test]
fn healthz_and_livez_bodies_equal_those_of_kube_proxy() {
    let (clock, mut health) = synced();
    health.synced(IpFamily::Ipv6, clock.at(2), wall(2) + Duration::from_nanos(120_000_345));
    let body = health.healthz(clock.at(9), wall(9)).body;
    assert_eq!(
        body,
        concat!(
            r#"{"lastUpdated":"2026-11-18T11:06:49Z","currentTime":"2026-11-18T11:06:49Z","#,
            r#""nodeEligible":true,"healthy":true,"status":{"#,
            r#""IPv4":{"lastUpdated":"2026-11-18T11:06:41Z","healthy":true},"#,
            r#""IPv6":{"lastUpdated":"2026-11-18T11:06:42.120000345Z","healthy":true}}}"#,
        )
    );
    health.failed(IpFamily::Ipv4, clock.at(10));
    assert_eq!(
        health.livez(clock.at(70), wall(70)).body,
        concat!(
            r#"{"lastUpdated":"2026-11-18T11:06:42.120000345Z","#,
            r#""currentTime":"2026-11-18T11:07:50Z","healthy":false,"status":{"#,
            r#""IPv4":{"lastUpdated":"2026-11-18T11:06:41Z","healthy":false},"#,
            r#""IPv6":{"lastUpdated":"2026-11-18T11:06:42.120000345Z","healthy":true}}}"#,
        )
    );
}

#[test]
fn healthz_body_of_drained_node_is_not_eligible_but_healthy() {
    let (clock, mut health) = synced();
    health.node(NodeState::Drained);
    let body = health.healthz(clock.at(9), wall(9)).body;
    assert!(body.starts_with(r#"{"lastUpdated":"2026-11-18T11:06:41Z""#), "{body}");
    assert!(body.contains(r#""nodeEligible":false,"healthy":true"#), "{body}");
}

#[test]
fn health_body_without_sync_has_zero_time_of_go() {
    let (clock, health) = started();
    let body = health.livez(clock.at(60), wall(60)).body;
    assert!(body.starts_with(r#"{"lastUpdated":"0001-01-01T00:00:00Z","#), "{body}");
}

#[test]
fn readyz_body_names_missing_syncs_and_lists() {
    let (clock, mut health) = started();
    let readiness = |health: &Health, seconds| {
        let body = health.readyz(clock.at(seconds), WALL).body;
        body.split_once(r#","ready":"#).map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(
        readiness(&health, 1),
        concat!(
            r#"false,"sourceInSync":false,"missing":["initial list not complete","#,
            r#""first sync of IPv4","first sync of IPv6"]}"#,
        )
    );
    health.in_sync_with_source(true);
    health.synced(IpFamily::Ipv4, clock.at(1), wall(1));
    assert_eq!(
        readiness(&health, 60),
        concat!(
            r#"false,"sourceInSync":true,"missing":["first sync of IPv6","#,
            r#""changes of IPv6 pending for 60 s or more"]}"#,
        )
    );
    health.synced(IpFamily::Ipv6, clock.at(61), wall(61));
    assert_eq!(readiness(&health, 62), r#"true,"sourceInSync":true,"missing":[]}"#);
    health.in_sync_with_source(false);
    assert_eq!(readiness(&health, 62), r#"true,"sourceInSync":false,"missing":[]}"#);
}

#[test]
fn health_verdicts_do_not_depend_on_wall_clock() {
    let (clock, mut health) = synced();
    health.queued(clock.at(100));
    for seconds in [0, 1, 1 << 40] {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (then, ok) in [(159, true), (160, false)] {
            let now = clock.at(then);
            let verdicts =
                [health.healthz(now, wall), health.livez(now, wall), health.readyz(now, wall)];
            assert!(verdicts.iter().all(|verdict| verdict.ok == ok), "{seconds} {then}");
        }
    }
}

#[test]
fn source_error_ends_on_success_or_expiry() {
    let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut health = Health::new(&[IpFamily::Ipv4], Health::PATIENCE, now);
    let later = |seconds| now + Duration::from_secs(seconds);
    let trouble = |until| Some(SourceError { why: "away".to_owned(), until });
    health.source("Service", trouble(Some(later(10))), now, wall);
    let since = |health: &Health, at| health.view(at, wall).trouble.map(|trouble| trouble.since);
    assert_eq!(since(&health, later(9)), Some(wall));
    assert_eq!(since(&health, later(10)), None, "error expired");
    let again = wall + Duration::from_secs(5);
    health.source("Service", trouble(Some(later(20))), later(5), again);
    assert_eq!(since(&health, later(15)), Some(wall), "the outage continued");
    health.source("Service", None, later(6), again);
    assert_eq!(since(&health, later(6)), None);
    health.source("the manifests", trouble(None), later(7), again);
    assert_eq!(since(&health, later(700)), Some(again));
}

/// Only the reconciler records pending changes, so a hanging reconciler must be detected elsewhere.
#[test]
fn health_checks_fail_if_reconciler_hangs_with_queued_changes() {
    let (clock, mut health) = synced();
    let EventQueue { objects, mut inputs, .. } = EventQueue::new();
    health.watch_queue(inputs.waiting());
    let verdicts = |health: &Health, seconds| {
        let now = clock.at(seconds);
        [health.healthz(now, WALL), health.livez(now, WALL), health.readyz(now, WALL)]
            .map(|verdict| verdict.ok)
    };
    objects.put_at(ReconcilerInput::Addresses, clock.at(100));
    objects.put_at(ReconcilerInput::Addresses, clock.at(150));
    assert_eq!(verdicts(&health, 159), [true; 3]);
    assert_eq!(verdicts(&health, 160), [false; 3]);
    let body = health.readyz(clock.at(160), WALL).body;
    assert!(body.contains("changes queued for 60 s or more"), "{body}");
    inputs.recv();
    assert_eq!(verdicts(&health, 160), [false; 3], "received but not handled");
    inputs.recv();
    assert_eq!(verdicts(&health, 160), [true; 3]);
    health.in_sync_with_source(false);
    assert!(!health.livez(clock.at(210), WALL).ok, "also before the initial list is complete");
    inputs.done();
    assert_eq!(verdicts(&health, 210), [true; 3]);
}

#[test]
fn source_outage_is_measured_from_first_error_to_recovery() {
    let (clock, mut health) = synced();
    let lasts =
        |health: &Health, seconds| health.source_outage(clock.at(seconds), wall(seconds)).as_secs();
    let trouble = |until| Some(SourceError { why: "refused".into(), until });
    assert_eq!(lasts(&health, 100), 0);
    health.source("Services", trouble(None), clock.at(100), wall(100));
    health.source("Services", trouble(None), clock.at(150), wall(150));
    health.source("Nodes", trouble(Some(clock.at(180))), clock.at(120), wall(120));
    assert_eq!(lasts(&health, 170), 70);
    health.source("Services", None, clock.at(170), wall(170));
    assert_eq!(lasts(&health, 179), 59);
    assert_eq!(lasts(&health, 180), 0, "expired");
}
