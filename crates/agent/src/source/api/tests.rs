use kube::core::Status;

use super::*;
use crate::source::object::Services;

fn status(code: u16) -> kube::Error {
    kube::Error::Api(Box::new(Status { code, ..Status::default() }))
}

#[test]
fn pauses_grow_until_something_works() {
    let mut trouble = Trouble::default();
    let failed = Error::InitialListFailed(status(429));
    let mut least = Duration::from_millis(800);
    for _ in 0..5 {
        // Up to as much again is added by chance.
        let pause = trouble.tell(Kind::Service, &failed);
        assert!((least..=least * 2).contains(&pause), "{pause:?}, not {least:?}");
        assert!(!tells_something::<Services>(&Event::Init), "nothing was asked yet");
        least *= 2;
    }
    for _ in 0..3 {
        assert!(trouble.tell(Kind::Service, &failed) <= LONGEST_PAUSE * 2);
    }
    assert!(tells_something::<Services>(&Event::InitDone));
    trouble.over(Kind::Service);
    assert!(trouble.tell(Kind::Service, &failed) <= Duration::from_millis(1600));
}

#[test]
fn what_may_have_hidden_an_event_costs_a_list() {
    let no_json = serde_json::from_str::<u8>("x").unwrap_err();
    for (error, expected) in [
        (Error::WatchFailed(kube::Error::SerdeError(no_json)), true),
        (Error::WatchFailed(status(0)), true),
        (Error::WatchStartFailed(status(410)), true),
        // The client lists by itself.
        (Error::WatchError(Box::new(Status { code: 410, ..Status::default() })), false),
        // It goes on from the version that was told last.
        (Error::WatchStartFailed(status(500)), false),
        (Error::WatchError(Box::new(Status { code: 500, ..Status::default() })), false),
    ] {
        assert_eq!(needs_list(&error), expected, "{error}");
    }
}

#[test]
fn only_what_was_never_shown_may_be_forbidden() {
    for (error, was_shown, expected) in [
        (Error::InitialListFailed(status(404)), false, true),
        (Error::WatchStartFailed(status(404)), true, true),
        (Error::InitialListFailed(status(403)), false, true),
        (Error::InitialListFailed(status(403)), true, false),
        (Error::WatchStartFailed(status(403)), true, false),
        (Error::InitialListFailed(status(500)), false, false),
    ] {
        assert_eq!(is_absence(&error, was_shown), expected, "{error}, {was_shown}");
    }
}

#[test]
fn what_is_gone_is_not_remembered_for_ever() {
    let key = |number: u64| ObjectKey::new("default", &number.to_string());
    let mut versions = Versions::default();
    let most = GONE as u64;
    assert!(versions.is_newer(&key(0), Some(1)));
    versions.is_gone(&key(0));
    assert!(versions.is_newer(&key(0), Some(2)), "it came again");
    for number in 1..most * 2 {
        assert!(versions.is_newer(&key(number), Some(number * 2)));
        assert!(versions.is_newer(&key(number), Some(number * 2 + 1)));
        versions.is_gone(&key(number));
        assert!(!versions.is_newer(&key(number), Some(number * 2)), "it is gone");
    }
    assert!(!versions.is_newer(&key(0), Some(2)), "it is there");
    assert_eq!(versions.newest.len(), GONE + 1);
}
