//! Logs API server failures: one line at the start, a reminder each minute, and one line at the
//! end, never one for each attempt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use rulegen_model::Kind;

use super::request::RequestError;

/// The longest pause between two attempts without jitter, as in client-go.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause while the server is unreachable, with jitter. Together with the pause before a
/// list (at most 1.6 s) it stays below 5 s, which is the maximum time until a change reaches the
/// kernel after an outage.
const LONGEST_PAUSE_WHILE_AWAY: Duration = Duration::from_millis(2500);

/// The interval of reminders.
const REMINDER: Duration = Duration::from_secs(60);

/// The server, shared by all watches, so that an unreachable server is logged once.
#[derive(Clone)]
pub(super) struct ApiServer {
    address: String,
    away: Arc<Mutex<Reminder>>,
}

impl ApiServer {
    pub(super) fn new(address: String) -> Self {
        Self { address, away: Arc::default() }
    }

    fn away(&self) -> std::sync::MutexGuard<'_, Reminder> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of failure. A change of the kind is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Away,
    Refused(u16),
    Wrong,
}

impl Class {
    fn of(error: &RequestError) -> Self {
        match error {
            RequestError::Unreachable(_) | RequestError::Silent(_) => Self::Away,
            RequestError::Refused(status) => Self::Refused(status.code),
            RequestError::Wrong(_) => Self::Wrong,
        }
    }
}

/// Whether the server is unreachable, also according to a load balancer in front of it.
fn is_away(error: &RequestError) -> bool {
    match error {
        RequestError::Unreachable(_) | RequestError::Silent(_) => true,
        RequestError::Refused(status) => [502, 503, 504].contains(&status.code),
        RequestError::Wrong(_) => false,
    }
}

/// The failures of one watch, and its backoff, which is reset on success.
pub(super) struct WatchFailures {
    kind: Kind,
    server: ApiServer,
    reminder: Reminder,
    pauses: DefaultBackoff,
}

impl WatchFailures {
    pub(super) fn new(kind: Kind, server: ApiServer) -> Self {
        Self { kind, server, reminder: Reminder::default(), pauses: DefaultBackoff::default() }
    }

    /// Logs a failure if it is due, and returns the pause before the next attempt.
    pub(super) fn failed(&mut self, error: &RequestError) -> Duration {
        let (class, now) = (Class::of(error), Instant::now());
        let say = match class {
            Class::Away => {
                self.reminder.start(class, now);
                self.server.away().fail(class, now)
            }
            _ => self.reminder.fail(class, now),
        };
        self.log(class, error, say);
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        if pause <= LONGEST_PAUSE_WHILE_AWAY || !is_away(error) {
            return pause;
        }
        // From the beginning, with new jitter: nodes that lost the server together should not come
        // back together.
        self.pauses.reset();
        self.pauses.next().unwrap_or(LONGEST_PAUSE_WHILE_AWAY)
    }

    /// Logs that there is no response yet, if it is due. Returns the message for the status page.
    pub(super) fn waits(&mut self, waited: Duration) -> String {
        let now = Instant::now();
        self.reminder.start(Class::Away, now);
        let (server, seconds) = (&self.server.address, waited.as_secs());
        if self.server.away().fail(Class::Away, now) != LogDecision::Nothing {
            tracing::warn!(
                server,
                seconds,
                "no answer from the API server yet, keeping current rules"
            );
        }
        format!("no answer from {server} for {seconds} s")
    }

    fn log(&self, class: Class, error: &RequestError, say: LogDecision) {
        let (kind, server) = (self.kind.name(), &self.server.address);
        let LogDecision::Since(since) = say else {
            return tracing::debug!(kind, server, %error, "watch failed again");
        };
        let seconds = since.as_secs();
        match class {
            Class::Away => tracing::warn!(
                server, %error, seconds,
                "API server unreachable, keeping current rules"
            ),
            Class::Refused(_) => tracing::warn!(
                kind, server, %error, seconds,
                "watch failed, keeping current rules"
            ),
            // Without ServiceCIDRs, only unused cluster IPs are affected.
            Class::Wrong if self.kind == Kind::ServiceCidr => tracing::warn!(
                kind, server, %error, seconds,
                "invalid response from the API server, keeping current rules"
            ),
            Class::Wrong => tracing::error!(
                kind, server, %error, seconds,
                "invalid response from the API server, keeping current rules"
            ),
        }
    }

    /// Records a success. Returns whether it ended a failure.
    pub(super) fn over(&mut self) -> bool {
        let now = Instant::now();
        self.pauses.reset();
        if let Some(since) = self.server.away().over(now) {
            let (server, seconds) = (&self.server.address, since.as_secs());
            tracing::info!(server, seconds, "API server reachable again");
        }
        let Some(since) = self.reminder.over(now) else { return false };
        tracing::info!(kind = self.kind.name(), seconds = since.as_secs(), "watch re-established");
        true
    }

