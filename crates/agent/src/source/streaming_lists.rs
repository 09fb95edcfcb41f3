//! Whether a list is requested as a stream or in pages.

use std::time::{Duration, Instant};

use super::list_version::is_of_version;
use super::request::RequestError;

/// How long lists are requested in pages after a stream failed. A server without streaming lists may
/// be upgraded, and one that was only in trouble recovers.
const PAGED: Duration = Duration::from_secs(3600);

/// What the failures of streaming lists of one kind say about the next lists.
#[derive(Debug, Default)]
pub(super) struct StreamingLists {
    paged_until: Option<Instant>,
}

/// What follows a failed streaming list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStream {
    /// The same failure would meet a list in pages.
    Retry,
    /// This list is requested in pages.
    PagesNow,
    /// All lists are requested in pages for an hour.
    PagesFromNow,
}

impl StreamingLists {
    /// Whether the next list is requested as a stream.
    pub(super) fn are_used(&self, now: Instant) -> bool {
        self.paged_until.is_none_or(|until| until <= now)
    }

    /// Records a failure.
    pub(super) fn failed(&mut self, error: &RequestError, now: Instant) -> AfterStream {
        let next = after(error);
        if next == AfterStream::PagesFromNow {
            self.paged_until = now.checked_add(PAGED);
        }
        next
    }
}

fn after(error: &RequestError) -> AfterStream {
    match error {
        RequestError::Unreachable(_) => AfterStream::Retry,
        // A proxy that holds responses back until they are complete lets no stream pass.
        RequestError::Silent(_) => AfterStream::PagesFromNow,
        RequestError::Refused(status) => match status.code {
            // The version is too old or too new, or the server is overloaded.
            410 | 429 | 502 | 503 => AfterStream::Retry,
            504 if is_of_version(error) => AfterStream::Retry,
            // Servers without streaming lists answer with 400 or 422, those with an etcd that is too
            // old with 500, and a proxy that waits for the end of the response with 504.
            400 | 422 | 500 | 504 => AfterStream::PagesFromNow,
            _ => AfterStream::PagesNow,
        },
        RequestError::Wrong(_) => AfterStream::PagesFromNow,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::source::answer::WrongAnswer;

    fn refused(code: u16, cause: &str) -> RequestError {
        let causes = json!({"causes": [{"reason": cause}]});
        let status = json!({"code": code, "message": "refused", "details": causes});
        RequestError::Refused(Box::new(serde_json::from_value::<Status>(status).unwrap()))
    }

    #[test]
    fn streaming_list_failure_leads_to_pages_where_they_may_work() {
        for (error, next) in [
            (RequestError::Silent(Duration::from_secs(150)), AfterStream::PagesFromNow),
            (RequestError::Wrong(WrongAnswer::EndsEarly), AfterStream::PagesFromNow),
            (refused(400, ""), AfterStream::PagesFromNow),
            (refused(500, ""), AfterStream::PagesFromNow),
            (refused(504, ""), AfterStream::PagesFromNow),
            (refused(504, "ResourceVersionTooLarge"), AfterStream::Retry),
            (refused(410, ""), AfterStream::Retry),
            (refused(429, ""), AfterStream::Retry),
            (refused(403, ""), AfterStream::PagesNow),
            (refused(404, ""), AfterStream::PagesNow),
        ] {
            assert_eq!(after(&error), next, "{error}");
        }
    }

    #[test]
    fn streaming_lists_are_tried_again_after_an_hour() {
        let (mut lists, now) = (StreamingLists::default(), Instant::now());
        assert!(lists.are_used(now));
        lists.failed(&refused(403, ""), now);
        assert!(lists.are_used(now));
        lists.failed(&refused(422, ""), now);
        assert!(!lists.are_used(now + Duration::from_secs(3599)));
        assert!(lists.are_used(now + Duration::from_secs(3600)));
    }
}