    /// The message for the status page.
    pub(super) fn why(&self, error: &RequestError) -> String {
        match Class::of(error) {
            Class::Away => format!("{} unreachable: {error}", self.server.address),
            _ => error.to_string(),
        }
    }
}

/// Whether to log a failure.
#[derive(Debug, PartialEq, Eq)]
enum LogDecision {
    Nothing,
    /// Log it, with the time since it began.
    Since(Duration),
}

/// The state of one failure.
#[derive(Debug, Default)]
struct Reminder {
    /// When it began, and its last kind.
    lasting: Option<(Instant, Class)>,
    said: Option<Instant>,
}

impl Reminder {
    /// Records a failure that another watch logs.
    fn start(&mut self, class: Class, now: Instant) {
        let (_, last) = self.lasting.get_or_insert((now, class));
        *last = class;
    }

    fn fail(&mut self, class: Class, now: Instant) -> LogDecision {
        let is_new = self.lasting.is_none_or(|(_, last)| last != class);
        let is_due = self.said.is_none_or(|said| now.saturating_duration_since(said) >= REMINDER);
        self.start(class, now);
        if !is_new && !is_due {
            return LogDecision::Nothing;
        }
        self.said = Some(now);
        let since = self.lasting.map_or(now, |(since, _)| since);
        LogDecision::Since(now.saturating_duration_since(since))
    }

    /// Ends the failure. Returns its duration, if there was one.
    fn over(&mut self, now: Instant) -> Option<Duration> {
        let (since, _) = self.lasting.take()?;
        self.said = None;
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> RequestError {
        RequestError::Refused(Box::new(Status { code, ..Status::default() }))
    }

    fn troubles() -> WatchFailures {
        WatchFailures::new(Kind::Service, ApiServer::new("http://127.0.0.1:1/".to_owned()))
    }

    #[test]
    fn watch_retries_have_backoff_until_success() {
        let mut troubles = troubles();
        let mut least = Duration::from_millis(800);
        for _ in 0..5 {
            // Jitter adds up to 100 %.
            let pause = troubles.failed(&refused(429));
            assert!((least..=least * 2).contains(&pause), "{pause:?}, not {least:?}");
            least *= 2;
        }
        for _ in 0..3 {
            assert!(troubles.failed(&refused(429)) <= LONGEST_PAUSE * 2);
        }
        assert!(troubles.over());
        assert!(!troubles.over());
        assert!(troubles.failed(&refused(429)) <= Duration::from_millis(1600));
    }

    /// A pause that grew in an outage would delay the first change after it.
    #[test]
    fn pauses_stay_short_while_the_server_is_away() {
        let away = [RequestError::Silent(Duration::ZERO), refused(502), refused(503), refused(504)];
        for error in away {
            let mut troubles = troubles();
            let pauses: Vec<Duration> = (0..40).map(|_| troubles.failed(&error)).collect();
            let range = Duration::from_millis(800)..=LONGEST_PAUSE_WHILE_AWAY;
            assert!(pauses.iter().all(|pause| range.contains(pause)), "{error}: {pauses:?}");
            // The response that ends the outage does not inherit the pauses.
            let pause = troubles.failed(&refused(429));
            assert!(pause <= Duration::from_millis(6400), "{pause:?}");
        }
    }

    #[test]
    fn watch_failure_is_logged_once_and_then_every_minute() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        let mut said = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            if let LogDecision::Since(since) = reminder.fail(Class::Away, now) {
                assert_eq!(since.as_secs(), second);
                said.push(second);
            }
        }
        assert_eq!(said, [0, 60, 120, 180]);
        let now = start + Duration::from_secs(200);
        // A different kind of failure is logged, with the time since the first failure.
        assert_eq!(
            reminder.fail(Class::Refused(503), now),
            LogDecision::Since(Duration::from_secs(200))
        );
        assert_eq!(reminder.fail(Class::Refused(503), now), LogDecision::Nothing);
        assert_eq!(reminder.over(now), Some(Duration::from_secs(200)));
        assert_eq!(reminder.over(now), None);
        assert_eq!(reminder.fail(Class::Refused(503), now), LogDecision::Since(Duration::ZERO));
    }

    /// Four watches fail together and are logged in one line.
    #[test]
    fn watch_outage_of_server_is_logged_once_for_all_kinds() {
        let server = ApiServer::new("http://127.0.0.1:1/".to_owned());
        let now = Instant::now();
        let said = Kind::ALL.map(|_| server.clone().away().fail(Class::Away, now));
        assert_eq!(said.iter().filter(|say| **say != LogDecision::Nothing).count(), 1);
    }
}
